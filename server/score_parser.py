"""The door of ``/get_score``: from the bytes of a body to requests that a reward engine can run."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from runtime.bundle.architecture import ScoreHead
from runtime.limits import EngineLimits
from runtime.request import SamplingParams
from server.chat_template import ChatTemplate
from server.errors import InvalidRequestError
from server.sampling_rules import check_token_ids
from server.score_body import FIELD, Chat, Messages, name_of, parse_chats
from server.tasks import all_of
from server.tokenizer import TextCodec
from server.validation import TruncationMode, ValidRequest, check_task, cut_prompt

NEW_TOKENS = 1
"""What a score takes of the limit beside its chat, as in LightLLM, where it is a generation of one token."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoreParser:
    """Everything that decides whether chats can be scored.

    Attributes:
        limits: Gives the engine's limits of the moment.
        template: Renders messages.
        head: The model's, for its marker and its padding.
        truncation: What to do with a chat that is too long; ``None`` refuses it.
        on_request: Called once a chat is tokenized, before its length is checked.
    """

    codec: TextCodec
    limits: Callable[[], EngineLimits]
    template: ChatTemplate
    head: ScoreHead = field(default_factory=ScoreHead)
    truncation: TruncationMode | None = None
    on_request: Callable[[], None] = lambda: None

    async def parse(self, body: bytes) -> tuple[list[ValidRequest], bool]:
        """Parse a body.

        Returns:
            One request for each chat, and whether the answer has lists.

        Raises:
            InvalidRequestError: Anything is wrong with it, or the model gives no scores.
            UnavailableError: No engine has been reached yet, or too many chats are being rendered.
        """
        chats, listed = parse_chats(body)
        limits = self.limits()
        check_task(limits, scores=True)
        names = (name_of(index, listed) for index in range(len(chats)))
        return await all_of(map(self._request, chats, names, [limits] * len(chats))), listed

    async def _request(self, chat: Chat, name: str, limits: EngineLimits) -> ValidRequest:
        ids = without_padding(await self._tokens(chat, name, limits.vocab_size), self.head.pad_token_id)
        if not ids:
            raise InvalidRequestError(f"{name}: the chat has no tokens", "empty_prompt", FIELD)
        self.on_request()
        keep = limits.max_request_tokens - NEW_TOKENS
        if len(ids) > keep:
            if self.truncation is None or keep < 1:
                raise InvalidRequestError(
                    f"{name} of {len(ids)} tokens exceeds the limit of {keep} tokens a chat", "too_long", FIELD
                )
            ids = cut_prompt(ids, keep, self.truncation)
        return ValidRequest(prompt=ids, sampling=SamplingParams(max_new_tokens=NEW_TOKENS))

    async def _tokens(self, chat: Chat, name: str, vocab_size: int) -> list[int]:
        if isinstance(chat, str):
            return await self.codec.encode(chat, add_special_tokens=True)
        if isinstance(chat, Messages):
            text = await self.template.render(chat.items, name=name)
            # NOTE: templates write the special tokens themselves; what they leave out, the model was trained without.
            return with_marker(await self.codec.encode(text, add_special_tokens=False), self.head.marker_token_id)
        check_token_ids(chat, name, vocab_size)
        return chat


def with_marker(ids: list[int], marker: int) -> list[int]:
    """``ids`` with the model's marker at their end, unless it is there already or there is none (-1)."""
    return ids if marker < 0 or ids[-1:] == [marker] else [*ids, marker]


def without_padding(ids: list[int], padding: int) -> list[int]:
    """``ids`` without trailing ones of ``padding``, but never without the first."""
    end = len(ids)
    while end > 1 and ids[end - 1] == padding:
        end -= 1
    return ids[:end]
