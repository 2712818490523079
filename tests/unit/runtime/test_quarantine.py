from __future__ import annotations

import dataclasses

from runtime.quarantine import Quarantine, fingerprint
from runtime.request import SamplingParams

PARAMS = SamplingParams(max_new_tokens=4, stop_sequences=((1, 2),), seed=3)


def test_a_fingerprint_is_of_all_that_is_asked_for_but_the_seed() -> None:
    same = fingerprint([1, 2], PARAMS, 1)
    assert fingerprint([1, 2], dataclasses.replace(PARAMS, seed=4), 1) == same
    others = [
        fingerprint([1, 2, 3], PARAMS, 1),
        fingerprint([1, 2], PARAMS, 2),
        fingerprint([1, 2], dataclasses.replace(PARAMS, max_new_tokens=5), 1),
        fingerprint([1, 2], dataclasses.replace(PARAMS, stop_sequences=((2, 1),)), 1),
    ]
    assert len({same, *others}) == 5


def test_who_is_quarantined_leaves_after_a_while_and_the_oldest_makes_room() -> None:
    now = 0.0
    quarantine = Quarantine(seconds=10, capacity=2, clock=lambda: now)
    assert not quarantine
    quarantine.add(b"a")
    now = 5.0
    quarantine.add(b"b")
    assert b"a" in quarantine
    now = 10.0
    assert b"a" not in quarantine
    assert b"b" in quarantine
    quarantine.add(b"c")
    quarantine.add(b"b")
    quarantine.add(b"d")
    assert [name in quarantine for name in (b"b", b"c", b"d")] == [True, False, True]
