"""The simulator loses nobody, repeats itself, and keeps the scheduler's books."""

from __future__ import annotations

import math
from pathlib import Path

import msgspec
import numpy as np
import pytest

from benchmarks.simulate.cost import KNOTS, CostModel, Load, fit
from benchmarks.simulate.fleet import Autoscaling, Failure, Fleet
from benchmarks.simulate.replica import EngineSettings, Replica, Served
from benchmarks.simulate.result import Objective, summarise
from benchmarks.simulate.routing import LEAST_OF_ALL, Router
from benchmarks.simulate.trace import Arrival, Segment, read_trace, write_trace
from benchmarks.simulate.traffic import TRAFFIC, Source
from runtime.request import FinishReason
from runtime.scheduler import Aggressive, FuturePeak

COST = CostModel(curve=[0.001 * (1 + knot / 32) for knot in KNOTS], key=1e-8, product=1e-9, output=1e-5)
DONE = (FinishReason.STOP, FinishReason.LENGTH)


def fleet(size: int = 1, router: str = "least_of_all", check: bool = False, **changes: object) -> Fleet:
    settings = EngineSettings(kv_tokens=4096, max_running=16)

    def make(number: int) -> Replica:
        return Replica(number, COST, settings, Aggressive, check=check)

    return Fleet(make=make, size=size, router=Router(router, 1), **changes)  # type: ignore[arg-type]


def traffic(name: str = "chat", rate: float = 20.0, count: int = 40, seed: int = 1) -> list[Arrival]:
    return TRAFFIC[name](Source(seed, 2048), rate, count)


def test_one_request_takes_the_time_of_its_steps() -> None:
    arrival = Arrival(seconds=1.0, prompt=[Segment("question", 40)], output=3, limit=10)
    (served,) = fleet().run([arrival])
    first = COST.seconds(Load(tokens=40, keys=0, products=40 * 20, outputs=1))
    second = COST.seconds(Load(tokens=1, keys=41, products=0, outputs=1))
    assert (served.tokens, served.finish) == (3, FinishReason.STOP)
    assert served.to_first == pytest.approx(first)
    assert served.longest_gap == pytest.approx(second, rel=1e-3)


@pytest.mark.parametrize("name", TRAFFIC)
def test_every_request_gets_its_tokens(name: str) -> None:
    arrivals = traffic(name)
    outcomes = fleet().run(arrivals)
    assert all(arrival.prompt_tokens + arrival.limit <= 2048 for arrival in arrivals)
    assert [arrival.seconds for arrival in arrivals] == sorted(arrival.seconds for arrival in arrivals)
    assert [served.tokens for served in outcomes] == [arrival.generated for arrival in arrivals]
    assert all(served.finish in DONE and served.to_first > 0 for served in outcomes)


def test_a_request_that_its_client_leaves_frees_what_it_held() -> None:
    arrivals = [msgspec.structs.replace(arrival, patience=0.05) for arrival in traffic(rate=200.0)]
    left = fleet(check=True)
    gone = [served for served in left.run(arrivals) if served.finish is FinishReason.ABORT]
    assert gone
    assert all(served.tokens < served.arrival.generated for served in gone)
    assert left.replicas[0].scheduler.kv.referenced == 0
    assert not left.replicas[0].scheduler.has_work


def test_a_seed_gives_one_run() -> None:
    def run(seed: int) -> list[float]:
        return [served.last for served in fleet(3, "least_loaded").run(traffic(seed=seed))]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_preemption_costs_time_and_nothing_else() -> None:
    arrivals = traffic(rate=500.0, count=40)
    busy = fleet(check=True)
    outcomes = busy.run(arrivals)
    assert busy.replicas[0].scheduler.counters.preemptions > 0
    assert [served.tokens for served in outcomes] == [arrival.generated for arrival in arrivals]


def test_conversations_find_what_was_said_before() -> None:
    cached = summarise(fleet().run(traffic("conversations")), Objective()).cached
    assert cached > 0.5 > summarise(fleet().run(traffic("chat")), Objective()).cached


