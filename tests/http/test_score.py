"""``/get_score`` in process, on a scripted reward engine."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from asgi_driver import Answer, Client
from fake_engine import REWARD_LIMITS, FakeEngine, score
from toy_manifest import MARKER, PADDING, write_reward_manifest
from toy_tokenizer import EOS_ID, byte_id, toy_tokenizer

from runtime.messages import Rejected, RejectReason

Test = Callable[[Client], Awaitable[None]]
Serve = Callable[..., None]

USER = [{"role": "user", "content": "hi"}]
HALF_PRECISION = 501 / 1024


@pytest.fixture
def reward(serve: Serve, engine: FakeEngine) -> Serve:
    """``serve`` with a reward engine, whose score is a thousandth of the prompt's length, and its bundle."""
    engine.limits = REWARD_LIMITS
    engine.script = score(lambda prompt: len(prompt) / 1000)
    return lambda test, **options: serve(test, **({"prepare": write_reward_manifest} | options))


async def ask(client: Client, chat: Any, **others: Any) -> Answer:
    return await client.request("POST", "/get_score", {"chat": chat, **others})


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until ``condition`` holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is not this loop's
            await asyncio.sleep(0.001)


@pytest.mark.parametrize("parameters", [{}, {"frequency_penalty": 1}, {"temperature": "hot", "best_of": 99}, None, 7])
def test_an_answer_has_three_keys(reward: Serve, engine: FakeEngine, parameters: Any) -> None:
    engine.script = score(lambda _: HALF_PRECISION)

    async def test(client: Client) -> None:
        answer = await ask(client, "hi", parameters=parameters)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.body == b'{"score":0.4892578125,"prompt_tokens":2,"finish_reason":"stop"}'

    reward(test)
    assert engine.added[0].prompt == [byte_id(ord("h")), byte_id(ord("i"))]
    assert (engine.added[0].sampling.max_new_tokens, engine.added[0].samples) == (1, 1)


@pytest.mark.parametrize(("value", "text"), [(3.0, b"3.0"), (-1e-30, b"-1e-30"), (0.10000000149011612, None)])
def test_scores_are_numbers_as_wide_as_the_model_gives_them(
    reward: Serve, engine: FakeEngine, value: float, text: bytes | None
) -> None:
    engine.script = score(lambda _: value)

    async def test(client: Client) -> None:
        assert b'"score":' + (text or repr(value).encode()) + b"," in (await ask(client, "hi")).body

    reward(test)


