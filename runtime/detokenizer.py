"""Text of one sample, token by token: whole characters only, and stop strings found across token boundaries.

The scheme is the one of text-generation-inference and LightLLM: decode a short window of ids with and without
the new ones and hand out the difference, unless it ends inside a character.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from typing import Protocol

REPLACEMENT = "\ufffd"
"""What a decoder shows for bytes that are no whole UTF-8 character."""

MAX_PENDING = 16
"""Tokens held back before text is handed out although it ends in ``REPLACEMENT``: more than any one character takes."""

MAX_CONTEXT = 8
"""Tokens of such garbage that stay in the window; the last character, at most four tokens long, may still complete."""


class IdDecoder(Protocol):
    """The part of ``tokenizers.Tokenizer`` that is needed here."""

    def decode(self, ids: Sequence[int], skip_special_tokens: bool = True) -> str:
        """The text of ``ids``."""
        ...


class IncrementalDetokenizer:
    """Turns a growing list of ids into text whose pieces add up to the text of the whole list.

    Each ``push`` costs two decodes of a window that is bounded by ``MAX_PENDING`` ids, however long the output.

    Args:
        decoder: The tokenizer.
        context: The last ids of the prompt: what a leading space or a joined character depends on. Their text
            is never handed out.
        skip_special_tokens: Special tokens have no text.
    """

    __slots__ = ("_context_size", "_decoder", "_emitted", "_ids", "_skip_special")

    def __init__(self, decoder: IdDecoder, context: Sequence[int] = (), skip_special_tokens: bool = True) -> None:
        self._decoder = decoder
        self._skip_special = skip_special_tokens
        self._ids = self._whole_characters(list(context))
        self._context_size = len(self._ids)
        self._emitted = self._decode(self._ids)

    def push(self, token_id: int) -> str:
        """Take one id and return the text that is now complete, often all of the id's, sometimes none."""
        self._ids.append(token_id)
        text = self._decode(self._ids)
        if not text.endswith(REPLACEMENT):
            return self._emit(text)
        if self._pending > MAX_PENDING:
            self._drop_silent()
        return self._give_up_on_garbage(text) if self._pending > MAX_PENDING else ""

    def flush(self) -> str:
        """Return the text still held back, incomplete characters shown as ``REPLACEMENT``."""
        return self._emit(self._decode(self._ids)) if self._pending else ""

    @property
    def _pending(self) -> int:
        return len(self._ids) - self._context_size

    def _decode(self, ids: Sequence[int]) -> str:
        return self._decoder.decode(ids, skip_special_tokens=self._skip_special) if ids else ""

    def _whole_characters(self, ids: list[int]) -> list[int]:
        """Drop leading ids that continue a character cut off before them."""
        while ids and self._decode(ids).startswith(REPLACEMENT):
            del ids[0]
        return ids

    def _emit(self, text: str) -> str:
        """Hand out what ``text`` has over the emitted part and make the pending ids the new context."""
        delta = self._new_part(text)
        if delta:
            self._ids = self._ids[self._context_size :]
            self._context_size = len(self._ids)
            self._emitted = self._decode(self._ids)
        elif self._pending > MAX_PENDING:
            # Ids without text, such as skipped special ones: they are no context for anything.
            del self._ids[self._context_size :]
        return delta

    def _drop_silent(self) -> None:
        """Forget pending ids without text, such as skipped special ones: a character goes on behind them."""
        pending = self._ids[self._context_size :]
        self._ids[self._context_size :] = [token_id for token_id in pending if self._decode([token_id])]

    def _give_up_on_garbage(self, text: str) -> str:
        """Hand out all but the last, possibly unfinished, character of a long run of broken ones."""
        delta = self._new_part(text[: -len(REPLACEMENT)])
        self._ids = self._ids[-MAX_CONTEXT:]
        self._emitted = self._decode(self._ids).removesuffix(REPLACEMENT)
        self._context_size = len(self._ids)
        return delta

    def _new_part(self, text: str) -> str:
        if text.startswith(self._emitted):
            return text[len(self._emitted) :]
        # A prompt that ended inside a character which is whole now, or a decoder that rewrote text already handed
        # out (clean-up rules, broken byte runs): keep what is common.
        pairs = zip(text, self._emitted, strict=False)
        common = next((i for i, (a, b) in enumerate(pairs) if a != b), min(len(text), len(self._emitted)))
        return text[common:]


class StopStrings:
    """Finds any of some strings in text that arrives in pieces.

    Args:
        strings: What to look for; empty ones are ignored.
    """

    __slots__ = ("_keep", "_strings", "_tail")

    def __init__(self, strings: Iterable[str]) -> None:
        self._strings = tuple(s for s in strings if s)
        self._keep = max((len(s) for s in self._strings), default=1) - 1
        self._tail = ""

    def found_in(self, piece: str) -> bool:
        """Take the next piece and say whether one of the strings ends in it."""
        if not self._strings or not piece:
            return False
        text = self._tail + piece
        if any(s in text for s in self._strings):
            return True
        self._tail = text[-self._keep :] if self._keep else ""
        return False


class SampleText:
    """Text assembly of one sample: detokenizing, EOS suppression and stop strings.

    Args:
        decoder: The tokenizer.
        context: The last ids of the prompt.
        eos_token_ids: Ids whose text is empty unless ``print_eos_token``.
        stop_strings: Strings that end the sample once they are in its text; they stay in the text.
        skip_special_tokens: Special tokens have no text.
        print_eos_token: Show the text of EOS.
        taken_back: The prompt's ids after ``context``. The sample begins by spelling them, in whatever ids; that text
            is not handed out.
    """

    __slots__ = ("_detokenizer", "_silent", "_stops", "_unsaid", "stopped")

    def __init__(
        self,
        decoder: IdDecoder,
        context: Sequence[int],
        *,
        eos_token_ids: Collection[int] = (),
        stop_strings: Sequence[str] = (),
        skip_special_tokens: bool = True,
        print_eos_token: bool = False,
        taken_back: Sequence[int] = (),
    ) -> None:
        self._detokenizer = IncrementalDetokenizer(decoder, context, skip_special_tokens)
        before = IncrementalDetokenizer(decoder, context, skip_special_tokens)
        self._unsaid = sum(len(before.push(token_id)) for token_id in taken_back)
        self._silent: Collection[int] = () if print_eos_token else eos_token_ids
        self._stops = StopStrings(stop_strings)
        self.stopped = False

    def push(self, token_id: int, last: bool) -> str:
        """Text to hand out with ``token_id``; sets ``stopped`` when a stop string is now in the text.

        Args:
            token_id: The sampled id.
            last: The sample ends with this id, so held-back text goes out with it.
        """
        piece = self._say("" if token_id in self._silent else self._detokenizer.push(token_id))
        self.stopped = self._stops.found_in(piece)
        if last or self.stopped:
            rest = self._say(self._detokenizer.flush())
            self.stopped = self.stopped or self._stops.found_in(rest)
            piece += rest
        return piece

    def _say(self, text: str) -> str:
        """What of ``text`` is not the prompt's end."""
        unsaid = min(self._unsaid, len(text))
        self._unsaid -= unsaid
        return text[unsaid:]