def test_affinity_finds_more_than_chance() -> None:
    def cached(router: str) -> float:
        return summarise(fleet(6, router).run(traffic("assistants", count=80)), Objective()).cached

    assert cached("prefix") > cached("random")


def test_what_overflows_the_queue_is_refused() -> None:
    settings = EngineSettings(kv_tokens=4096, max_running=4, max_queued=5)
    small = Fleet(make=lambda number: Replica(number, COST, settings, FuturePeak), size=1, router=Router(LEAST_OF_ALL))
    outcomes = small.run(traffic(rate=1000.0))
    refused = [served for served in outcomes if served.finish is FinishReason.NONE]
    assert 0 < len(refused) < len(outcomes)
    summary = summarise(outcomes, Objective())
    assert summary.refused + summary.answered == summary.requests == len(outcomes)


def test_requests_survive_the_death_of_a_replica() -> None:
    arrivals = traffic(rate=200.0, count=100)
    outcomes = fleet(2, failures=[Failure(0.2, 0, away=0.5)]).run(arrivals)
    assert [served.tokens for served in outcomes] == [arrival.generated for arrival in arrivals]
    assert {served.replica for served in outcomes} == {0, 1}


def test_without_another_try_the_dead_replicas_requests_fail() -> None:
    outcomes = fleet(2, failures=[Failure(0.2, 0, away=0.5)], retries=0).run(traffic(rate=200.0, count=100))
    failed = [served for served in outcomes if served.finish is FinishReason.ERROR]
    assert failed
    assert all(served.finish in (*DONE, FinishReason.ERROR) for served in outcomes)


def test_the_number_of_replicas_follows_the_load() -> None:
    busy = traffic(rate=400.0, count=150)
    scaled = fleet(1, autoscaling=Autoscaling(least=1, most=8, every=0.2, start=0.1, patience=1.0))
    outcomes = scaled.run([*busy, Arrival(seconds=60.0, prompt=[Segment("late", 8)], output=1, limit=1)])
    assert max(size for _, size in scaled.sizes) > 2
    assert scaled.sizes[-1][1] == 1
    assert all(served.finish in DONE for served in outcomes)


def test_traces_are_read_back(tmp_path: Path) -> None:
    arrivals = traffic("conversations")
    write_trace(tmp_path / "trace.jsonl", arrivals)
    assert read_trace(tmp_path / "trace.jsonl") == arrivals


@pytest.mark.parametrize("line", ["{", '{"seconds": 1}', '{"seconds":-1,"prompt":[["a",1]],"output":1,"limit":1}'])
def test_a_line_that_is_no_request_is_named(tmp_path: Path, line: str) -> None:
    path = tmp_path / "trace.jsonl"
    path.write_text('{"seconds":0,"prompt":[["a",1]],"output":1,"limit":1}\n' + line + "\n")
    with pytest.raises(ValueError, match=r"trace.jsonl:2: "):
        read_trace(path)


def test_a_model_is_found_from_the_steps_that_it_makes() -> None:
    rng = np.random.default_rng(0)
    loads = [
        Load(tokens=int(tokens), keys=int(keys), products=int(products), outputs=int(outputs))
        for tokens, keys, products, outputs in zip(
            rng.choice(KNOTS, 200),
            rng.integers(1, 60000, 200),
            rng.integers(0, 200000, 200),
            rng.integers(1, 64, 200),
            strict=True,
        )
    ]
    found = fit(loads, [COST.seconds(load) for load in loads])
    assert found.error < 0.01
    for load in loads:
        assert found.seconds(load) == pytest.approx(COST.seconds(load), rel=0.05)


def test_an_objective_is_kept_or_not() -> None:
    arrival = Arrival(seconds=1.0, prompt=[Segment("a", 1)], output=3, limit=3)
    served = Served(arrival, first=2.0, last=2.2, tokens=3, finish=FinishReason.LENGTH)
    assert Objective(first=1.0, gap=0.11).kept(served)
    assert not Objective(first=0.9, gap=0.11).kept(served)
    assert not Objective(first=1.0, gap=0.09).kept(served)
    assert not Objective(first=math.inf, gap=math.inf).kept(Served(arrival))
