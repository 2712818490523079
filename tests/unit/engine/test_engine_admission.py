"""What the engine queues and what it turns away, and what becomes of requests whose time is up."""

from __future__ import annotations

import time
from itertools import count

import pytest

from runtime.engine.core import EngineCore
from runtime.executors.host import HostExecutor
from runtime.executors.scripted import Script, ScriptedModel
from runtime.limits import EngineLimits
from runtime.messages import TIME_IS_UP, AddRequest, Rejected, RejectReason
from runtime.request import SamplingParams
from runtime.scheduler import FuturePeak
from runtime.tenants import TenantLimits

FREE = SamplingParams(max_new_tokens=4, ignore_eos=True)
ALICE, BOB = b"alice", b"bob"
BIG, SMALL = 20, 3


def engine(
    *tenants: TenantLimits,
    max_queued_tokens: int | None = None,
    max_queued: int = 10,
    max_queue_seconds: float | None = None,
) -> EngineCore:
    """Two samples at a time."""
    script = Script(vocab_size=50, block_size=4, max_sequence_tokens=64)
    limits = EngineLimits(
        max_request_tokens=64,
        max_total_tokens=128,
        max_running=2,
        max_queued=max_queued,
        max_step_tokens=32,
        block_size=4,
        vocab_size=50,
        eos_token_ids=(0,),
        max_queued_tokens=max_queued_tokens,
        max_queue_seconds=max_queue_seconds,
    )
    executor = HostExecutor(
        ScriptedModel(script, 32),
        eos_token_ids=frozenset({0}),
        max_rows=2,
        max_step_tokens=32,
        max_logit_rows=4,
        max_sequence_tokens=64,
    )
    return EngineCore(executor, limits, FuturePeak(), tenants=tenants)


def request(
    number: int, tokens: int = SMALL, tenant: str = "", seconds: float = 0.0, priority: int = 0, samples: int = 1
) -> AddRequest:
    return AddRequest(number, [1] * tokens, FREE, samples, tenant=tenant, seconds_left=seconds, priority=priority)


def reason(rejected: Rejected | None) -> RejectReason | None:
    return None if rejected is None else rejected.reason


def finish(core: EngineCore) -> list[int]:
    """Run until nothing is left; the requests in the order of their ends."""
    ended: list[int] = []
    while core.has_work:
        for outputs in core.step().values():
            ended += [output.request_id for output in outputs if output.finish]
    assert core.check() == []
    return ended


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """The engine's clock, to be set; it never stands still."""
    now, ticks = [1000.0], count()
    monkeypatch.setattr(time, "perf_counter", lambda: now[0] + next(ticks) * 1e-6)
    return now


def test_queued_prompt_tokens_are_limited() -> None:
    core = engine(max_queued_tokens=2 * BIG + SMALL)
    answers = [core.add(ALICE, request(number, BIG)) for number in range(3)]
    assert [reason(answer) for answer in answers] == [None, None, RejectReason.QUEUE_FULL]
    assert core.add(ALICE, request(3, SMALL)) is None, "there is room for a small one"
    stats = core.stats()
    assert (stats.queued_tokens, stats.shed_tokens_total, stats.shed_queue_total) == (2 * BIG + SMALL, 1, 0)
    core.step()
    assert core.stats().queued_tokens < 2 * BIG
    finish(core)
    assert core.stats().queued_tokens == 0


def test_a_request_that_waits_alone_is_never_too_many_tokens() -> None:
    core = engine(TenantLimits(name="a", max_queued_tokens=0), max_queued_tokens=1)
    assert core.add(ALICE, request(1, BIG, "a")) is None
    assert core.add(ALICE, request(2, SMALL)) is not None


def test_a_tenants_queue_is_its_own() -> None:
    core = engine(TenantLimits(name="a", max_queued=1), TenantLimits(name="b", max_queued_tokens=BIG))
    assert core.add(ALICE, request(1, tenant="a")) is None
    rejected = core.add(ALICE, request(2, tenant="a"))
    assert rejected is not None
    assert (rejected.reason, rejected.retry_after) == (RejectReason.QUEUE_FULL, 1)
    assert "this key's queue of 1 requests" in rejected.message
    assert core.add(ALICE, request(3, BIG, tenant="b")) is None
    assert core.add(ALICE, request(4, SMALL, tenant="b")) is not None
    assert core.add(ALICE, request(5)) is None
    assert core.stats().shed_tenant_total == 2


def test_a_request_of_more_samples_than_its_tenant_may_run_is_invalid() -> None:
    core = engine(TenantLimits(name="a", max_running=1))
    assert reason(core.add(ALICE, request(1, tenant="a", samples=2))) is RejectReason.INVALID
    assert core.add(ALICE, request(1, samples=2)) is None


def test_weights_and_priorities_reach_the_queue() -> None:
    core = engine(TenantLimits(name="a", max_running=1), TenantLimits(name="b", weight=3, max_running=1))
    for number in range(4):
        assert core.add(ALICE, request(number, tenant="a", priority=number == 3)) is None
        assert core.add(ALICE, request(10 + number, tenant="b")) is None
    ended = finish(core)
    assert [number for number in ended if number < 10] == [3, 0, 1, 2]
    assert [number for number in ended if number >= 10] == [10, 11, 12, 13]


