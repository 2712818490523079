"""The number of engines follows the load."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

from fleet_streams import Fleet, Outcome, engine_replicas, stream

QUICK = ("--scaling_window", "2", "--upscale_delay", "1", "--downscale_delay", "2")
PATIENCE = 60.0


def test_engines_come_and_go_with_load_and_no_request_fails(fleet: Fleet) -> None:
    small = ("--max_req_total_len", "1024", "--max_total_token_num", "4096")
    server = fleet("--replicas", "1:2", "--target_load", "0.3", *small, *QUICK)
    assert len(engine_replicas(server)) == 1
    outcomes: list[Outcome] = []
    heavy, over = threading.Event(), threading.Event()
    heavy.set()
    numbers = itertools.count()

    def ask(steady: bool) -> None:
        while not over.is_set():
            if heavy.is_set():
                outcomes.append(stream(server, next(numbers) % 200, 48))
            elif steady:  # long enough that an engine has to leave with one of them running
                outcomes.append(stream(server, next(numbers) % 200, 400))
            else:
                over.wait(0.05)

    def replicas() -> int:
        return server.request("GET", "/metrics")[1].count(b"peregrine_replica_kv_load{")

    def wait_for(engines: int) -> None:
        deadline = time.monotonic() + PATIENCE
        while not engines == replicas() == len(engine_replicas(server)):
            assert time.monotonic() < deadline, f"{replicas()} engines, not {engines}"
            over.wait(0.2)

    with ThreadPoolExecutor(32) as pool:
        for number in range(32):
            pool.submit(ask, number < 2)
        try:
            wait_for(2)
            heavy.clear()
            wait_for(1)
        finally:
            over.set()
    assert [outcome.error for outcome in outcomes if outcome.error] == []
