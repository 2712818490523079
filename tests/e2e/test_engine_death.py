"""The real engine, killed under load: what sixteen streams say, with ``--replay`` and without."""

from __future__ import annotations

import os
import re
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

from serving import Server

STREAMS = 16
TOKENS = 64


@contextmanager
def serving(*flags: str) -> Iterator[Server]:
    server = Server("--max_req_total_len", "512", *flags)
    try:
        yield server
    finally:
        assert server.stop() == 0


def ask(server: Server, number: int, on_token: Callable[[int], object]) -> list[tuple[int, float]]:
    """Tokens and log-probabilities of a stream; every other one is sampled, some with penalties."""
    fields: dict[str, Any] = {"max_new_tokens": TOKENS, "ignore_eos": True, "do_sample": bool(number % 2)}
    if number % 2:
        fields |= {"temperature": 1.0, "top_p": 0.95, "seed": number, "frequency_penalty": 0.1 * (number % 4)}
    events = []
    for event in server.events(f"{number}. Tell me about the sea and the {number} winds:", **fields):
        events.append(event)
        on_token(number)
    assert events[-1]["finished"]
    assert events[-1].get("error") is None, events[-1]
    assert [event["token"]["count_output_tokens"] for event in events] == [*range(1, TOKENS + 1)]
    return [(event["token"]["id"], event["token"]["logprob"]) for event in events]


def crowd(server: Server, on_token: Callable[[int], object] = lambda _: None) -> list[list[tuple[int, float]]]:
    with ThreadPoolExecutor(STREAMS) as pool:
        return list(pool.map(lambda number: ask(server, number, on_token), range(STREAMS)))


def test_with_replay_sixteen_streams_survive_two_engines() -> None:
    with serving("--replay") as server:
        undisturbed = crowd(server)
        lock, tokens, kills = threading.Lock(), 0, [STREAMS * 12, STREAMS * 36]

        def count(_: int) -> None:
            nonlocal tokens
            with lock:
                tokens += 1
                if kills and tokens == kills[0]:
                    kills.pop(0)
                    os.kill(server.engine_pid(), signal.SIGKILL)

        assert crowd(server, count) == undisturbed
        assert not kills
        log = "".join(server.log)
        assert log.count("the engine is back") == 2
        metrics = server.request("GET", "/metrics")[1].decode()
        replays = re.search(r"^peregrine_request_replays_total (\S+)", metrics, re.MULTILINE)
        assert replays is not None
        assert STREAMS < float(replays[1]) <= 2 * STREAMS, "some may have ended before the second engine died"
        assert f"lightllm_request_success_total {float(2 * STREAMS)}" in metrics
        assert f"lightllm_request_generated_tokens_sum {float(2 * STREAMS * TOKENS)}" in metrics


def test_without_replay_each_of_sixteen_requests_gets_its_error() -> None:
    with serving() as server, ThreadPoolExecutor(STREAMS) as pool:
        begun = threading.Barrier(STREAMS + 1, timeout=60)

        def read(number: int) -> Any:
            if number % 2:
                begun.wait()
                body = {"inputs": f"{number} winds", "parameters": {"max_new_tokens": 400, "ignore_eos": True}}
                return server.request("POST", "/generate", body)
            events = server.events(f"{number} winds", max_new_tokens=400, ignore_eos=True)
            next(events)
            begun.wait()
            return list(events)[-1]

        answers = [pool.submit(read, number) for number in range(STREAMS)]
        begun.wait()
        os.kill(server.engine_pid(), signal.SIGKILL)
        for number, answer in enumerate(answers):
            if number % 2:
                assert answer.result()[0] in (200, 503), "one that came after the kill may have found the next engine"
            else:
                assert (answer.result()["finished"], answer.result()["finish_reason"]) == (True, "error")
        server.wait_healthy(10)
        assert server.generate("What is AI?", max_new_tokens=4)["count_output_tokens"] == 4