def test_what_has_expired_in_the_queue_costs_no_step(clock: list[float]) -> None:
    core = engine()
    for number in (1, 2, 3):
        core.add(ALICE, request(number, seconds=5 if number == 2 else 0))
    core.add(ALICE, request(4, seconds=60))
    clock[0] += 4
    assert core.turn_away() == []
    clock[0] += 2
    assert core.turn_away() == [(ALICE, Rejected(2, RejectReason.EXPIRED, TIME_IS_UP))]
    assert core.turn_away() == []
    assert sorted(finish(core)) == [1, 3, 4]
    assert (core.stats().expired_total, core.stats().computed_tokens_total) == (1, 3 * (SMALL + 3))


def test_what_expires_while_it_runs_is_freed(clock: list[float]) -> None:
    core = engine()
    core.add(ALICE, request(1, seconds=5, samples=2))
    core.step()
    clock[0] += 6
    assert [rejected.request_id for _, rejected in core.turn_away()] == [1]
    assert not core.has_work
    assert core.stats().used_tokens == 0
    assert core.check() == []


def test_the_next_deadline_is_known_while_nothing_runs(clock: list[float]) -> None:
    core = engine()
    for number, seconds in ((1, 50), (2, 5), (3, 0)):
        core.add(ALICE, request(number, seconds=seconds))
    assert core.deadlines.next == pytest.approx(1005, abs=0.1)
    core.abort(ALICE, 2)
    clock[0] += 6
    assert core.turn_away() == []
    assert core.deadlines.next == pytest.approx(1050, abs=0.1)


def test_a_full_queue_says_how_long_a_place_takes(clock: list[float]) -> None:
    core = engine(max_queued=8)
    number = count()
    told = 0
    for _ in range(200):
        while (rejected := core.add(ALICE, request(next(number)))) is None:
            pass
        told = rejected.retry_after
        core.step()
        clock[0] += 8.0
    assert 10 < told <= 60, "two requests of four steps each at once, eight seconds a step: a place in 16 seconds"


def test_nobody_fills_the_queue_for_all() -> None:
    """A full queue is shared by weight: who has more waiting than that gives up its last ones for others."""
    core = engine(TenantLimits(name="b", weight=3), max_queued=8)
    for number in range(8):
        assert core.add(ALICE, request(number, tenant="a")) is None
    assert core.add(ALICE, request(8, tenant="a")) is not None
    assert [reason(core.add(BOB, request(number, tenant="b"))) for number in range(7)] == [None] * 6 + [
        RejectReason.QUEUE_FULL
    ]
    gone = core.turn_away()
    assert [(client, rejected.request_id) for client, rejected in gone] == [(ALICE, n) for n in (7, 6, 5, 4, 3, 2)]
    assert {rejected.reason for _, rejected in gone} == {RejectReason.QUEUE_FULL}
    assert core.turn_away() == []
    assert reason(core.add(ALICE, request(9, tenant="a"))) is RejectReason.QUEUE_FULL
    assert core.stats().shed_queue_total == 9
    assert len(finish(core)) == 8


def test_a_queue_full_of_tokens_is_shared_too() -> None:
    core = engine(max_queued_tokens=5 * BIG)
    for number in range(5):
        assert core.add(ALICE, request(number, BIG, "a")) is None
    assert core.add(BOB, request(5, 2 * BIG, "b")) is None
    assert [rejected.request_id for _, rejected in core.turn_away()] == [4, 3]
    assert core.add(BOB, request(6, BIG, "b")) is not None, "it would have as much as the other, and one more"
    assert core.stats().queued_tokens == 5 * BIG


def test_who_would_wait_for_too_long_is_turned_away(clock: list[float]) -> None:
    core = engine(max_queued=1000, max_queue_seconds=5.0)
    numbers = count()
    for _ in range(200):  # two of four tokens each are admitted in four steps of a second
        while core.add(BOB, request(next(numbers))) is None and len(core.scheduler.waiting) < 30:
            pass
        core.step()
        clock[0] += 1.0
    while core.add(BOB, request(next(numbers))) is None:
        assert len(core.scheduler.waiting) < 30
    assert 2 <= len(core.scheduler.waiting) <= 4
    rejected = core.add(BOB, request(next(numbers)))
    assert rejected is not None
    assert rejected.message == "the queue takes longer than 5 s"
    assert rejected.retry_after > 0
    assert core.stats().shed_wait_total > 0


def test_a_tenant_is_not_turned_away_for_what_others_have_waiting(clock: list[float]) -> None:
    core = engine(TenantLimits(name="a"), TenantLimits(name="b"), max_queued=1000, max_queue_seconds=5.0)
    for number in range(30):
        core.add(ALICE, request(number, tenant="a"))
    for _ in range(40):
        core.step()
        clock[0] += 1.0
    assert reason(core.add(ALICE, request(100, tenant="a"))) is RejectReason.QUEUE_FULL
    assert core.add(BOB, request(1, tenant="b")) is None


def test_an_engine_that_has_just_begun_turns_nobody_away_for_the_wait(clock: list[float]) -> None:
    core = engine(max_queued=1000, max_queue_seconds=0.5)
    for number in range(30):
        assert core.add(ALICE, request(number)) is None
        core.step()
        clock[0] += 0.01
        if core.scheduler.counters.admissions >= 4:
            return
