"""What the soaks judge by: the same answer in all its forms, a difference that is found, schedules of their seed."""

from __future__ import annotations

import json
import random
from collections import Counter
from itertools import pairwise
from typing import Any

import pytest

from benchmarks.load.slo import Slo
from benchmarks.soak.answers import UnreadableError, difference, read_stream, read_whole
from benchmarks.soak.asks import Ask, pool
from benchmarks.soak.clients import Client
from benchmarks.soak.faults import ENGINE_DEATHS, ENGINE_REST, schedule
from benchmarks.soak.http_call import Reply
from benchmarks.soak.ledger import ANSWERED, BROKEN, FAILED, LEFT, ORPHANED, REFUSED, SHED, VIOLATION, Ledger
from benchmarks.soak.overload import queue_limit
from benchmarks.soak.traces import timed_trace

COMPLETION = Ask(api="completions", body={"prompt": "x"})
CHUNKS = [
    {"choices": [{"index": 0, "text": "a", "finish_reason": None}]},
    {"choices": [{"index": 0, "text": "b", "finish_reason": "length"}]},
    {"choices": [], "usage": {"prompt_tokens": 1, "prompt_tokens_details": {"cached_tokens": 5}}},
]
WHOLE = {"choices": [{"index": 0, "text": "ab", "finish_reason": "length"}], "usage": {"prompt_tokens": 1}}


def frames(*documents: dict[str, Any]) -> list[bytes]:
    return [json.dumps(document).encode() for document in documents]


def test_a_stream_says_what_the_whole_answer_says() -> None:
    whole = read_whole(COMPLETION, json.dumps(WHOLE).encode())
    streamed = read_stream(COMPLETION, [*frames(*CHUNKS), b"[DONE]"])
    assert difference(whole, streamed, whole=True) == ""
    assert difference(whole, read_stream(COMPLETION, frames(CHUNKS[0])), whole=False) == ""
    assert difference(whole, read_stream(COMPLETION, frames(CHUNKS[0])), whole=True)


@pytest.mark.parametrize(
    "changed",
    [
        {"text": "ac"},
        {"finish_reason": "stop"},
        {"index": 1},
        {"logprobs": {"tokens": ["a"], "token_logprobs": [-1.0], "top_logprobs": [{}], "text_offset": [0]}},
    ],
)
def test_any_change_is_a_difference(changed: dict[str, Any]) -> None:
    whole = read_whole(COMPLETION, json.dumps(WHOLE).encode())
    other = WHOLE | {"choices": [{**CHUNKS[1]["choices"][0], "text": "ab"} | changed]}
    assert difference(whole, read_whole(COMPLETION, json.dumps(other).encode()), whole=True)


def test_nothing_may_come_after_the_end() -> None:
    with pytest.raises(UnreadableError, match="after the end"):
        read_stream(COMPLETION, [b"[DONE]", b"[DONE]"])


def test_what_is_drawn_is_a_function_of_the_seed() -> None:
    asks = pool(50, 3, 259)
    assert asks == pool(60, 3, 259)[:50]
    assert {ask.api for ask in asks} == {"generate", "completions", "chat"}
    trace = timed_trace(random.Random(1), asks, 40, 10.0)
    assert trace == timed_trace(random.Random(1), asks, 40, 10.0)
    assert [sending.at for sending in trace] == sorted(sending.at for sending in trace)
    assert all(asks[sending.ask].streams for sending in trace if sending.stream)


@pytest.mark.parametrize("seed", range(5))
def test_a_schedule_has_every_fault_and_no_more_dead_engines_than_are_replaced(seed: int) -> None:
    faults = schedule(seed, 400)
    assert faults == schedule(seed, 400)
    counts = Counter(fault.kind for fault in faults)
    assert set(counts) == {"kill engine", "stop engine", "kill worker", "stop worker"}
    deaths = [fault.at for fault in faults if fault.kind == "kill engine"]
    rests = [after - before for before, after in pairwise(deaths)]
    assert all(rest > ENGINE_REST for rest in rests[ENGINE_DEATHS - 1 :])


def reply(status: int, end: str, body: Any = b"", **headers: str) -> Reply:
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    return Reply(status, headers, bytearray(data), end, local_port=7)


ERROR_FRAME = b"data: " + frames(CHUNKS[0])[0] + b'\n\ndata: {"error": {"message": "gone"}}\n\n'
FULL, GONE = ({"error": {"message": words}} for words in ("the queue is full", "the engine is restarting"))
RETRY = {"retry-after": "5"}


@pytest.mark.parametrize(
    ("came", "stream", "outcome"),
    [
        (reply(200, "whole", WHOLE), False, ANSWERED),
        (reply(200, "whole", WHOLE | {"usage": {"prompt_tokens": 2}}), False, VIOLATION),
        (reply(200, "whole", ERROR_FRAME), True, BROKEN),
        (reply(200, "whole", ERROR_FRAME.partition(b"\n\n")[0] + b"\n\n"), True, VIOLATION),
        (reply(429, "whole", FULL, **RETRY), False, SHED),
        (reply(429, "whole", FULL), False, VIOLATION),
        (reply(503, "whole", GONE, **RETRY), False, FAILED),
        (reply(400, "whole", GONE), False, VIOLATION),
        (reply(0, "left"), False, LEFT),
        (reply(0, "silent"), False, VIOLATION),
        (reply(200, "surplus", WHOLE), False, VIOLATION),
    ],
)
def test_every_reply_is_booked_once(came: Reply, stream: bool, outcome: str) -> None:
    ledger = Ledger([COMPLETION], [read_whole(COMPLETION, json.dumps(WHOLE).encode())], set)
    ledger.enter(Client("polite", "/v1/completions", b"{}", stream=stream, ask=0), came)
    assert ledger.outcomes == {outcome: 1}
    assert bool(ledger.violations) == (outcome == VIOLATION)


def test_only_those_that_a_killed_worker_was_answering_may_be_cut_off() -> None:
    ledger = Ledger([COMPLETION], [], lambda: {7})
    client = Client("polite", "/v1/completions", b"{}", ask=0)
    ledger.enter(client, reply(0, "cut"))
    ledger.orphaned = set
    ledger.enter(client, reply(0, "cut"))
    assert ledger.outcomes == {ORPHANED: 1, VIOLATION: 1}


def test_what_is_no_request_has_to_be_refused_as_such() -> None:
    ledger = Ledger([], [], set)
    client = Client("malformed", "/generate", b"{", refusals=(417,))
    ledger.enter(client, reply(417, "whole", {"message": "no JSON"}))
    ledger.enter(client, reply(500, "whole", {"message": "internal error"}))
    assert ledger.outcomes == {REFUSED: 1, VIOLATION: 1}


def test_a_queue_is_as_long_as_the_objective_lets_the_last_one_wait() -> None:
    assert queue_limit(Slo(ttft=2.0)) == ["--max_queue_seconds", "1"]
    assert queue_limit(Slo()) == []