def test_messages_are_rendered_and_marked(reward: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        answer = await ask(client, USER)
        assert (answer.status, answer.json["prompt_tokens"]) == (200, len(engine.added[0].prompt))

    reward(test)
    bos, *text, marker = engine.added[0].prompt
    assert (bos, marker) == (EOS_ID, MARKER)
    assert toy_tokenizer().decode(text) == "<|im_start|>user\nhi<|im_end|>\n"


@pytest.mark.parametrize(
    ("chat", "tokens"),
    [
        (["a", "bcd"], [1, 3]),
        (["a"], [1]),
        ([[5, 6], [7], [8, PADDING, PADDING]], [2, 1, 1]),
        ([str(i) * (i + 1) for i in range(10)] * 12 + ["x"] * 8, [*range(1, 11)] * 12 + [1] * 8),
    ],
    ids=["texts", "one", "ids", "128"],
)
def test_several_chats_have_lists_in_their_order(
    reward: Serve, engine: FakeEngine, chat: list[Any], tokens: list[int]
) -> None:
    async def test(client: Client) -> None:
        assert (await ask(client, chat)).json == {
            "score": [n / 1000 for n in tokens],
            "prompt_tokens": tokens,
            "finish_reason": "stop",
        }

    reward(test)
    assert len(engine.added) == len(chat)


def test_several_chats_of_messages_are_marked_one_by_one(reward: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        answer = (await ask(client, [USER, [*USER, {"role": "assistant", "content": "ho"}]])).json
        assert answer["score"] == [n / 1000 for n in answer["prompt_tokens"]]
        assert answer["prompt_tokens"][0] < answer["prompt_tokens"][1]

    reward(test)
    assert [add.prompt[-1] for add in engine.added] == [MARKER, MARKER]


def test_all_chats_are_in_the_engine_before_the_first_is_scored(reward: Serve, engine: FakeEngine) -> None:
    engine.paused.set()

    async def test(client: Client) -> None:
        exchange = client.open("POST", "/get_score", {"chat": ["a"] * 20})
        await asyncio.to_thread(engine.wait, lambda: len(engine.added) == 20)
        engine.paused.clear()
        await exchange.start()
        assert exchange.status == 200
        await exchange.chunks()

    reward(test)


def test_many_calls_at_once_keep_their_scores_apart(reward: Serve) -> None:
    async def test(client: Client) -> None:
        answers = await asyncio.gather(*(ask(client, "x" * n) for n in range(1, 65)))
        assert [answer.json["score"] for answer in answers] == [n / 1000 for n in range(1, 65)]

    reward(test)


@pytest.mark.parametrize(
    ("body", "names"),
    [
        (b"", "JSON"),
        (b"{}", "'chat'"),
        ({"chat": None}, "chat"),
        ({"chat": []}, "chat"),
        ({"chat": ["a", 1]}, "chat[1]"),
        ({"chat": [262]}, "262"),
        ({"chat": ""}, "no tokens"),
        ({"chat": "x" * 256}, "256 tokens exceeds the limit of 255"),
        ({"chat": ["a"] * 129}, "128"),
        ({"chat": [{"role": "user"}]}, "content"),
        ({"chat": "a", "multimodal_params": {"audios": [{}]}}, "text only"),
    ],
)
def test_wrong_bodies_are_417(reward: Serve, engine: FakeEngine, body: Any, names: str) -> None:
    async def test(client: Client) -> None:
        answer = await client.request("POST", "/get_score", body)
        assert (answer.status, set(answer.json)) == (417, {"message", "error_code", "param"})
        assert names in answer.json["message"]

    reward(test)
    assert engine.added == []


def test_the_longest_chat_fits_and_longer_ones_can_be_cut(reward: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        assert (await ask(client, "x" * 255)).json["prompt_tokens"] == 255

    reward(test)

    async def test_cut(client: Client) -> None:
        assert (await ask(client, [1 + i % 250 for i in range(300)])).json["prompt_tokens"] == 255

    reward(test_cut, truncation="head")
    assert engine.added[-1].prompt[-1] == 1 + 299 % 250


def test_a_chat_that_the_template_refuses_is_417(reward: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await ask(client, [USER, USER])
        assert (answer.status, answer.json["error_code"]) == (417, "chat_template")
        assert answer.json["message"] == "chat[0]: the chat template refuses it: no user here"

    reward(test, prepare=lambda bundle: write_reward_manifest(bundle, "{{ raise_exception('no user here') }}"))


def test_messages_need_a_template(reward: Serve) -> None:
    async def test(client: Client) -> None:
        assert "send the chat as one text" in (await ask(client, USER)).json["message"]
        assert (await ask(client, "hi")).status == 200

    reward(test, prepare=lambda bundle: write_reward_manifest(bundle, None))
    reward(test, prepare=lambda _: None)


@pytest.mark.parametrize(
    ("reason", "status", "retry"),
    [(RejectReason.QUEUE_FULL, 503, "7"), (RejectReason.DRAINING, 503, "7"), (RejectReason.INVALID, 417, None)],
)
def test_refusals_of_the_engine_have_their_status(
    reward: Serve, engine: FakeEngine, reason: RejectReason, status: int, retry: str | None
) -> None:
    engine.reject = lambda add: Rejected(add.request_id, reason, "no room", 7)

    async def test(client: Client) -> None:
        answer = await ask(client, ["a", "b"])
        assert (answer.status, answer.headers.get("retry-after")) == (status, retry)
        assert answer.json["message"] == "no room"

    reward(test)


@pytest.mark.parametrize("value", [None, float("nan"), float("inf")])
def test_a_failed_score_is_unavailable(reward: Serve, engine: FakeEngine, value: float | None) -> None:
    engine.script = score(lambda _: value)

    async def test(client: Client) -> None:
        answer = await ask(client, "a")
        assert (answer.status, answer.headers["retry-after"]) == (503, "1")
        assert "score" in answer.json["message"]

    reward(test)


def test_one_failure_fails_the_call_and_frees_the_others(reward: Serve, engine: FakeEngine) -> None:
    engine.paused.set()

    async def test(client: Client) -> None:
        running = client.open("POST", "/get_score", {"chat": ["a", "b", "c"]})
        await asyncio.to_thread(engine.wait, lambda: len(engine.added) == 3)
        engine.script = score(lambda _: None)
        engine.held = lambda add: add.prompt != [byte_id(ord("b"))]
        engine.paused.clear()
        await running.start()
        assert running.status == 503
        await running.chunks()
        await asyncio.to_thread(engine.wait, lambda: len(engine.aborted) == 2)
        assert client.app.services().client.open_requests == 0

    reward(test)
    assert {abort.request_id for abort in engine.aborted} == {1, 3}


@pytest.mark.parametrize("chat", ["hi", ["a", "b", "c"]])
def test_a_disconnect_aborts_every_score(reward: Serve, engine: FakeEngine, chat: Any) -> None:
    engine.paused.set()
    count = 1 if isinstance(chat, str) else len(chat)

    async def test(client: Client) -> None:
        exchange = client.open("POST", "/get_score", {"chat": chat})
        await until(lambda: len(engine.added) == count)
        exchange.disconnect()
        await exchange.task
        await asyncio.to_thread(engine.wait, lambda: len(engine.aborted) == count)
        assert client.app.services().client.open_requests == 0

    reward(test)


def test_engine_death_fails_scores(reward: Serve, engine: FakeEngine) -> None:
    engine.paused.set()

    async def test(client: Client) -> None:
        exchange = client.open("POST", "/get_score", {"chat": ["a", "b"]})
        await until(lambda: len(engine.added) == 2)
        await asyncio.to_thread(engine.stop)
        await exchange.start()
        assert (exchange.status, exchange.headers["retry-after"]) == (503, "5")
        await exchange.chunks()
        assert (await ask(client, "a")).status == 503

    reward(test)


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/"])
def test_a_reward_server_says_where_scores_are(reward: Serve, path: str) -> None:
    async def test(client: Client) -> None:
        answer = await client.generate(path)
        assert (answer.status, answer.json["error_code"]) == (417, "unsupported")
        assert answer.json["message"] == "this server's model is a reward model: it gives scores, call /get_score"
        assert (await client.request("POST", "/tokens", {"text": "hi"})).json == {"ntokens": 2}

    reward(test)


def test_metrics_count_scores_without_tokens(reward: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        await ask(client, "abc")
        await ask(client, ["a", "b"])
        await ask(client, "")
        text = (await client.request("GET", "/metrics")).body.decode()
        for line in (
            "lightllm_request_count_total 3.0",
            "lightllm_request_success_total 3.0",
            "lightllm_request_failure_total 1.0",
            "lightllm_request_validation_duration_count 2.0",
            "lightllm_request_input_length_sum 5.0",
            "lightllm_request_generated_tokens_sum 0.0",
            "lightllm_request_first_token_duration_count 3.0",
            "lightllm_request_mean_time_per_token_duration_count 0.0",
            'vllm:request_success_total{finished_reason="stop",model_name="default_model_name"} 3.0',
        ):
            assert line in text.splitlines()

    reward(test)


def test_logs_tell_of_scores_without_their_chats(
    reward: Serve, engine: FakeEngine, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    async def test(client: Client) -> None:
        await client.request("POST", "/get_score", {"chat": ["hush", "hus"]}, {"X-Request-Id": "ticket-7"})
        engine.script = score(lambda _: None)
        await ask(client, "hush")

    reward(test)
    assert "prompt_tokens=4 output_tokens=0 finish=stop" in caplog.text
    assert "prompt_tokens=3 output_tokens=0 finish=stop" in caplog.text
    assert "prompt_tokens=4 output_tokens=0 finish=error" in caplog.text
    assert "hush" not in caplog.text
