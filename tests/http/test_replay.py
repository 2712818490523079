"""An engine dies and another one comes: with ``--replay``, what clients of each API get is what they would have got."""

from __future__ import annotations

import asyncio
import itertools
import random
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from asgi_driver import Client, Exchange
from fake_engine import REWARD_LIMITS, FakeEngine, Script, say, score
from openai_calls import with_template

from runtime.messages import AddRequest, TokenOutput

Serve = Callable[..., None]
TOKENS = 20
STOPS_AT = 5

CALLS: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "native": ("/generate", {"parameters": {"best_of": 3, "max_new_tokens": TOKENS}}, {}),
    "native, prompt": ("/generate", {"parameters": {"max_new_tokens": TOKENS}}, {"prompt_logprobs": True}),
    "native stream": ("/generate_stream", {"parameters": {"max_new_tokens": TOKENS, "do_sample": True}}, {}),
    "native, stop": ("/generate", {"parameters": {"stop_sequences": ["no"], "max_new_tokens": TOKENS}}, {}),
    "tgi": ("/generate", {"parameters": {"max_new_tokens": TOKENS, "details": True}}, {"tgi": True}),
    "tgi stream": ("/generate_stream", {"parameters": {"max_new_tokens": TOKENS}}, {"tgi": True}),
    "completions": ("/v1/completions", {"max_tokens": TOKENS, "n": 2, "best_of": 3, "logprobs": 2, "echo": True}, {}),
    "completions stream": ("/v1/completions", {"max_tokens": TOKENS, "n": 2, "stream": True}, {}),
    "chat stream": ("/v1/chat/completions", {"max_tokens": TOKENS, "logprobs": True, "stream": True}, {}),
}


def body_of(path: str, fields: dict[str, Any]) -> dict[str, Any]:
    if path == "/v1/completions":
        return {"model": "m", "prompt": ["hi", "ho"], **fields}
    if path == "/v1/chat/completions":
        return {"model": "m", "messages": [{"role": "user", "content": "hi"}], **fields}
    return {"inputs": "hi", **fields}


def comparable(parts: list[bytes]) -> list[str]:
    """An answer without what is new in each; of a stream, one choice after the other."""
    text = re.sub(r'"(id|created)":("[^"]*"|\d+)', "", b"".join(parts).decode())
    return sorted(text.split("\n\n"), key=lambda frame: re.findall(r'"index":\d+', frame)[:1])


def pausing(engine: FakeEngine, script: Script, at: int = STOPS_AT) -> Script:
    """``script``, whose engine falls silent once each sample has got ``at`` tokens."""

    def paused(add: AddRequest, sample: int, count: int) -> TokenOutput:
        if count == at - 1:
            engine.paused.set()
        return script(add, sample, count)

    return paused


@asynccontextmanager
async def successor(engine: FakeEngine, script: Script | None = None) -> AsyncIterator[FakeEngine]:
    """The engine is gone; another one, at its place."""
    await asyncio.to_thread(engine.stop)
    after = FakeEngine(engine.path, script or engine.script, engine.limits).start()
    try:
        yield after
    finally:
        await asyncio.to_thread(after.stop)


async def paused(engine: FakeEngine, exchange: Exchange) -> Exchange:
    """Wait until the engine has fallen silent."""
    assert await asyncio.to_thread(engine.paused.wait, 10), exchange
    return exchange


@pytest.mark.parametrize("call", CALLS)
def test_an_answer_is_what_it_would_have_been(serve: Serve, engine: FakeEngine, call: str) -> None:
    path, fields, config = CALLS[call]
    script = engine.script = say("abcdefghijklmno")

    async def test(client: Client) -> None:
        undisturbed = await client.request("POST", path, body_of(path, fields))
        assert undisturbed.status == 200, undisturbed.body
        engine.script = pausing(engine, script)
        exchange = await paused(engine, client.open("POST", path, body_of(path, fields)))
        async with successor(engine, script) as after:
            await exchange.start()
            assert exchange.status == 200
            assert comparable(await exchange.chunks()) == comparable(undisturbed.parts)
            metrics = (await client.request("GET", "/metrics")).body.decode()
        again = [add for add in engine.added if add.request_id == after.added[0].request_id]
        assert [(add.prompt, add.sampling) for add in again] == [(after.added[0].prompt, after.added[0].sampling)]
        requests = len(after.added)
        assert f"peregrine_request_replays_total {float(requests)}" in metrics
        assert f"lightllm_request_success_total {float(2 * requests)}" in metrics
        assert f"lightllm_request_first_token_duration_count {float(2 * requests)}" in metrics

    serve(test, replay_seconds=30.0, prepare=with_template, **config)


