"""Many requests at once, clients that leave, an engine that dies."""

from __future__ import annotations

import itertools
import json
import os
import signal
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from serving import Server

from benchmarks.processes import resident_megabytes

TOPICS = ["rain", "bread", "stars", "trains", "music", "glass", "bees", "salt"]


def prompts(count: int) -> list[str]:
    return [f"{i}. Tell me something about {TOPICS[i % 8]} and {TOPICS[i * 3 % 7]}:" for i in range(count)]


def test_a_short_request_beside_a_long_one_returns_at_once(server: Server) -> None:
    long = server.events("Write a very long story.", max_new_tokens=700, ignore_eos=True)
    next(long)
    counted: list[int] = []
    reader = threading.Thread(target=lambda: counted.extend(event["token"]["count_output_tokens"] for event in long))
    reader.start()
    answer = server.generate("What is AI?", max_new_tokens=8)
    done_at = len(counted)
    reader.join()
    assert answer["count_output_tokens"] == 8
    assert done_at < 350, "the short request waited for the long one"
    assert counted[-1] == 700


def test_greedy_output_in_a_crowd_is_that_of_a_run_alone(server: Server) -> None:
    lengths = [16 + 5 * (i % 9) for i in range(24)]

    def ask(number: int) -> Any:
        return server.generate(prompts(24)[number], max_new_tokens=lengths[number], return_details=True)

    alone = [ask(number) for number in range(24)]
    with ThreadPoolExecutor(24) as pool:
        crowd = list(pool.map(ask, range(24)))
    assert crowd == alone


def test_two_streams_interleave_and_keep_their_own_counts(server: Server) -> None:
    order: list[int] = []

    def read(number: int) -> list[int]:
        counts = []
        for event in server.events(prompts(2)[number], max_new_tokens=80, ignore_eos=True):
            order.append(number)
            counts.append(event["token"]["count_output_tokens"])
        return counts

    with ThreadPoolExecutor(2) as pool:
        counts = list(pool.map(read, range(2)))
    assert counts == [list(range(1, 81))] * 2
    switches = sum(a != b for a, b in itertools.pairwise(order))
    assert switches > 20


@pytest.mark.paged
def test_a_repeated_prompt_gives_the_same_text_from_the_cache(server: Server) -> None:
    text = "The history of the lighthouse is long. " * 20
    first = server.generate(text, max_new_tokens=24)
    hits = metric(server, "vllm:prefix_cache_hits_total")
    assert server.generate(text, max_new_tokens=24) == first
    assert metric(server, "vllm:prefix_cache_hits_total") > hits


def metric(server: Server, name: str) -> float:
    lines = server.request("GET", "/metrics")[1].decode().splitlines()
    return sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith((name + " ", name + "{")))


def test_closing_connections_frees_their_memory(server: Server) -> None:
    streams = [server.events(prompt, max_new_tokens=1000, ignore_eos=True) for prompt in prompts(8)]
    for stream in streams:
        next(stream)
    assert server.load() > 0
    for stream in streams:
        stream.close()  # type: ignore[attr-defined]
    closed = time.monotonic()
    while server.load() > 0:
        assert time.monotonic() - closed < 3, "the load did not return to 0"


def test_a_plain_call_whose_client_leaves_is_freed_too(server: Server) -> None:
    connection = server.connect()
    body = json.dumps({"inputs": "On and on", "parameters": {"max_new_tokens": 2000, "ignore_eos": True}})
    connection.request("POST", "/generate", body)
    deadline = time.monotonic() + 10
    while server.load() == 0:
        assert time.monotonic() < deadline
    connection.close()
    closed = time.monotonic()
    while server.load() > 0:
        assert time.monotonic() - closed < 3, "the load did not return to 0"


@pytest.mark.parametrize(("number", "seconds"), [(signal.SIGKILL, 10), (signal.SIGSTOP, 15)])
def test_a_dead_or_hung_engine_costs_an_error_each_and_is_replaced(number: signal.Signals, seconds: float) -> None:
    server = Server("--max_req_total_len", "2048", "--step_timeout", "2")
    try:
        streams = [server.events(prompt, max_new_tokens=1500, ignore_eos=True) for prompt in prompts(4)]
        for stream in streams:
            next(stream)
        os.kill(server.engine_pid(), number)
        died = time.monotonic()
        for stream in streams:
            last = list(stream)[-1]
            assert last["finished"]
            assert last["finish_reason"] == "error"
            assert last["error"]
        server.wait_healthy(seconds - (time.monotonic() - died))
        assert server.generate("What is AI?", max_new_tokens=4)["count_output_tokens"] == 4
    finally:
        assert server.stop() == 0


def test_by_flag_a_dead_engine_ends_the_server() -> None:
    server = Server("--max_req_total_len", "256", "--engine_failure", "exit")
    os.kill(server.engine_pid(), signal.SIGKILL)
    assert server.process.wait(10) != 0
    assert server.stop() != 0


def test_signals_leave_no_process_behind() -> None:
    for number in (signal.SIGTERM, signal.SIGINT):
        server = Server("--max_req_total_len", "256")
        children = server.descendants()
        assert len(children) >= 3
        assert server.stop(number) == 0
        assert [pid for pid in children if os.path.exists(f"/proc/{pid}")] == []  # noqa: PTH110


def test_draining_lets_a_running_stream_finish() -> None:
    server = Server("--max_req_total_len", "1024")
    stream = server.events("Count to one hundred.", max_new_tokens=300, ignore_eos=True)
    next(stream)
    server.process.send_signal(signal.SIGTERM)
    events = list(stream)
    assert len(events) == 299
    assert events[-1]["finish_reason"] == "length"
    assert server.process.wait(30) == 0
    server.stop()


@pytest.mark.paged
def test_the_engine_fits_in_700_megabytes(server: Server) -> None:
    assert resident_megabytes(server.engine_pid()) < 700
