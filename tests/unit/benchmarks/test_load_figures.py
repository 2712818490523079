"""What the load tool makes of its records: percentiles, objectives, goodput."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.load.record import Record
from benchmarks.load.report import Run, table, throughput
from benchmarks.load.slo import Slo, highest_rate, parse_slo
from benchmarks.load.summary import percentile, spread, summarize
from benchmarks.usage import UsageError


def record(*token_times: float, arrival: float = 0.0, late: float = 0.0, status: int = 200, error: str = "") -> Record:
    return Record(
        arrival=arrival,
        sent=arrival + late,
        token_times=list(token_times),
        prompt_tokens=10,
        status=status,
        error=error,
    )


REFUSED = record(status=503, error="the queue is full")


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=50), st.floats(0, 1))
def test_percentiles_are_numpys(values: list[float], share: float) -> None:
    assert percentile(sorted(values), share) == pytest.approx(np.quantile(values, share), rel=1e-9, abs=1e-9)


def test_a_spread_ends_with_the_largest_value_and_there_is_none_of_nothing() -> None:
    found = spread([0.1 * i for i in range(101)])
    assert found is not None
    assert (found.p50, found.p90, found.max) == pytest.approx((5, 9, 10))
    assert spread([]) is None


def test_latencies_count_from_the_intended_arrival() -> None:
    late = record(2.0, 2.5, 3.5, arrival=1.0, late=0.25)
    assert (late.ttft, late.e2e, late.lag) == (1.0, 2.5, 0.25)
    assert late.gaps == [0.5, 1.0]
    assert late.tpot == 0.75
    assert record(1.0).tpot is None


@pytest.mark.parametrize(
    ("text", "met"),
    [
        ("ttft=1", True),
        ("ttft=0.9", False),
        ("tpot=0.75", True),
        ("tpot=0.7", False),
        ("gap=1", True),
        ("gap=0.99", False),
        ("e2e=2.5", True),
        ("e2e=2.4", False),
        ("ttft=1,tpot=0.7", False),
    ],
)
def test_a_good_answer_meets_every_bound(text: str, met: bool) -> None:
    assert parse_slo(text).met(record(2.0, 2.5, 3.5, arrival=1.0)) is met


def test_a_single_token_has_no_time_per_token_to_miss() -> None:
    assert parse_slo("tpot=0.001,gap=0.001").met(record(0.5))


def test_what_is_not_whole_is_not_good() -> None:
    lenient = Slo()
    assert lenient.met(record(0.1))
    assert not lenient.met(REFUSED)
    assert not lenient.met(record(0.1, error="cut off"))


@pytest.mark.parametrize("text", ["", "ttft", "ttft=", "ttft=0", "ttft=-1", "ttft=inf", "ttft=1,ttft=2", "itl=1"])
def test_an_objective_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_slo(text)


def test_an_objective_is_printed_as_it_is_written() -> None:
    assert str(parse_slo("tpot=0.05,ttft=1.0")) == "ttft=1,tpot=0.05"


def test_goodput_is_of_all_requests_and_errors_are_counted_by_cause() -> None:
    records = [
        record(1.0, 2.0, arrival=0.5),
        record(4.0, 4.5, arrival=0.6),
        REFUSED,
        REFUSED,
        record(0.5, error="cut off"),
        record(status=0, error="no connection: Connection refused"),
    ]
    found = summarize(records, 10.0, Slo(ttft=1.0))
    assert (found.requests, found.whole) == (6, 2)
    assert found.errors == {"503": 2, "cut off": 1, "no connection": 1}
    assert found.good_share == pytest.approx(1 / 6)
    assert found.good_per_s == pytest.approx(0.1)
    assert (found.requests_per_s, found.output_tokens_per_s, found.prompt_tokens_per_s) == (0.2, 0.5, 2.0)
    assert found.drain_seconds == pytest.approx(9.4)
    assert found.ttft is not None
    assert found.ttft.max == pytest.approx(3.4)


def test_without_an_objective_there_is_no_goodput() -> None:
    assert summarize([record(1.0)], 1.0, None).good_share is None


@pytest.mark.parametrize(
    ("shares", "best"),
    [
        ([(4, 1.0), (1, 1.0), (2, 0.995)], 4),
        ([(1, 1.0), (2, 0.9), (4, 1.0)], 1),
        ([(1, 0.5), (2, 1.0)], None),
        ([], None),
    ],
)
def test_the_highest_rate_has_no_bad_one_below(shares: list[tuple[float, float]], best: float | None) -> None:
    assert highest_rate(shares, 0.99) == best


def test_the_table_has_a_line_a_rate_and_what_the_objective_allows() -> None:
    slo = Slo(ttft=1.0)
    runs = [
        Run(
            mode="open",
            level=rate,
            summary=summarize(records, 10.0, slo),
            cpu_seconds={"HTTP worker": 0.001},
            records=records,
        )
        for rate, records in ((1.0, [record(0.5, 0.6)]), (2.0, [record(0.5, 0.6), REFUSED]))
    ]
    text = "\n".join(table(runs, slo))
    assert throughput(runs[1]).endswith("1 x 503")
    assert throughput(runs[0]).endswith("none")
    assert "HTTP worker 500" in text
    assert "99% of answers within ttft=1: 1 requests/s" in text
    assert "first token        500.0" in text
