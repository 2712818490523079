"""``/generate_stream`` in process: bytes on the wire, disconnects, failures and clients that do not read."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from asgi_driver import Client
from fake_engine import FakeEngine, say
from toy_tokenizer import byte_id

from runtime.messages import AddRequest, TokenOutput
from runtime.request import FinishReason

Serve = Callable[..., None]

LONG = {"max_new_tokens": 200}


def body(**parameters: object) -> dict[str, object]:
    return {"inputs": "hi", "parameters": parameters}


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until ``condition`` holds."""
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - the condition is not this loop's
            await asyncio.sleep(0.001)


def test_bytes_are_exactly_lightllms(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await client.generate("/generate_stream", max_new_tokens=2)
        assert answer.headers["content-type"] == "text/event-stream; charset=utf-8"
        assert answer.headers["cache-control"] == "no-cache"
        assert answer.headers["x-accel-buffering"] == "no"
        assert "content-length" not in answer.headers
        frame = (
            'data:{"token":{"id":%d,"text":"%s","logprob":-0.5,"special":false,"count_output_tokens":%d,'
            '"prompt_tokens":2},"generated_text":null,"finished":%s,"finish_reason":%s,"details":null}\n\n'
        )
        assert answer.parts == [
            (frame % (byte_id(ord("a")), "a", 1, "false", "null")).encode(),
            (frame % (byte_id(ord("b")), "b", 2, "true", '"length"')).encode(),
        ]

    serve(test)


def test_the_stream_field_chooses_on_the_root_path(serve: Serve) -> None:
    async def test(client: Client) -> None:
        plain = await client.request("POST", "/", body(max_new_tokens=2))
        streamed = await client.request("POST", "/", body(max_new_tokens=2) | {"stream": True})
        assert plain.json["generated_text"] == ["ab"]
        assert [event["token"]["text"] for event in streamed.events] == ["a", "b"]
        assert (await client.request("POST", "/", body() | {"stream": "no"})).json["param"] == "stream"
        assert (await client.request("POST", "/generate", body() | {"stream": "no"})).status == 200

    serve(test)


def test_characters_arrive_whole_and_every_token_has_an_event(serve: Serve, engine: FakeEngine) -> None:
    engine.script = say("é😀中")

    async def test(client: Client) -> None:
        events = (await client.generate("/generate_stream", max_new_tokens=9)).events
        assert [event["token"]["text"] for event in events] == ["", "é", "", "", "", "😀", "", "", "中"]
        assert [event["token"]["count_output_tokens"] for event in events] == [*range(1, 10)]

    serve(test)


def test_tokens_that_piled_up_are_still_one_event_each(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        exchange = await client.open("POST", "/generate_stream", body(max_new_tokens=50)).start()
        exchange.reading.clear()
        await until(lambda: client.app.services().client.open_requests == 0)
        exchange.reading.set()
        chunks = await exchange.chunks()
        assert b"".join(chunks).count(b"data:{") == 50
        assert len(chunks) < 10, "what has piled up goes out at once"

    serve(test)


def test_a_stream_is_one_sample(serve: Serve) -> None:
    async def test(client: Client) -> None:
        for parameters in ({"best_of": 2}, {"n": 2}):
            answer = await client.generate("/generate_stream", **parameters)
            assert (answer.status, answer.json["param"]) == (417, "best_of")

    serve(test)


@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
def test_a_disconnect_aborts_at_once(serve: Serve, engine: FakeEngine, path: str) -> None:
    engine.tick_milliseconds = 5

    async def test(client: Client) -> None:
        exchange = client.open("POST", path, body(**LONG))
        await until(lambda: len(engine.added) == 1)
        if path == "/generate_stream":
            await exchange.start()
            await exchange.chunk()
        exchange.disconnect()
        await asyncio.to_thread(engine.wait, lambda: bool(engine.aborted))
        assert client.app.services().client.open_requests == 0
        await exchange.task

    serve(test)
    assert [(abort.request_id, abort.sample) for abort in engine.aborted] == [(1, -1)]


@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
def test_a_disconnect_aborts_what_is_still_queued(serve: Serve, engine: FakeEngine, path: str) -> None:
    engine.paused.set()

    async def test(client: Client) -> None:
        exchange = client.open("POST", path, body(**LONG))
        await until(lambda: len(engine.added) == 1)
        exchange.disconnect()
        await exchange.task
        await asyncio.to_thread(engine.wait, lambda: bool(engine.aborted))

    serve(test)


def test_a_neighbour_does_not_notice_a_disconnect(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        leaving = await client.open("POST", "/generate_stream", body(**LONG)).start()
        staying = client.open("POST", "/generate", body(max_new_tokens=26))
        leaving.disconnect()
        await staying.start()
        text = b"".join(await staying.chunks()).decode()
        assert '"generated_text":["abcdefghijklmnopqrstuvwxyz"]' in text

    serve(test)


def test_a_client_that_does_not_read_is_cut_off(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        exchange = await client.open("POST", "/generate_stream", body(**LONG)).start()
        engine.tick_milliseconds = 50
        exchange.reading.clear()
        with pytest.raises(asyncio.CancelledError):
            await exchange.task
        await asyncio.to_thread(engine.wait, lambda: bool(engine.aborted))

    serve(test, stall_seconds=0.2)


def test_engine_death_ends_a_stream_with_an_error_event(serve: Serve, engine: FakeEngine) -> None:
    engine.tick_milliseconds = 5

    async def test(client: Client) -> None:
        exchange = await client.open("POST", "/generate_stream", body(**LONG)).start()
        await exchange.chunk()
        await asyncio.to_thread(engine.stop)
        last = (await exchange.chunks())[-1].decode()
        assert '"finished":true,"finish_reason":"error"' in last
        assert '"error":"the engine stopped; try again"' in last

    serve(test)


def test_engine_death_fails_plain_calls_and_a_new_engine_is_found(serve: Serve, engine: FakeEngine) -> None:
    engine.paused.set()

    async def test(client: Client) -> None:
        waiting = [client.open("POST", "/generate", body(**LONG)) for _ in range(3)]
        await until(lambda: len(engine.added) == 3)
        await asyncio.to_thread(engine.stop)
        for exchange in waiting:
            await exchange.start()
            assert (exchange.status, exchange.headers["retry-after"]) == (503, "5")
        assert (await client.generate()).status == 503
        assert (await client.request("GET", "/readiness")).status == 503
        assert (await client.request("GET", "/health")).status == 503
        assert (await client.request("GET", "/metrics")).status == 200
        engine.paused.clear()
        successor = FakeEngine(engine.path).start()
        try:
            await until(lambda: client.app.services().client.ready)
            assert (await client.generate(max_new_tokens=1)).status == 200
            assert len(successor.added) == 1
        finally:
            await asyncio.to_thread(successor.stop)

    serve(test)


def test_a_request_that_fails_on_the_way_ends_its_stream_only(serve: Serve, engine: FakeEngine) -> None:
    def script(add: AddRequest, sample: int, count: int) -> TokenOutput:
        if count == 2:
            return TokenOutput(add.request_id, sample, -1, 0.0, FinishReason.ERROR, error="not a number")
        return TokenOutput(add.request_id, sample, byte_id(ord("x")), -0.5)

    engine.script = script

    async def test(client: Client) -> None:
        events = (await client.generate("/generate_stream", max_new_tokens=9)).events
        assert [event["finished"] for event in events] == [False, False, True]
        assert (events[-1]["finish_reason"], events[-1]["error"]) == ("error", "not a number")
        assert (await client.generate(max_new_tokens=9)).status == 503

    serve(test)


def test_two_streams_keep_their_own_counts(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answers = await asyncio.gather(*(client.generate("/generate_stream", max_new_tokens=n) for n in (5, 9)))
        for answer, n in zip(answers, (5, 9), strict=True):
            assert [event["token"]["count_output_tokens"] for event in answer.events] == [*range(1, n + 1)]

    serve(test)
