"""What of a chat reaches a reward engine."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import msgspec
import pytest
from toy_manifest import CHATML, MARKER, PADDING
from toy_tokenizer import EOS_ID, VOCAB_SIZE, toy_tokenizer

from runtime.bundle.architecture import ScoreHead
from runtime.limits import EngineLimits
from server.chat_template import ChatTemplate
from server.errors import InvalidRequestError
from server.score_parser import ScoreParser, with_marker, without_padding
from server.tokenizer import TextCodec
from server.validation import RequestParser, ValidRequest

LIMITS = EngineLimits(
    max_request_tokens=16,
    max_total_tokens=4096,
    max_running=16,
    max_queued=64,
    max_step_tokens=256,
    block_size=16,
    vocab_size=VOCAB_SIZE,
    eos_token_ids=(EOS_ID,),
    scores=True,
)
CODEC = TextCodec(toy_tokenizer())
HEAD = ScoreHead(marker_token_id=MARKER, pad_token_id=PADDING)
TEMPLATE = ChatTemplate("{% for message in messages %}{{ message.content }}{% endfor %}")
IDS = [*range(20, 40)]


def bytes_of(text: str) -> list[int]:
    return [byte + 1 for byte in text.encode()]


def parser(**changes: Any) -> ScoreParser:
    values: dict[str, Any] = {"codec": CODEC, "limits": lambda: LIMITS, "template": TEMPLATE, "head": HEAD}
    return ScoreParser(**(values | changes))


def parse(chat: Any, **changes: Any) -> list[ValidRequest]:
    requests, _ = asyncio.run(parser(**changes).parse(json.dumps({"chat": chat}).encode()))
    return requests


def prompts(chat: Any, **changes: Any) -> list[list[int]]:
    return [request.prompt for request in parse(chat, **changes)]


def refusal(chat: Any, **changes: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        parse(chat, **changes)
    return caught.value


def user(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


@pytest.mark.parametrize(
    ("chat", "expected"),
    [
        ("ab", [bytes_of("ab")]),
        ([5, 6], [[5, 6]]),
        (["ab", "c"], [bytes_of("ab"), bytes_of("c")]),
        ([[5], [6, 7]], [[5], [6, 7]]),
        (user("ab"), [[*bytes_of("ab"), MARKER]]),
        ([user("ab"), user("c")], [[*bytes_of("ab"), MARKER], [*bytes_of("c"), MARKER]]),
        ([5, PADDING, PADDING], [[5]]),
        ([PADDING, PADDING], [[PADDING]]),
        ([PADDING, 5], [[PADDING, 5]]),
    ],
)
def test_chats_become_token_ids(chat: Any, expected: list[list[int]]) -> None:
    assert prompts(chat) == expected


def test_only_rendered_chats_get_the_marker_and_only_where_the_model_has_one() -> None:
    assert prompts(user("ab"), head=ScoreHead()) == [bytes_of("ab")]
    assert with_marker([5, MARKER], MARKER) == [5, MARKER]


def test_padding_that_the_model_does_not_have_is_not_cut() -> None:
    assert without_padding([5, -1, 5], -1) == [5, -1, 5]
    assert prompts([5, PADDING], head=ScoreHead()) == [[5, PADDING]]


def test_templates_write_special_tokens_themselves() -> None:
    roomy = msgspec.structs.replace(LIMITS, max_request_tokens=99)
    (prompt,) = prompts(user(""), template=ChatTemplate(CHATML, {"bos_token": "<eos>"}), limits=lambda: roomy)
    assert (prompt[0], prompt.count(EOS_ID)) == (EOS_ID, 1)


def test_a_score_takes_its_chat_and_one_token() -> None:
    assert parse(IDS[:15])[0].sampling.max_new_tokens == 1
    error = refusal(IDS[:16])
    assert (error.error_code, error.param) == ("too_long", "chat")
    assert error.message == "chat of 16 tokens exceeds the limit of 15 tokens a chat"
    assert refusal([IDS[:2], IDS]).message.startswith("chat[1] of 20 tokens")


def test_too_long_chats_are_cut_where_the_server_says_so() -> None:
    assert prompts(IDS, truncation="head") == [IDS[-15:]]
    assert prompts(IDS, truncation="center") == [IDS[:7] + IDS[-8:]]
    assert prompts(user("x" * 30), truncation="head") == [[*bytes_of("x" * 14), MARKER]]


def test_padding_does_not_count_towards_the_limit() -> None:
    assert prompts([5, *[PADDING] * 40]) == [[5]]


@pytest.mark.parametrize(
    ("chat", "names"),
    [
        ("", "chat: the chat has no tokens"),
        (["a", ""], "chat[1]: the chat has no tokens"),
        ([[1], []], "chat[1]: the chat has no tokens"),
        ([VOCAB_SIZE], f"chat: token id {VOCAB_SIZE} is not below"),
        ([[1], [VOCAB_SIZE]], f"chat[1]: token id {VOCAB_SIZE} is not below"),
    ],
)
def test_mistakes_name_the_chat(chat: Any, names: str) -> None:
    error = refusal(chat)
    assert error.message.startswith(names)
    assert error.param == "chat"


def test_requests_are_counted_once_their_tokens_are_known() -> None:
    counted: list[None] = []
    parse(["a", "b"], on_request=lambda: counted.append(None))
    assert len(counted) == 2
    refusal(IDS, on_request=lambda: counted.append(None))
    assert len(counted) == 3


def test_a_model_that_generates_has_no_scores_and_the_other_way_round() -> None:
    error = refusal("a", limits=lambda: msgspec.structs.replace(LIMITS, scores=False))
    assert (error.error_code, "reward model" in error.message) == ("unsupported", True)
    with pytest.raises(InvalidRequestError, match="call /get_score") as caught:
        asyncio.run(RequestParser(codec=CODEC, limits=lambda: LIMITS).generate(b'{"inputs":"a","parameters":{}}'))
    assert caught.value.error_code == "unsupported"
