"""Engines die and hang: clients get what they would have got."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest
from e2e.serving import Server
from fleet_streams import Fleet, engine_processes, engine_replicas, stream, streams

REQUESTS = 200
TOKENS = 24


def test_texts_are_those_of_one_server_when_an_engine_dies_under_load(fleet: Fleet) -> None:
    alone = Server("--threads", "1", ray=False)
    with ThreadPoolExecutor(16) as pool:
        expected = [future.result() for future in streams(pool, alone, REQUESTS, TOKENS)]
    assert alone.stop() == 0
    server = fleet("--replicas", "2")
    first, second = engine_replicas(server)
    with ThreadPoolExecutor(REQUESTS) as pool:
        running = streams(pool, server, REQUESTS, TOKENS)
        running[REQUESTS // 4].result()
        os.kill(first, signal.SIGKILL)
        outcomes = [future.result() for future in running]
    assert [outcome for outcome in outcomes if outcome.error] == []
    assert outcomes == expected
    assert second in engine_replicas(server)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_a_stream_goes_on_elsewhere_when_its_engine_dies_or_hangs(fleet: Fleet, number: signal.Signals) -> None:
    server = fleet("--replicas", "2", "--step_timeout", "2")
    expected = stream(server, 0, 400)
    with ThreadPoolExecutor(2) as pool:
        running = [pool.submit(stream, server, 0, 400) for _ in range(2)]
        while server.load() == 0:
            assert not any(future.done() for future in running)
        first, _ = engine_processes(server)
        os.kill(first, number)
        assert [future.result() for future in running] == [expected] * 2
