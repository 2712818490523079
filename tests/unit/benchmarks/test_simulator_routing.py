"""Simulated routers know what they were told and what they sent, and choose as real ones do."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import pytest

from benchmarks.simulate.routing import LEAST_OF_ALL, ROUTERS, Router, View
from benchmarks.simulate.trace import Arrival, Segment
from server.fleet.report import Report

BLOCK = 16


def asks(system: str, question: str, tokens: int = 16 * BLOCK) -> Arrival:
    return Arrival(seconds=0.0, prompt=[Segment(system, tokens), Segment(question, 40)], output=5, limit=5)


def tell(seen: View, loads: Sequence[float], number: int, cached: dict[int, Sequence[bytes]] | None = None) -> View:
    found = cached or {}
    seen.report({n: Report(number, load, 100_000, frozenset(found.get(n, ()))) for n, load in enumerate(loads)})
    return seen


def view(*loads: float) -> View:
    made = View()
    made.members(range(len(loads)))
    return tell(made, loads, 1)


def send(router: Router, seen: View, arrival: Arrival) -> int:
    demand = router.demand(arrival, BLOCK)
    number = router.choose(seen, demand)
    seen.sent(number, demand)
    return number


def test_what_was_sent_counts_until_the_next_report() -> None:
    router, seen = Router(LEAST_OF_ALL), view(0.0, 0.001)
    assert [send(router, seen, asks("a", f"{number}")) for number in range(3)] == [0, 1, 0]
    tell(seen, (0.0, 0.001), 2)
    assert send(router, seen, asks("a", "late")) == 0


def test_the_better_of_two_evens_loads_out() -> None:
    def spread(policy: str) -> int:
        router, seen = Router(policy, 1), view(*[0.0] * 20)
        counts = Counter(send(router, seen, asks("a", f"{number}")) for number in range(1000))
        return max(counts.values()) - min(counts[number] for number in range(20))

    assert spread("least_loaded") < spread("random")


def test_affinity_goes_where_the_beginning_is() -> None:
    router, seen = Router("prefix", 1), view(*[0.0] * 10)
    first = send(router, seen, asks("system", "one"))
    assert all(send(router, seen, asks("system", f"{number}")) == first for number in range(2))
    assert {send(router, view(*[0.0] * 10), asks(f"other {number}", "x")) for number in range(30)} != {first}


def test_routers_learn_from_reports_what_others_have_sent() -> None:
    router, seen = Router("prefix", 1), view(*[0.0] * 10)
    cached = router.demand(asks("system", "one"), BLOCK).prefixes
    tell(seen, [0.0] * 10, 2, {7: cached})
    assert {send(router, seen, asks("system", f"{number}")) for number in range(5)} == {7}


def test_affinity_leaves_who_is_too_busy() -> None:
    router, seen = Router("prefix", 1), view(*[0.0] * 10)
    first = send(router, seen, asks("system", "one"))
    tell(seen, [0.9 if number == first else 0.0 for number in range(10)], 2)
    assert send(router, seen, asks("system", "two")) != first


def test_affinity_forgets_who_is_gone() -> None:
    router, seen = Router("prefix", 1), view(0.0, 0.0, 0.0)
    first = send(router, seen, asks("system", "one"))
    seen.members(number for number in range(3) if number != first)
    demand = router.demand(asks("system", "two"), BLOCK)
    assert router.choose(seen, demand) != first
    seen.members(range(3))
    tell(seen, [0.0] * 3, 2)
    assert {router.choose(seen, demand) for _ in range(40)} == {0, 1, 2}


@pytest.mark.parametrize("policy", ROUTERS)
def test_every_policy_takes_one_that_is_there(policy: str) -> None:
    router, seen = Router(policy, 1), View()
    seen.members((3, 7))
    assert {send(router, seen, asks("system", f"{number}")) for number in range(20)} <= {3, 7}
