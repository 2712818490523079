"""What a model says, however hostile: calls of tools taken out of text, and text put together from ids."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from fuzz.choices import Choices
from tokenizers import Tokenizer
from toy_tokenizer import EOS_ID, VOCAB_SIZE, toy_tokenizer

from runtime.detokenizer import REPLACEMENT, IncrementalDetokenizer, SampleText
from server.openai.tool_parsers.events import Arguments, CallBegin, CallEnd, Content, ToolParser
from server.openai.tool_parsers.hermes import HermesParser
from server.openai.tool_parsers.llama3 import Llama3Parser
from server.openai.tool_parsers.mistral import MistralParser

PARSERS: tuple[Callable[[], ToolParser], ...] = (HermesParser, lambda: Llama3Parser({"f", "g"}), MistralParser)
PIECES = (
    *("<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<tool", "[TOOL_"),
    *('{"name": "f", "arguments": {', '{"name": "g", "parameters": ', '"name"', '"f"', ":", ",", "{", "}", "[", "]"),
    *('"', "\\", '\\"', " ", "\n", ";", "1", "null", "f", "é", "🦅", "\x00", "}}", '"x": ', "{}", "<", "[", "|"),
)


@cache
def decoder() -> Tokenizer:
    """Byte-level, so that ids need not be whole characters."""
    return toy_tokenizer()


def one_input(data: bytes) -> None:
    """Read one output."""
    choices = Choices(data)
    (calls, calls, detokenize)[choices.byte() % 3](choices)


def calls(choices: Choices) -> None:
    """The same calls come out however the text is cut, and nothing but marks and blanks is lost."""
    parser = choices.pick(PARSERS)
    cuts = choices.take(8)
    text = "".join(
        choices.pick(PIECES) if choices.byte() & 7 else choices.take(6).decode("utf-8", "replace")
        for _ in range(choices.byte() % 24)
    )
    whole = said(parser(), [text])
    pieces, place = [], 0
    for cut in cuts:
        pieces.append(text[place : place + cut])
        place += cut
    assert said(parser(), [*pieces, text[place:]]) == whole, (text, cuts)
    assert sum(map(len, whole)) <= len(text) + 16 * len(whole)


def said(parser: ToolParser, pieces: list[str]) -> list[str]:
    """What the parser makes of the pieces, neighbouring ones of a kind joined."""
    joined: list[str] = []
    kind: type | None = None
    events = [event for piece in pieces for event in parser.push(piece)]
    for event in [*events, *parser.finish()]:
        match event:
            case Content(text) | Arguments(text):
                if kind is type(event):
                    joined[-1] += text
                else:
                    joined.append(text)
            case CallBegin(name):
                joined.append(f"call {name}")
            case CallEnd():
                joined.append("end")
        kind = type(event)
    return joined


def detokenize(choices: Choices) -> None:
    """Pieces of text add up to the text of all ids, as far as those are characters."""
    tokenizer = decoder()
    context = [choices.below(VOCAB_SIZE) for _ in range(choices.byte() % 5)]
    stops = [choices.text() for _ in range(choices.byte() % 3)]
    taken = [choices.below(VOCAB_SIZE) for _ in range(choices.byte() % 3)]
    ids = [choices.below(VOCAB_SIZE) for _ in range(choices.byte() % 64)]
    plain = IncrementalDetokenizer(tokenizer, [])
    text = "".join(map(plain.push, ids)) + plain.flush()
    whole = tokenizer.decode(ids, skip_special_tokens=True)
    if REPLACEMENT not in whole:
        assert text == whole, ids
    sample = SampleText(tokenizer, context, eos_token_ids=(EOS_ID,), stop_strings=stops, taken_back=taken)
    out = ""
    for place, token in enumerate(ids):
        out += sample.push(token, last=place == len(ids) - 1)
        if sample.stopped:
            break
    assert len(out) <= 4 * (len(ids) + len(taken)) + 64
    assert not sample.stopped or any(stop and stop in out for stop in stops)
    out.encode()


SEEDS = [
    b"\0\0\2\2\2\2\2\2\2\2\7\1\0\1\10",
    b"\0\1\1\1\1\1\1\1\1\1\20\1\11",
    b"\2\1\77\0\0\10\1\2\3\4\5",
    b"\0\2" + bytes(40),
]
