"""Which engine a request goes to."""

from __future__ import annotations

import random

from runtime.scheduler.prefix_digest import prompt_digests
from runtime.stats import EngineStats
from server.fleet.report import Report, as_routing_stats, kv_load, read_report
from server.fleet.routing import REMEMBERED_PREFIXES, Candidate, Demand, choose

PROMPT = prompt_digests("", range(64), 16)


def engine(load: float, *prefixes: bytes, number: int = 1) -> Candidate:
    made = Candidate()
    made.update(Report(number, load, 1000, frozenset(prefixes)))
    return made


def test_the_less_loaded_of_two_is_taken() -> None:
    engines = {"busy": engine(0.6), "idle": engine(0.1)}
    assert choose("least_loaded", engines, Demand(), 0.25, random.Random(0)) == "idle"


def test_chance_reaches_every_engine() -> None:
    engines = {name: engine(0.0) for name in "abc"}
    draw = random.Random(0)
    assert {choose("random", engines, Demand(), 0.25, draw) for _ in range(50)} == {"a", "b", "c"}


def test_the_longest_cached_prefix_wins_while_loads_are_near() -> None:
    engines = {"none": engine(0.1), "short": engine(0.1, PROMPT[0]), "long": engine(0.3, *PROMPT[:3])}
    assert choose("prefix", engines, Demand(100, PROMPT), 0.25, random.Random(0)) == "long"


def test_a_prefix_does_not_pile_load_on_one_engine() -> None:
    engines = {"idle": engine(0.0), "has it": engine(0.6, *PROMPT)}
    assert choose("prefix", engines, Demand(100, PROMPT), 0.25, random.Random(0)) == "idle"
    engines["has it"] = engine(0.4, *PROMPT)
    assert choose("prefix", engines, Demand(100, PROMPT), 0.25, random.Random(0)) == "has it"


def test_what_was_sent_counts_until_the_next_report() -> None:
    candidate = engine(0.2)
    candidate.send(Demand(300, PROMPT[:2]))
    assert candidate.load == 0.5
    assert candidate.cached_blocks(PROMPT) == 2
    candidate.update(Report(1, 0.2, 1000, frozenset()))
    assert candidate.load == 0.5, "the report is the one that it had"
    candidate.update(Report(2, 0.4, 1000, frozenset()))
    assert candidate.load == 0.4


def test_an_engine_that_has_not_said_how_large_it_is_is_full_with_one_request() -> None:
    new = Candidate()
    new.send(Demand(10))
    assert new.load == 1.0


def test_a_prefix_is_cached_as_far_as_all_of_its_beginning_is() -> None:
    assert engine(0.0, PROMPT[0], PROMPT[2]).cached_blocks(PROMPT) == 1
    assert engine(0.0, *PROMPT).cached_blocks(PROMPT) == len(PROMPT)


def test_a_router_remembers_a_bounded_number_of_prefixes() -> None:
    candidate = engine(0.0)
    for start in range(0, REMEMBERED_PREFIXES * 2, 1000):
        candidate.send(Demand(0, [index.to_bytes(8, "big") for index in range(start, start + 1000)]))
    assert len(candidate.sent_prefixes) == REMEMBERED_PREFIXES


def test_reports_arrive_as_they_were_sent() -> None:
    stats = EngineStats(running=2, waiting=1, peak_tokens=400, capacity_tokens=1000)
    report = read_report(as_routing_stats(7, stats, b"".join(PROMPT)))
    assert report == Report(7, kv_load(stats), 1000, frozenset(PROMPT))
    assert read_report({}) == Report()


def test_requests_that_wait_add_to_the_load() -> None:
    full = EngineStats(running=4, waiting=0, peak_tokens=900, capacity_tokens=1000)
    queue = EngineStats(running=4, waiting=4, peak_tokens=900, capacity_tokens=1000)
    assert (kv_load(full), kv_load(queue)) == (0.9, 1.8)
