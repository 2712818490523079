"""What the lengths of past outputs foretell."""

from __future__ import annotations

import random
from statistics import fmean

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.scheduler.length_history import LengthHistory


def history(ended: list[int], cut: tuple[int, ...] = ()) -> LengthHistory:
    result = LengthHistory(least=1)
    for length in ended:
        result.add(length, cut=False)
    for length in cut:
        result.add(length, cut=True)
    return result


def test_too_short_a_past_tells_nothing() -> None:
    past = LengthHistory(least=3)
    past.add(5, cut=False)
    past.add(6, cut=False)
    assert past.foretell(0, 0.5) is None
    past.add(7, cut=False)
    assert past.foretell(0, 0.5) == 6


@pytest.mark.parametrize(("share", "length"), [(0.0, 10), (0.24, 10), (0.26, 20), (0.6, 30), (0.99, 40)])
def test_a_share_of_the_outputs_stays_within_the_length(share: float, length: int) -> None:
    assert history([10, 20, 30, 40]).foretell(0, share) == length


def test_only_outputs_that_are_longer_count() -> None:
    past = history([10, 10, 10, 200])
    assert past.foretell(0, 0.5) == 10
    assert past.foretell(10, 0.0) == 200
    assert past.foretell(200, 0.0) is None


def test_outputs_that_were_cut_off_would_have_been_longer() -> None:
    # Of those that reached 16 tokens by more than their limit, half ended at 40 and half at 80.
    past = history([40] * 10 + [80] * 10, cut=(16,) * 80)
    assert past.foretell(0, 0.49) == 40
    assert past.foretell(0, 0.51) == 80


def test_a_past_of_cut_outputs_alone_tells_nothing() -> None:
    assert history([], cut=(16,) * 40).foretell(0, 0.5) is None


def test_the_window_forgets() -> None:
    past = LengthHistory(window=20, least=1)
    for length in [1000] * 20 + [5] * 20:
        past.add(length, cut=False)
    assert past.foretell(0, 0.99) == 5


@given(st.lists(st.integers(1, 50), min_size=1), st.integers(0, 60), st.floats(0, 0.999))
def test_what_is_foretold_is_a_length_that_was_there_and_is_not_yet_reached(
    lengths: list[int], reached: int, share: float
) -> None:
    length = history(lengths).foretell(reached, share)
    longer = [each for each in lengths if each > reached]
    if not longer:
        assert length is None
    else:
        assert length in longer
        assert sum(each < length for each in longer) <= share * len(longer) + 1e-6


def test_forecasts_spread_like_the_past() -> None:
    draw = random.Random(1)
    lengths = [int(draw.lognormvariate(4, 1)) + 1 for _ in range(1000)]
    past = history(lengths)
    for reached in (0, 50, 200):
        shares = [(number + 0.5) / 500 for number in range(500)]
        foretold = fmean(past.foretell(reached, share) or 0 for share in shares)
        assert foretold == pytest.approx(fmean(each for each in lengths if each > reached), rel=0.05)
