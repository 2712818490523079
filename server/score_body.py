"""Bodies of ``/get_score``: LightLLM's, and those that hold messages or several chats."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import msgspec
from msgspec import Meta

from server.chat_messages import plain_messages
from server.chat_template import Message
from server.errors import InvalidRequestError
from server.parameters import MultimodalParams, TokenIds, decode
from server.validation import refuse_attachments

MAX_CHATS = 128
"""Chats in one call."""

FIELD = "chat"


@dataclass(frozen=True, slots=True)
class Messages:
    """A chat that is yet to be rendered."""

    items: list[Message]


Chat = str | list[int] | Messages
"""A formatted text, its token ids, or messages."""


AnyChat = Annotated[
    str | list[Any],
    Meta(description="A text, token ids or messages; or a list of texts, of lists of ids or of lists of messages."),
]


class ScoreBody(msgspec.Struct, kw_only=True):
    """Body of ``/get_score``: what every one has. ``parameters`` is never read."""

    chat: AnyChat
    multimodal_params: MultimodalParams = msgspec.field(default_factory=MultimodalParams)


class _Ids(msgspec.Struct):
    chat: TokenIds


class _Texts(msgspec.Struct):
    chat: list[str]


class _IdLists(msgspec.Struct):
    chat: list[TokenIds]


class _Messages(msgspec.Struct):
    chat: list[dict[str, Any]]


class _MessageLists(msgspec.Struct):
    chat: list[list[dict[str, Any]]]


_BODY = msgspec.json.Decoder(ScoreBody)
_IDS = msgspec.json.Decoder(_Ids)
_TEXTS = msgspec.json.Decoder(_Texts)
_ID_LISTS = msgspec.json.Decoder(_IdLists)
_MESSAGES = msgspec.json.Decoder(_Messages)
_MESSAGE_LISTS = msgspec.json.Decoder(_MessageLists)


def parse_chats(body: bytes) -> tuple[list[Chat], bool]:
    """Take a body apart. The first element of a list decides what all of them have to be.

    Returns:
        The chats, at least one, and whether the answer has lists.

    Raises:
        InvalidRequestError: It is not valid JSON, has no usable ``chat``, has attachments or too many chats.
    """
    parsed = decode(_BODY, body)
    refuse_attachments(parsed.multimodal_params)
    chat = parsed.chat
    if isinstance(chat, str):
        return [chat], False
    _check_count(chat)
    match chat:
        case [str(), *_]:
            return [*decode(_TEXTS, body).chat], True
        case [dict(), *_]:
            return [Messages(plain_messages(decode(_MESSAGES, body).chat, FIELD))], False
        case [[dict(), *_], *_]:
            lists = decode(_MESSAGE_LISTS, body).chat
            return [_messages(messages, name_of(index, True)) for index, messages in enumerate(lists)], True
        case [list(), *_]:
            return [*decode(_ID_LISTS, body).chat], True
        case _:
            return [decode(_IDS, body).chat], False


def name_of(index: int, listed: bool) -> str:
    """What messages call a chat."""
    return f"{FIELD}[{index}]" if listed else FIELD


def _messages(messages: list[dict[str, Any]], name: str) -> Messages:
    if not messages:
        raise InvalidRequestError(f"{name}: the chat has no messages", "empty_prompt", FIELD)
    return Messages(plain_messages(messages, name))


def _check_count(chat: list[Any]) -> None:
    if not chat:
        raise InvalidRequestError(f"{FIELD}: the list is empty", "empty_prompt", FIELD)
    if isinstance(chat[0], str | list) and len(chat) > MAX_CHATS:
        raise InvalidRequestError(f"{FIELD} may have at most {MAX_CHATS} chats, not {len(chat)}", param=FIELD)