def test_scores_too(serve: Serve, engine: FakeEngine) -> None:
    engine.limits, engine.script = REWARD_LIMITS, score(lambda prompt: len(prompt) / 4)
    engine.paused.set()
    chat = [{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]

    async def test(client: Client) -> None:
        exchange = client.open("POST", "/get_score", {"chat": [chat, chat]})
        await asyncio.to_thread(engine.wait, lambda: len(engine.added) == 2)
        async with successor(engine):
            await exchange.start()
            assert exchange.status == 200
            await exchange.chunks()
            assert (await client.request("GET", "/health")).status == 200

    serve(test, replay_seconds=30.0, prepare=with_template)


def test_another_model_ends_a_stream_with_an_error_and_not_with_its_text(serve: Serve, engine: FakeEngine) -> None:
    engine.script = pausing(engine, say("abcdefgh"))

    async def test(client: Client) -> None:
        exchange = client.open("POST", "/generate_stream", body_of("", {"parameters": {"max_new_tokens": TOKENS}}))
        await paused(engine, exchange)
        async with successor(engine, say("abXdefgh")) as after:
            text = b"".join(await (await exchange.start()).chunks()).decode()
            assert re.findall(r'"text":"(.)"', text) == [*"abcde"]
            assert '"finish_reason":"error"' in text
            assert "goes on differently" in text
            await asyncio.to_thread(after.wait, lambda: bool(after.aborted))

    serve(test, replay_seconds=30.0)


def test_a_client_that_leaves_meanwhile_is_not_run_again(serve: Serve, engine: FakeEngine) -> None:
    engine.paused.set()

    async def test(client: Client) -> None:
        leaving = client.open("POST", "/generate", body_of("", {"parameters": {"max_new_tokens": TOKENS}}))
        staying = client.open("POST", "/generate", body_of("", {"parameters": {"max_new_tokens": 1}}))
        await asyncio.to_thread(engine.wait, lambda: len(engine.added) == 2)
        await asyncio.to_thread(engine.stop)
        leaving.disconnect()
        await leaving.task
        async with successor(engine) as after:
            assert (await staying.start()).status == 200
            await staying.chunks()
            assert len(after.added) == 1

    serve(test, replay_seconds=30.0)


def test_requests_that_come_meanwhile_wait_while_readiness_says_no(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        await asyncio.to_thread(engine.stop)
        while client.app.services().client.ready:  # noqa: ASYNC110 - the condition is not this loop's
            await asyncio.sleep(0.001)
        waiting = client.open("POST", "/generate", body_of("", {"parameters": {"max_new_tokens": 2}}))
        assert (await client.request("GET", "/readiness")).status == 503
        async with successor(engine) as after:
            assert (await waiting.start()).status == 200
            assert b'"ab"' in b"".join(await waiting.chunks())
            assert [add.admitted for add in after.added] == [False]

    serve(test, replay_seconds=30.0)


def test_no_engine_in_time_is_a_503(serve: Serve, engine: FakeEngine) -> None:
    engine.paused.set()

    async def test(client: Client) -> None:
        exchange = client.open("POST", "/generate", body_of("", {"parameters": {"max_new_tokens": TOKENS}}))
        await asyncio.to_thread(engine.wait, lambda: bool(engine.added))
        await asyncio.to_thread(engine.stop)
        for answer in (
            exchange,
            client.open("POST", "/generate", body_of("", {"parameters": {"max_new_tokens": TOKENS}})),
        ):
            await answer.start()
            assert (answer.status, answer.headers["retry-after"]) == (503, "5")
            assert b"in time" in b"".join(await answer.chunks())

    serve(test, replay_seconds=0.1)


def test_a_broken_connection_to_the_same_engine_doubles_nothing(serve: Serve, engine: FakeEngine) -> None:
    script = engine.script
    engine.script = pausing(engine, script)

    async def test(client: Client) -> None:
        exchange = client.open("POST", "/generate", body_of("", {"parameters": {"max_new_tokens": TOKENS}}))
        await paused(engine, exchange)
        link = client.app.services().client._link
        link._disconnect()
        link._on_loss()
        link._connect()
        await asyncio.to_thread(engine.wait, lambda: len(engine.added) == 2)
        engine.script = script
        engine.paused.clear()
        await exchange.start()
        assert b'"abcdefghijklmnopqrst"' in b"".join(await exchange.chunks())
        assert client.app.services().client.open_requests == 0

    serve(test, replay_seconds=30.0)


def silent_after(engine: FakeEngine, outputs: int) -> None:
    """Have ``engine`` fall silent in its life's step with that output."""
    script, left = engine.script, itertools.count(outputs, -1)

    def counting(add: AddRequest, sample: int, count: int) -> TokenOutput:
        if next(left) <= 0:
            engine.paused.set()
        return script(add, sample, count)

    engine.script = counting


@pytest.mark.parametrize("seed", range(5))
def test_two_deaths_at_any_time_change_no_text(serve: Serve, engine: FakeEngine, seed: int) -> None:
    chance = random.Random(seed)
    text = "abcdefghijklmnopqrstuvwxyz" * 3
    silent_after(engine, chance.randint(0, 60))

    async def test(client: Client) -> None:
        lengths = [chance.randint(4, 60) for _ in range(12)]
        asked = [body_of("", {"parameters": {"max_new_tokens": length}}) for length in lengths]
        exchanges = [client.open("POST", "/generate_stream", body) for body in asked]
        await paused(engine, exchanges[0])
        exchanges[0].disconnect()
        await asyncio.to_thread(engine.stop)
        second = FakeEngine(engine.path)
        silent_after(second, chance.randint(0, 200))
        second.start()
        await paused(second, exchanges[0])
        exchanges[1].disconnect()
        async with successor(second, say(text)):
            for exchange, length in [*zip(exchanges, lengths, strict=True)][2:]:
                answer = b"".join(await (await exchange.start()).chunks()).decode()
                assert "".join(re.findall(r'"text":"(.)"', answer)) == text[:length]
                assert answer.count('"finished":true,"finish_reason":"length"') == 1
            assert client.app.services().client.open_requests == 0

    serve(test, replay_seconds=30.0)


def test_seeds_are_drawn_at_the_door(serve: Serve, engine: FakeEngine) -> None:
    """Were they the engine's, a second run would go its own way."""

    async def test(client: Client) -> None:
        for path in ("/generate", "/v1/completions", "/v1/chat/completions"):
            fields = {"parameters": {"max_new_tokens": 1, "do_sample": True}} if path == "/generate" else {}
            assert (await client.request("POST", path, body_of(path, {"max_tokens": 1} | fields))).status == 200
        assert len({add.sampling.seed for add in engine.added} - {0}) == len(engine.added)

    serve(test, prepare=with_template)
