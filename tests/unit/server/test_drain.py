"""How a worker leaves, and how it is told to."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from server.drain import QUIET_SECONDS, Departure
from server.phase import Phase, PhaseReader, write_phase

KEEPALIVE = 30.0


@dataclass
class Worker:
    told_to_stop: bool = False
    connections: int = 0
    left: list[bool] = field(default_factory=list)

    def leave(self) -> None:
        self.left.append(True)


def departure(worker: Worker, phase: Phase = Phase.SERVING) -> Departure:
    return Departure(worker, lambda: phase, KEEPALIVE)


def seconds_until_it_leaves(
    monkeypatch: pytest.MonkeyPatch, worker: Worker, phase: Phase, busy: Iterator[int]
) -> float:
    """Poll with a clock that only the polls turn."""

    async def nothing() -> None:
        assert not worker.left

    async def run() -> float:
        loop = asyncio.get_running_loop()
        now, passes = [0.0], asyncio.sleep

        async def sleep(seconds: float) -> None:
            now[0] += seconds
            await passes(0)

        monkeypatch.setattr(loop, "time", lambda: now[0])
        monkeypatch.setattr("server.drain.asyncio.sleep", sleep)
        await departure(worker, phase).leave_when_quiet(lambda: next(busy, 0), nothing)
        return now[0]

    return asyncio.run(run())


def test_a_worker_leaves_once_it_has_been_quiet_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(told_to_stop=True, connections=5)
    seconds = seconds_until_it_leaves(monkeypatch, worker, Phase.ENDING, iter([1, 1, 0, 1]))
    assert worker.left == [True]
    assert 4 * 0.2 + QUIET_SECONDS <= seconds < 4 * 0.2 + QUIET_SECONDS + 0.5


def test_a_worker_that_retires_waits_for_its_idle_connections(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(told_to_stop=True, connections=1)
    assert seconds_until_it_leaves(monkeypatch, worker, Phase.RETIRING, iter([])) >= KEEPALIVE


def test_a_worker_that_retires_without_connections_does_not_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    assert seconds_until_it_leaves(monkeypatch, Worker(told_to_stop=True), Phase.RETIRING, iter([])) < 2


def test_a_worker_that_is_not_told_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker()

    def tell_after(polls: int) -> Iterator[int]:
        for _ in range(polls):
            assert not worker.left
            yield 0
        worker.told_to_stop = True
        yield 0

    assert seconds_until_it_leaves(monkeypatch, worker, Phase.SERVING, tell_after(50)) >= 10


@pytest.mark.parametrize("phase", [Phase.LAME_DUCK, Phase.RETIRING, Phase.ENDING])
def test_every_phase_but_serving_is_announced(phase: Phase) -> None:
    assert departure(Worker(), phase).announced()
    assert not departure(Worker()).announced()
    assert departure(Worker(told_to_stop=True)).announced()


def test_a_reader_sees_what_is_written_later(tmp_path: Path) -> None:
    write_phase(tmp_path, Phase.SERVING)
    phase = PhaseReader(tmp_path)
    seen = [phase()]
    for later in (Phase.LAME_DUCK, Phase.SERVING, Phase.ENDING):
        write_phase(tmp_path, later)
        seen.append(phase())
    assert seen == [Phase.SERVING, Phase.LAME_DUCK, Phase.SERVING, Phase.ENDING]
