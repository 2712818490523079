"""Requests with little time, urgent ones, and those for which there is no room: what clients are told."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgi_driver import Client
from fake_engine import FakeEngine

from runtime.messages import TIME_IS_UP, AddRequest, Rejected, RejectReason

Serve = Callable[..., None]
NATIVE = {"inputs": "hi", "parameters": {"max_new_tokens": 5}}
OPENAI = {"model": "m", "prompt": "hi", "max_tokens": 5}
JSON = {"Content-Type": "application/json"}
PATHS = [("/generate", NATIVE), ("/generate_stream", NATIVE), ("/v1/completions", OPENAI)]


def refuse(reason: RejectReason) -> Callable[[AddRequest], Rejected]:
    return lambda add: Rejected(add.request_id, reason, TIME_IS_UP, 7)


@pytest.mark.parametrize(("path", "body"), PATHS)
def test_headers_reach_the_engine(serve: Serve, engine: FakeEngine, path: str, body: dict[str, Any]) -> None:
    async def test(client: Client) -> None:
        headers = JSON | {"X-Request-Timeout": "20.5", "X-Request-Priority": "-3"}
        assert (await client.request("POST", path, body, headers)).status == 200
        assert (await client.request("POST", path, body, JSON)).status == 200

    serve(test)
    urgent, plain = engine.added
    assert (urgent.priority, plain.priority, plain.seconds_left) == (-3, 0, 0)
    assert 15 < urgent.seconds_left <= 20.5


@pytest.mark.parametrize(
    ("header", "value"),
    [
        ("X-Request-Timeout", "0"),
        ("X-Request-Timeout", "-1"),
        ("X-Request-Timeout", "nan"),
        ("X-Request-Timeout", "1e3"),
        ("X-Request-Timeout", "soon"),
        ("X-Request-Timeout", ""),
        ("X-Request-Timeout", "9999999"),
        ("X-Request-Timeout", "٣"),
        ("X-Request-Priority", "9"),
        ("X-Request-Priority", "-9"),
        ("X-Request-Priority", "high"),
        ("X-Request-Priority", "1.5"),
    ],
)
def test_a_bad_header_is_refused_in_the_apis_shape(serve: Serve, engine: FakeEngine, header: str, value: str) -> None:
    async def test(client: Client) -> None:
        headers = JSON | {header: value}
        native = await client.request("POST", "/generate", NATIVE, headers)
        openai = await client.request("POST", "/v1/completions", OPENAI, headers)
        assert (native.status, native.json["error_code"], native.json["param"]) == (417, "invalid_value", header)
        assert (openai.status, openai.json["error"]["param"]) == (400, header)
        assert header in openai.json["error"]["message"]

    serve(test)
    assert engine.added == []


def test_the_servers_maximum_holds_for_everybody(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        for timeout in ({}, {"X-Request-Timeout": "2"}, {"X-Request-Timeout": "500"}):
            assert (await client.request("POST", "/generate", NATIVE, timeout)).status == 200

    serve(test, request_timeout=10.0)
    none, less, more = (add.seconds_left for add in engine.added)
    assert less <= 2
    assert 8 < none <= 10
    assert 8 < more <= 10


@pytest.mark.parametrize(("path", "body"), PATHS)
def test_what_was_not_answered_in_its_time_is_a_504(
    serve: Serve, engine: FakeEngine, path: str, body: dict[str, Any]
) -> None:
    engine.reject = refuse(RejectReason.EXPIRED)

    async def test(client: Client) -> None:
        answer = await client.request("POST", path, body, JSON)
        assert answer.status == 504
        assert "retry-after" not in answer.headers, "nobody waits for another attempt"
        if path.startswith("/v1"):
            assert answer.json["error"] == {
                "message": TIME_IS_UP,
                "type": "timeout_error",
                "param": None,
                "code": "deadline_exceeded",
            }
        else:
            assert answer.json == {"message": TIME_IS_UP}
        metrics = (await client.request("GET", "/metrics")).body.decode()
        assert 'vllm:admission_rejections_total{model_name="default_model_name",reason="deadline"} 1.0' in metrics

    serve(test)


def test_a_stream_whose_time_is_up_ends_with_an_error(serve: Serve, engine: FakeEngine) -> None:
    engine.expire_after = 2

    async def test(client: Client) -> None:
        native = await client.request("POST", "/generate_stream", NATIVE)
        assert [event["finished"] for event in native.events] == [False, False, True]
        assert (native.events[-1]["finish_reason"], native.events[-1]["error"]) == ("error", TIME_IS_UP)
        openai = await client.request("POST", "/v1/completions", OPENAI | {"stream": True}, JSON)
        assert openai.events[-1]["error"]["code"] == "deadline_exceeded"
        assert client.app.services().client.open_requests == 0

    serve(test)


@pytest.mark.parametrize(("path", "body"), [PATHS[0], PATHS[2]])
def test_a_plain_answer_that_had_begun_is_a_504_too(
    serve: Serve, engine: FakeEngine, path: str, body: dict[str, Any]
) -> None:
    engine.expire_after = 2

    async def test(client: Client) -> None:
        assert (await client.request("POST", path, body, JSON)).status == 504

    serve(test)


def test_time_runs_while_the_body_comes(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        answer = await client.request("POST", "/generate", NATIVE, {"X-Request-Timeout": "0.000001"})
        assert answer.status == 504

    serve(test)
    assert engine.added == []


@pytest.mark.parametrize(("flag", "status"), [({}, 503), ({"overload_status": 429}, 429)])
def test_a_full_queue_has_the_status_that_the_operator_chose(
    serve: Serve, engine: FakeEngine, flag: dict[str, int], status: int
) -> None:
    engine.reject = refuse(RejectReason.QUEUE_FULL)

    async def test(client: Client) -> None:
        native, openai = await asyncio.gather(
            client.generate(), client.request("POST", "/v1/completions", OPENAI, JSON)
        )
        assert (native.status, openai.status) == (status, 429)
        assert {native.headers["retry-after"], openai.headers["retry-after"]} == {"7"}
        engine.reject = refuse(RejectReason.DRAINING)
        assert (await client.generate()).status == 503
        metrics = (await client.request("GET", "/metrics")).body.decode()
        assert 'reason="queue_full"} 2.0' in metrics
        assert 'reason="refused"} 1.0' in metrics

    serve(test, **flag)


def test_the_engines_own_counts_are_metrics(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        metrics = (await client.request("GET", "/metrics")).body.decode()
        for line in (
            "peregrine_queued_tokens 0.0",
            "peregrine_expired_requests_total 0.0",
            'peregrine_shed_requests_total{reason="queued_tokens"} 0.0',
        ):
            assert line in metrics

    serve(test)
