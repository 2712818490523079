"""What goes wrong on ``/v1``, in OpenAI's shape; and clients that leave."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from asgi_driver import Client
from fake_engine import REWARD_LIMITS, FakeEngine
from msgspec.structs import replace
from openai_calls import chat, complete, with_template
from toy_tokenizer import byte_id

from runtime.messages import AddRequest, Rejected, RejectReason, TokenOutput
from runtime.request import FinishReason
from server.openai.chat_types import ChatRequest
from server.openai.completion_types import CompletionRequest

Serve = Callable[..., None]

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
HI = {"model": "m", "prompt": "hi"}
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
SHAPE = {"message", "type", "param", "code"}


@pytest.mark.parametrize(
    ("path", "body", "status", "code", "param"),
    [
        (CHAT, {"messages": []}, 422, "missing_field", "model"),
        (CHAT, {"model": "m"}, 422, "missing_field", "messages"),
        (CHAT, ASK | {"messages": "hi"}, 422, "invalid_type", "messages"),
        (CHAT, ASK | {"messages": []}, 400, "empty_prompt", "messages"),
        (CHAT, ASK | {"messages": [{"role": "user"}]}, 400, "invalid_value", "messages"),
        (CHAT, ASK | {"messages": [{"content": "hi"}]}, 422, "missing_field", "role"),
        (CHAT, ASK | {"top_logprobs": 2}, 400, "invalid_value", "top_logprobs"),
        (CHAT, ASK | {"logprobs": True, "top_logprobs": 21}, 400, "invalid_value", "top_logprobs"),
        (CHAT, ASK | {"response_format": {"type": "yaml"}}, 400, "unsupported", "response_format"),
        (CHAT, ASK | {"tools": [], "tool_choice": "required"}, 400, "invalid_value", "tool_choice"),
        (CHAT, ASK | {"function_call": "auto"}, 400, "unsupported", "function_call"),
        (CHAT, ASK | {"modalities": ["audio"]}, 400, "unsupported", "modalities"),
        (CHAT, ASK | {"max_tokens": 0}, 400, "invalid_value", "max_completion_tokens"),
        (CHAT, ASK | {"max_tokens": 256}, 400, "context_length_exceeded", "max_tokens"),
        (COMPLETIONS, {"prompt": "hi"}, 422, "missing_field", "model"),
        (COMPLETIONS, b"{", 422, "invalid_json", None),
        (COMPLETIONS, b"[]", 422, "invalid_type", None),
        (COMPLETIONS, HI | {"temperature": "hot"}, 422, "invalid_type", "temperature"),
        (COMPLETIONS, HI | {"temperature": 2.5}, 400, "invalid_value", "temperature"),
        (COMPLETIONS, HI | {"n": 0}, 400, "invalid_value", "n"),
        (COMPLETIONS, HI | {"prompt": []}, 400, "empty_prompt", "prompt"),
        (COMPLETIONS, HI | {"prompt": ""}, 400, "empty_prompt", "prompt"),
        (COMPLETIONS, HI | {"prompt": ["a", 1]}, 400, "invalid_value", "prompt"),
        (COMPLETIONS, HI | {"prompt": ["a"] * 1025}, 400, "invalid_value", "prompt"),
        (COMPLETIONS, HI | {"prompt": [10**6]}, 400, "invalid_value", "prompt"),
        (COMPLETIONS, HI | {"prompt": "a" * 300}, 400, "context_length_exceeded", "prompt"),
        (COMPLETIONS, HI | {"suffix": "end"}, 400, "unsupported", "suffix"),
        (COMPLETIONS, HI | {"best_of": 1, "n": 2}, 400, "invalid_value", "best_of"),
        (COMPLETIONS, HI | {"best_of": 2, "stream": True}, 400, "invalid_value", "best_of"),
        (COMPLETIONS, HI | {"max_tokens": 0}, 400, "invalid_value", "max_tokens"),
        (COMPLETIONS, HI | {"min_tokens": 17}, 400, "invalid_value", "min_tokens"),
        (COMPLETIONS, HI | {"logit_bias": {"x": 1}}, 400, "invalid_value", "logit_bias"),
        (COMPLETIONS, HI | {"logit_bias": {"9999": 1}}, 400, "invalid_value", "logit_bias"),
        (COMPLETIONS, HI | {"logit_bias": {"9": 101}}, 400, "invalid_value", "logit_bias"),
        (COMPLETIONS, HI | {"stop": ["a"] * 11}, 400, "invalid_value", "stop"),
        (COMPLETIONS, HI | {"guided_json": {"type": "cat"}}, 400, "invalid_constraint", "guided_json"),
        (COMPLETIONS, HI | {"min_p": 0.1}, 400, "unsupported", "min_p"),
        ("/tokenize", {}, 422, "missing_field", "prompt"),
        ("/tokenize", {"prompt": "a", "messages": []}, 422, "missing_field", "prompt"),
        ("/detokenize", {"tokens": [10**6]}, 400, "invalid_value", "tokens"),
        ("/detokenize", {"tokens": ["a"]}, 422, "invalid_type", "tokens"),
    ],
)
def test_a_mistake_is_named(
    serve: Serve, path: str, body: Any, status: int, code: str | None, param: str | None
) -> None:
    async def test(client: Client) -> None:
        answer = await client.request("POST", path, body)
        assert answer.status == status, answer.json
        error = answer.json["error"]
        assert set(error) == SHAPE
        assert (error["type"], error["code"], error["param"]) == ("invalid_request_error", code, param)
        assert error["message"]
        assert ("detail" in answer.json) == (status == 422), "LightLLM's place for what is no request at all"

    serve(test, prepare=with_template)


def test_null_is_absent(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        for call, kind in ((complete, CompletionRequest), (chat, ChatRequest)):
            optional = set(kind.__struct_fields__) - {"model", "prompt", "messages"}
            assert (await call(client, "hi", **dict.fromkeys(optional))).status == 200

    serve(test, prepare=with_template)
    assert len(engine.added) == 2


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1", 404),
        ("GET", "/v1/nothing", 404),
        ("POST", "/v1/embeddings", 404),
        ("GET", CHAT, 405),
        ("PUT", "/v1/models", 405),
    ],
)
def test_unknown_paths_and_methods(serve: Serve, method: str, path: str, status: int) -> None:
    async def test(client: Client) -> None:
        answer = await client.request(method, path)
        assert (answer.status, set(answer.json["error"])) == (status, SHAPE)
        assert path in answer.json["error"]["message"]

    serve(test)


def test_a_form_of_another_site_is_refused(serve: Serve) -> None:
    async def test(client: Client) -> None:
        for kind, status in (
            ("text/plain", 422),
            ("application/json; charset=utf-8", 200),
            ("application/x+json", 200),
        ):
            answer = await client.request("POST", COMPLETIONS, HI, {"Content-Type": kind})
            assert answer.status == status

    serve(test)


def test_a_body_that_is_too_large(serve: Serve) -> None:
    async def test(client: Client) -> None:
        exchange = client.open("POST", COMPLETIONS, HI | {"prompt": "a" * 999})
        await exchange.start()
        assert exchange.status == 413
        assert set(json.loads(await exchange.chunk() or b"")["error"]) == SHAPE
        exchange.disconnect()
        with pytest.raises(ConnectionAbortedError):
            await exchange.task

    serve(test, max_body_bytes=100)


@pytest.mark.parametrize(
    ("reason", "status", "kind"),
    [
        (RejectReason.QUEUE_FULL, 429, "rate_limit_error"),
        (RejectReason.DRAINING, 503, "service_unavailable_error"),
        (RejectReason.INVALID, 400, "invalid_request_error"),
    ],
)
@pytest.mark.parametrize("streaming", [False, True])
def test_what_the_engine_refuses(
    serve: Serve, engine: FakeEngine, reason: RejectReason, status: int, kind: str, streaming: bool
) -> None:
    engine.reject = lambda add: Rejected(add.request_id, reason, "no", 3)

    async def test(client: Client) -> None:
        answer = await complete(client, ["a", "b"], stream=streaming)
        assert (answer.status, answer.json["error"]["type"]) == (status, kind)
        assert answer.headers.get("retry-after") == (None if status == 400 else "3")
        assert client.app.services().client.open_requests == 0

    serve(test)


def fails_at(place: int) -> Callable[[AddRequest, int, int], TokenOutput]:
    """A script whose requests with an ``x`` fail after so many tokens."""

    def script(add: AddRequest, sample: int, count: int) -> TokenOutput:
        if count == place and byte_id(ord("x")) in add.prompt:
            return TokenOutput(add.request_id, sample, -1, 0.0, FinishReason.ERROR, error="not a number")
        return TokenOutput(add.request_id, sample, byte_id(ord("a")), -0.5)

    return script


def test_a_stream_that_fails_ends_with_an_error_and_is_not_done(serve: Serve, engine: FakeEngine) -> None:
    engine.script = fails_at(2)

    async def test(client: Client) -> None:
        answer = await complete(client, ["x", "y"], stream=True, max_tokens=100)
        *_, last, rest = answer.body.decode().split("\n\n")
        assert (answer.status, rest) == (200, "")
        assert json.loads(last[6:])["error"]["message"] == "not a number"
        assert b"[DONE]" not in answer.body
        await asyncio.to_thread(engine.wait, lambda: len(engine.aborted) == 1)
        assert client.app.services().client.open_requests == 0

    serve(test)


@pytest.mark.parametrize("place", [0, 3])
def test_a_call_that_fails_in_part_fails_whole(serve: Serve, engine: FakeEngine, place: int) -> None:
    engine.script = fails_at(place)

    async def test(client: Client) -> None:
        answer = await complete(client, ["x", "y"], max_tokens=100)
        assert (answer.status, answer.json["error"]["type"]) == (503, "service_unavailable_error")
        await asyncio.to_thread(engine.wait, lambda: len(engine.aborted) == 1)

    serve(test)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_a_client_that_leaves_frees_all_it_had(serve: Serve, engine: FakeEngine, path: str, streaming: bool) -> None:
    engine.tick_milliseconds = 5
    body = (ASK if path == CHAT else HI | {"prompt": ["a", "b"]}) | {"max_tokens": 200, "stream": streaming}
    count = 1 if path == CHAT else 2

    async def test(client: Client) -> None:
        exchange = client.open("POST", path, body)
        await asyncio.to_thread(engine.wait, lambda: len(engine.added) == count)
        if streaming:
            await exchange.start()
            await exchange.chunk()
        exchange.disconnect()
        await asyncio.to_thread(engine.wait, lambda: len(engine.aborted) == count)
        assert client.app.services().client.open_requests == 0
        await exchange.task

    serve(test, prepare=with_template)


def test_engine_death_is_an_error_frame(serve: Serve, engine: FakeEngine) -> None:
    engine.tick_milliseconds = 5

    async def test(client: Client) -> None:
        exchange = await client.open("POST", COMPLETIONS, HI | {"max_tokens": 200, "stream": True}).start()
        await exchange.chunk()
        await asyncio.to_thread(engine.stop)
        last = (await exchange.chunks())[-1]
        assert b'"error":{"message":"the engine stopped; try again"' in last
        assert b"[DONE]" not in last

    serve(test)


def test_a_reward_model_generates_nothing(serve: Serve, engine: FakeEngine) -> None:
    engine.limits = REWARD_LIMITS

    async def test(client: Client) -> None:
        for answer in (await complete(client), await chat(client, "hi")):
            assert (answer.status, answer.json["error"]["code"]) == (400, "unsupported")

    serve(test, prepare=with_template)


def test_a_device_engine_has_no_alternatives(serve: Serve, engine: FakeEngine) -> None:
    engine.limits = replace(engine.limits, host_logits=False)

    async def test(client: Client) -> None:
        assert (await complete(client, logprobs=0, max_tokens=1)).status == 200
        for fields in ({"logprobs": 1}, {"logit_bias": {"1": 1}}):
            answer = await complete(client, **fields)
            assert (answer.status, answer.json["error"]["param"]) == (400, next(iter(fields)))

    serve(test)
