"""``/health`` of a reward server, in process: scores, and not signs of life alone."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from asgi_driver import Client
from fake_engine import REWARD_LIMITS, FakeEngine, score

from runtime.messages import Rejected, RejectReason

Serve = Callable[..., None]

SOON = {"HEALTH_TIMEOUT": "1"}


@pytest.fixture
def reward(serve: Serve, engine: FakeEngine) -> Serve:
    """``serve`` with a reward engine that scores everything 1."""
    engine.limits = REWARD_LIMITS
    engine.script = score(lambda _: 1.0)
    return serve


async def health(client: Client) -> int:
    return (await client.request("GET", "/health")).status


def test_the_first_question_is_answered_by_a_score(reward: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        answer = await client.request("GET", "/health")
        assert (answer.status, answer.body) == (200, b'{"message":"Ok"}')
        assert (await client.request("HEAD", "/healthz")).status == 200

    reward(test)
    assert [(len(add.prompt), add.sampling.max_new_tokens) for add in engine.added] == [(1, 1)]


def test_a_score_for_a_client_is_proof_enough(reward: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        await client.request("POST", "/get_score", {"chat": "hi"})
        assert await health(client) == 200

    reward(test)
    assert len(engine.added) == 1


def test_all_who_ask_at_once_share_a_probe(reward: Serve, engine: FakeEngine) -> None:
    engine.paused.set()

    async def test(client: Client) -> None:
        asking = [asyncio.create_task(health(client)) for _ in range(8)]
        await asyncio.to_thread(engine.wait, lambda: len(engine.added) == 1)
        engine.paused.clear()
        assert await asyncio.gather(*asking) == [200] * 8

    reward(test)
    assert len(engine.added) == 1


def test_an_engine_whose_loop_turns_but_gives_no_scores_is_unhealthy(reward: Serve, engine: FakeEngine) -> None:
    engine.paused.set()

    async def test(client: Client) -> None:
        assert await health(client) == 503
        await asyncio.to_thread(engine.wait, lambda: len(engine.aborted) == 1)
        assert client.app.services().client.open_requests == 0
        engine.paused.clear()
        assert await health(client) == 200

    reward(test, environ=SOON)


def test_a_probe_behind_others_whose_scores_come_is_enough(reward: Serve, engine: FakeEngine) -> None:
    engine.held = lambda add: len(add.prompt) == 1

    async def test(client: Client) -> None:
        asking = asyncio.create_task(health(client))
        await asyncio.to_thread(engine.wait, lambda: len(engine.added) == 1)
        assert (await client.request("POST", "/get_score", {"chat": "ab"})).status == 200
        assert await asking == 200

    reward(test, environ=SOON)


@pytest.mark.parametrize(
    ("reason", "status"), [(RejectReason.QUEUE_FULL, 200), (RejectReason.DRAINING, 200), (RejectReason.INVALID, 503)]
)
def test_an_engine_that_turns_the_probe_away_is_there(
    reward: Serve, engine: FakeEngine, reason: RejectReason, status: int
) -> None:
    engine.reject = lambda add: Rejected(add.request_id, reason, "no room", 1)

    async def test(client: Client) -> None:
        assert await health(client) == status

    reward(test)


def test_failing_scores_are_no_sign_of_health(reward: Serve, engine: FakeEngine) -> None:
    engine.script = score(lambda _: None)

    async def test(client: Client) -> None:
        assert (await client.request("POST", "/get_score", {"chat": "hi"})).status == 503
        assert await health(client) == 503

    reward(test)


def test_a_lost_engine_is_unhealthy_at_once(reward: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        assert await health(client) == 200
        await asyncio.to_thread(engine.stop)
        async with asyncio.timeout(10):
            while client.app.services().client.ready:  # noqa: ASYNC110 - the condition is not this loop's
                await asyncio.sleep(0.001)
        assert await health(client) == 503

    reward(test)


def test_health_can_be_forced_to_fail(reward: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        assert await health(client) == 503

    reward(test, environ={"DEBUG_HEALTHCHECK_RETURN_FAIL": "1"})
    assert engine.added == []


def test_probes_are_neither_counted_nor_logged(reward: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")

    async def test(client: Client) -> None:
        assert await health(client) == 200
        text = (await client.request("GET", "/metrics")).body.decode().splitlines()
        for line in (
            "lightllm_request_count_total 0.0",
            "lightllm_request_success_total 0.0",
            "lightllm_request_inference_duration_count 0.0",
            "lightllm_batch_next_size_count 0.0",
        ):
            assert line in text

    reward(test)
    assert "request=" not in caplog.text
