"""The regression gate's judgement: what counts as changed, what as slower, and what it says of it."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.regression.calibration import Spent
from benchmarks.regression.compare import USUAL, WIDE, Band, Move, differences, moves
from benchmarks.regression.report import counters_table, moves_table, spread_table
from benchmarks.regression.timing import Ratio, median, take_turns
from benchmarks.regression.workloads import Workload

COUNTS = st.dictionaries(st.sampled_from("abc"), st.dictionaries(st.sampled_from("xyz"), st.integers(0, 9)))
RATIOS = st.dictionaries(st.sampled_from("abcd"), st.builds(Ratio, st.floats(0.1, 100), st.floats(0.1, 100)))

# What this repository's engine took on a shared machine of two cores, and with its kernels held to no vectors.
RECORDED = {
    "decode, 1 stream": Ratio(8.12, 10.2),
    "decode, 32 streams": Ratio(22.9, 25.0),
    "prefill of 1024 tokens": Ratio(72.1, 58.8),
}
NOISY = {
    "decode, 1 stream": Ratio(8.52, 12.1),
    "decode, 32 streams": Ratio(24.88, 22.1),
    "prefill of 1024 tokens": Ratio(68.1, 68.3),
}


@given(COUNTS)
def test_equal_counters_do_not_differ(counts: dict[str, dict[str, int]]) -> None:
    assert differences(counts, {name: dict(section) for name, section in counts.items()}) == []


@given(COUNTS, COUNTS)
def test_every_counter_that_differs_is_found_once(
    was: dict[str, dict[str, int]], now: dict[str, dict[str, int]]
) -> None:
    def flat(counts: dict[str, dict[str, int]]) -> dict[tuple[str, str], int]:
        return {(section, name): value for section, values in counts.items() for name, value in values.items()}

    old, new = flat(was), flat(now)
    expected = {key for key in old | new if old.get(key) != new.get(key)}
    found = [(difference.section, difference.name) for difference in differences(was, now)]
    assert len(found) == len(set(found))
    assert set(found) == expected


def test_a_section_can_be_left_out() -> None:
    assert differences({"a": {"x": 1}, "b": {"x": 1}}, {"a": {"x": 2}, "b": {"x": 1}}, leave_out="a") == []


def test_a_difference_says_what_was_and_what_is() -> None:
    was, now = {"replay": {"steps": 24, "old": 1}}, {"replay": {"steps": 1025, "new": 2}}
    assert counters_table(differences(was, now), 2).splitlines() == [
        "counters: 3 of 2 differ",
        "  replay: steps: was 24, is 1,025 (+1,001)",
        "  replay: old: was 1, is absent",
        "  replay: new: was absent, is 2",
    ]
    assert counters_table([], 7) == "counters: all 7 as they were"


@given(RATIOS)
def test_nothing_moves_against_itself(ratios: dict[str, Ratio]) -> None:
    found = moves(ratios, ratios, USUAL)
    assert len(found) == 2 * len(ratios)
    assert not any(move.slower or move.faster for move in found)


@given(RATIOS, st.floats(1.01, 50), st.floats(1.1, 4))
def test_slower_is_what_grew_beyond_the_limit(ratios: dict[str, Ratio], factor: float, limit: float) -> None:
    now = {name: Ratio(ratio.cpu * factor, ratio.wall) for name, ratio in ratios.items()}
    for move in moves(ratios, now, Band(limit, limit)):
        assert move.slower == (move.clock == "cpu" and move.factor > limit)
        assert not move.faster


def test_noise_stays_within_the_band_and_a_slow_kernel_does_not() -> None:
    assert not any(move.slower for move in moves(RECORDED, NOISY, USUAL))
    slow = {name: Ratio(ratio.cpu * 2.5, ratio.wall * 2.5) for name, ratio in NOISY.items()}
    assert all(move.slower for move in moves(RECORDED, slow, WIDE) if move.clock == "cpu")


def test_work_that_only_one_side_knows_is_not_compared() -> None:
    assert moves({"a": Ratio(1, 1)}, {"b": Ratio(1, 1)}, USUAL) == []


def test_the_table_says_what_moved_and_by_how_much() -> None:
    lines = moves_table([Move("decode", "cpu", 10.0, 15.0, 1.2), Move("decode", "wall", 10.0, 5.0, 1.6)]).splitlines()
    assert lines[1].split() == ["decode", "cpu", "10.000", "15.000", "1.50", "1.20", "SLOWER"]
    assert lines[2].split() == ["decode", "wall", "10.000", "5.000", "0.50", "1.60", "faster"]


def test_a_slice_is_seen_against_the_calibrations_on_both_sides_of_it() -> None:
    # The machine gets twice as slow from one piece of work to the next.
    speed = iter(2.0**n for n in range(100))

    def work(units: float) -> Spent:
        seconds = units * next(speed)
        return Spent(seconds, 2 * seconds)

    ratios = take_turns([Workload("work", lambda: work(10.0), lambda: work(1.0))], rounds=4)
    assert ratios == {"work": Ratio(8.0, 8.0)}


def test_a_disturbed_round_does_not_count() -> None:
    seconds = iter([10.0, 10.0, 900.0, 10.0])
    work = Workload("work", lambda: Spent(next(seconds), 5.0), lambda: Spent(2.0, 2.5))
    assert take_turns([work], rounds=3) == {"work": Ratio(2.0, 5.0)}


def test_clocks_have_medians_of_their_own() -> None:
    assert median([Ratio(1, 9), Ratio(2, 8), Ratio(3, 1)]) == Ratio(2, 8)


def test_the_spread_of_runs_is_relative_to_their_median() -> None:
    shown = spread_table([{"a": Ratio(1.0, 4.0)}, {"a": Ratio(2.0, 4.0)}, {"a": Ratio(4.0, 4.0)}]).splitlines()
    assert shown[2:] == ["| a | cpu | 2 | 0.50 | 2.00 |", "| a | wall | 4 | 1.00 | 1.00 |"]
