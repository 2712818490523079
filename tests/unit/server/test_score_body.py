"""Bodies of ``/get_score``: every form of a chat, and what is none."""

from __future__ import annotations

import json
from typing import Any

import pytest

from server.errors import InvalidRequestError
from server.score_body import MAX_CHATS, Chat, Messages, parse_chats

USER = {"role": "user", "content": "hi"}


def parse(chat: Any, **others: Any) -> tuple[list[Chat], bool]:
    return parse_chats(json.dumps({"chat": chat, **others}).encode())


def refusal(body: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        parse_chats(body if isinstance(body, bytes) else json.dumps(body).encode())
    return caught.value


@pytest.mark.parametrize(
    ("chat", "chats", "listed"),
    [
        ("hi", ["hi"], False),
        ("", [""], False),
        ([5, 6], [[5, 6]], False),
        (["a", "b"], ["a", "b"], True),
        (["a"], ["a"], True),
        ([[5], [6, 7]], [[5], [6, 7]], True),
        ([[], [6]], [[], [6]], True),
        ([USER], [Messages([USER])], False),
        ([[USER], [USER, USER]], [Messages([USER]), Messages([USER, USER])], True),
        (["a"] * MAX_CHATS, ["a"] * MAX_CHATS, True),
        ([5] * (MAX_CHATS + 1), [[5] * (MAX_CHATS + 1)], False),
        ([USER] * (MAX_CHATS + 1), [Messages([USER] * (MAX_CHATS + 1))], False),
    ],
)
def test_a_chat_has_many_forms(chat: Any, chats: list[Chat], listed: bool) -> None:
    assert parse(chat) == (chats, listed)


@pytest.mark.parametrize("parameters", [None, 7, "x", [], {"temperature": "hot", "max_new_tokens": -3}])
def test_parameters_are_never_read(parameters: Any) -> None:
    assert parse("hi", parameters=parameters) == (["hi"], False)


@pytest.mark.parametrize("params", [{}, {"images": []}, {"images": [], "audios": []}])
def test_empty_attachments_are_fine(params: Any) -> None:
    assert parse("hi", multimodal_params=params) == (["hi"], False)


@pytest.mark.parametrize(
    "chat",
    [
        *(None, 3, 1.5, True, {}, USER, [], [True], [1.5], [None], [-1], [2**31]),
        *([1, "a"], ["a", 1], ["a", [1]], [[1], "a"], [[1], [USER]], [[USER], [1]], [USER, "a"], [[USER], []]),
        *([["a"]], [[[1]]], ["a"] * (MAX_CHATS + 1), [[1]] * (MAX_CHATS + 1), [[USER]] * (MAX_CHATS + 1)),
    ],
    ids=lambda chat: json.dumps(chat)[:40],
)
def test_what_is_no_chat_is_refused_by_name(chat: Any) -> None:
    error = refusal({"chat": chat})
    assert error.param == "chat"
    assert "chat" in error.message


@pytest.mark.parametrize(
    "message",
    [
        *({}, {"content": "hi"}, {"role": "user"}, {"role": 1, "content": "hi"}, {"role": "user", "content": None}),
        *({"role": "user", "content": content} for content in (3, {}, [], ["hi"], [{"type": "text"}])),
        {"role": "user", "content": [{"type": "text", "text": None}]},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "image_url", "image_url": {"url": "b"}}]},
    ],
    ids=json.dumps,
)
def test_messages_need_a_role_and_text(message: Any) -> None:
    assert refusal({"chat": [USER, message]}).message.startswith("chat[1]")
    assert refusal({"chat": [[USER], [USER, message]]}).message.startswith("chat[1][1]")


def test_parts_become_one_text_and_other_keys_stay() -> None:
    parts = [{"type": "text", "text": "a"}, {"type": "text", "text": "b", "cache_control": {}}]
    chats, _ = parse([{"role": "user", "content": parts, "name": "Ada"}])
    assert chats == [Messages([{"role": "user", "content": "a\nb", "name": "Ada"}])]


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"", "JSON"),
        (b"[]", "body"),
        (b'{"chat":"a"', "JSON"),
        (b'{"chat":"\xff"}', "JSON"),
        (b"{}", "'chat' is required"),
        (b'{"chat":' + b"[" * 100_000 + b"]" * 100_000 + b"}", "nested"),
        ({"chat": "a", "multimodal_params": None}, "multimodal_params"),
        ({"chat": "a", "multimodal_params": {"videos": []}}, "multimodal_params"),
        ({"chat": "a", "multimodal_params": {"images": [{"type": "url", "data": "x"}]}}, "text only"),
        ({"chat": ["a"] * 129}, "at most 128 chats, not 129"),
        ({"chat": ["a", 1]}, "chat[1]"),
        ({"chat": [[1], [2, "a"]]}, "chat[1][1]"),
        ({"chat": []}, "empty"),
    ],
)
def test_mistakes_are_named(body: Any, names: str) -> None:
    assert names in refusal(body).message
