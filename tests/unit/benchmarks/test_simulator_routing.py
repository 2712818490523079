"""Routers know what they were told and what they sent."""

from __future__ import annotations

from collections import Counter

import pytest

from benchmarks.simulate.index import BLOCK, PrefixIndex, prefix_keys
from benchmarks.simulate.routing import ROUTERS, LeastLoad, PrefixAffinity, Random, Router, TwoChoices, View
from benchmarks.simulate.trace import Arrival, Segment


def asks(system: str, question: str, tokens: int = 4 * BLOCK) -> Arrival:
    return Arrival(seconds=0.0, prompt=[Segment(system, tokens), Segment(question, 40)], output=5, limit=5)


def view(*loads: float) -> View:
    made = View(capacity=100_000)
    made.report(dict(enumerate(loads)))
    return made


def send(router: Router, seen: View, arrival: Arrival) -> int:
    number = router.choose(seen, arrival)
    seen.sent(number, arrival)
    router.sent(number, arrival)
    return number


def test_what_was_sent_counts_until_the_next_report() -> None:
    router, seen = LeastLoad(1), view(0.0, 0.001)
    assert [send(router, seen, asks("a", f"{number}")) for number in range(3)] == [0, 1, 0]
    seen.report({0: 0.0, 1: 0.001})
    assert router.choose(seen, asks("a", "late")) == 0


def test_the_better_of_two_evens_loads_out() -> None:
    def spread(router: Router) -> int:
        seen = view(*[0.0] * 20)
        counts = Counter(send(router, seen, asks("a", f"{number}")) for number in range(1000))
        return max(counts.values()) - min(counts[number] for number in range(20))

    assert spread(TwoChoices(1)) < spread(Random(1))


def test_affinity_goes_where_the_beginning_is() -> None:
    router, seen = PrefixAffinity(1), view(*[0.0] * 10)
    first = send(router, seen, asks("system", "one"))
    assert all(send(router, seen, asks("system", f"{number}")) == first for number in range(2))
    assert {send(router, view(*[0.0] * 10), asks(f"other {number}", "x")) for number in range(30)} != {first}


def test_affinity_leaves_who_is_too_busy() -> None:
    router, seen = PrefixAffinity(1, bound=0.2), view(*[0.0] * 10)
    first = send(router, seen, asks("system", "one"))
    seen.report({number: 0.9 if number == first else 0.0 for number in range(10)})
    assert router.choose(seen, asks("system", "two")) != first


def test_affinity_forgets_who_is_gone() -> None:
    router, seen = PrefixAffinity(1), view(0.0, 0.0, 0.0)
    first = send(router, seen, asks("system", "one"))
    seen.report({number: 0.0 for number in range(3) if number != first})
    assert router.choose(seen, asks("system", "two")) != first
    router.lost(first)
    seen.report(dict.fromkeys(range(3), 0.0))
    assert {router.choose(seen, asks("system", "two")) for _ in range(40)} == {0, 1, 2}


def test_the_index_knows_the_longest_beginning_first() -> None:
    index = PrefixIndex(remembered=1000)
    whole, part = asks("system", "one", 4 * BLOCK), asks("system", "two", 2 * BLOCK)
    index.add(1, prefix_keys(part))
    index.add(2, prefix_keys(whole))
    assert [sorted(holders) for holders in index.holders(prefix_keys(asks("system", "new")))] == [
        [2],
        [2],
        [1, 2],
        [1, 2],
    ]
    index.forget(2)
    assert [*index.holders(prefix_keys(whole))] == [[1], [1]]


def test_the_index_forgets_what_was_sent_longest_ago() -> None:
    index = PrefixIndex(remembered=4 * BLOCK // 16)
    for number in range(5):
        index.add(0, prefix_keys(asks(f"system {number}", "question")))
    assert not [*index.holders(prefix_keys(asks("system 0", "question")))]
    assert len([*index.holders(prefix_keys(asks("system 4", "question")))]) == 4


@pytest.mark.parametrize("name", ROUTERS)
def test_every_policy_takes_one_that_is_there(name: str) -> None:
    router, seen = ROUTERS[name](1), View(capacity=1000)
    seen.report({3: 0.5, 7: 0.4})
    assert {send(router, seen, asks("system", f"{number}")) for number in range(20)} <= {3, 7}
