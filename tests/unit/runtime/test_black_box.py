from __future__ import annotations

import math
import stat
from pathlib import Path

import pytest

from runtime.black_box import RELATED_SECONDS, BlackBox, PulseReader, box_path

A, B, C = (bytes([n]) * 12 for n in b"abc")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return box_path(str(tmp_path / "engine.sock"))


def test_a_parent_sees_the_last_beat_and_how_long_it_may_wait(path: Path) -> None:
    box = BlackBox(path)
    reader = PulseReader(path)
    assert reader.read().beats == 0
    box.beat(2.5)
    box.beat(math.inf)
    assert reader.read() == (2, math.inf)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_who_was_in_the_last_step_of_two_engines_is_the_killer(path: Path) -> None:
    for entries in ([(A, 0), (B, 0)], [(B, 0), (C, 3)]):
        box = BlackBox(path)
        assert box.killers == set()
        box.enter([(A, 9)])
        box.leave()
        box.enter(entries)
    assert BlackBox(path).killers == {B}
    assert BlackBox(path).killers == set()


def test_who_was_at_another_place_of_its_output_just_happened_to_be_there(path: Path) -> None:
    for generated in (3, 4):
        BlackBox(path).enter([(A, generated)])
    assert BlackBox(path).killers == set()


def test_an_engine_that_ended_between_steps_breaks_the_chain(path: Path) -> None:
    for survived in (False, True, False):
        box = BlackBox(path)
        box.enter([(A, 0)])
        if survived:
            box.leave()
    assert BlackBox(path).killers == set()


def test_ends_far_apart_have_nothing_to_do_with_each_other(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for now in (1000.0, 1001.0 + RELATED_SECONDS):
        monkeypatch.setattr("runtime.black_box.time.monotonic", lambda now=now: now)
        BlackBox(path).enter([(A, 0)])
    assert BlackBox(path).killers == set()


def test_more_entries_than_there_is_room_for_are_cut(path: Path) -> None:
    crowd = [(number.to_bytes(12, "little"), 0) for number in range(5000)]
    for _ in range(2):
        BlackBox(path).enter(crowd)
    assert len(BlackBox(path).killers) == 1000


def test_a_damaged_box_is_no_reason_not_to_start(path: Path) -> None:
    path.write_bytes(b"\xff" * 100_000)
    BlackBox(path)
    path.write_bytes(b"short")
    assert BlackBox(path).killers == set()
