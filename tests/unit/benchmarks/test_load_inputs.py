"""What the load tool sends: arrivals, lengths, prompts, traces."""

from __future__ import annotations

import json
import random
from itertools import islice, pairwise
from pathlib import Path

import pytest

from benchmarks.load.arguments import parse_url
from benchmarks.load.arrivals import poisson
from benchmarks.load.lengths import parse_lengths
from benchmarks.load.prompts import Words, drawn, replayed
from benchmarks.load.trace import TraceEntry, read_trace
from benchmarks.usage import UsageError, at_least, positive


def arrivals(rate: float, count: int, seed: int = 0) -> list[float]:
    return list(islice(poisson(rate, random.Random(seed)), count))


def test_arrivals_have_the_rate_and_the_bursts_of_a_poisson_process() -> None:
    times = arrivals(4.0, 20000)
    gaps = [b - a for a, b in pairwise([0.0, *times])]
    mean = times[-1] / len(times)
    variance = sum((gap - mean) ** 2 for gap in gaps) / len(gaps)
    assert mean == pytest.approx(0.25, rel=0.03)
    assert variance == pytest.approx(mean**2, rel=0.06)
    assert min(gaps) >= 0


def test_a_seed_decides_arrivals() -> None:
    assert arrivals(2.0, 50) == arrivals(2.0, 50) != arrivals(2.0, 50, seed=1)


@pytest.mark.parametrize(
    ("text", "low", "high"), [("7", 7, 7), ("uniform:3:5", 3, 5), ("lognormal:200:0.8:500", 1, 500)]
)
def test_drawn_lengths_stay_in_their_range(text: str, low: int, high: int) -> None:
    rng = random.Random(0)
    lengths = parse_lengths(text)
    found = [lengths.draw(rng) for _ in range(5000)]
    assert low <= min(found) <= max(found) == high


def test_half_of_a_log_normal_distribution_is_below_its_median() -> None:
    rng = random.Random(0)
    lengths = parse_lengths("lognormal:200:0.8:100000")
    assert sum(lengths.draw(rng) <= 200 for _ in range(5000)) / 5000 == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize(
    "text",
    [
        *("", "0", "-3", "1.5", "uniform", "uniform:5:3", "uniform:0:3", "uniform:1:2:3", "normal:3:4"),
        *("lognormal:200", "lognormal:200:0:9", "lognormal:0:1:9", "lognormal:nan:1:9", "lognormal:200:0.8:0"),
    ],
)
def test_a_distribution_that_makes_no_sense_is_refused(text: str) -> None:
    with pytest.raises(UsageError, match=r"uniform:64:256|lengths begin at 1"):
        parse_lengths(text)


def test_prompts_are_new_each_time_and_begin_with_a_shared_prefix() -> None:
    asks = drawn(
        parse_lengths("8"), parse_lengths("uniform:2:4"), Words(5000, shared_tokens=6, shared_count=2), random.Random(0)
    )
    found = list(islice(asks, 40))
    assert {len(ask.prompt) for ask in found} == {14}
    assert len({tuple(ask.prompt[:6]) for ask in found}) == 2
    assert len({tuple(ask.prompt[6:]) for ask in found}) == 40
    assert all(isinstance(token, int) and 100 <= token <= 5000 for ask in found for token in ask.prompt)
    assert {ask.output_tokens for ask in found} == {2, 3, 4}


def write(path: Path, *lines: object) -> Path:
    path.write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return path


def test_a_trace_is_read_in_order_of_arrival(tmp_path: Path) -> None:
    lines = [
        {"prompt_tokens": 5, "output_tokens": 2, "arrival": 3.5, "model": "ignored"},
        "",
        {"prompt": "hi", "output_tokens": 1, "arrival": 1},
    ]
    entries = read_trace(write(tmp_path / "t.jsonl", *lines))
    assert [entry.arrival for entry in entries] == [1.0, 3.5]
    asks = list(islice(replayed(entries, Words(), random.Random(0)), 3))
    assert asks[0].prompt == asks[2].prompt == "hi"
    assert len(asks[1].prompt) == 5
    assert [ask.output_tokens for ask in asks] == [1, 2, 1]


def test_token_ids_of_a_trace_are_sent_as_they_are() -> None:
    ask = next(replayed([TraceEntry(prompt=[7, 8], output_tokens=3)], Words(), random.Random(0)))
    assert (ask.prompt, ask.output_tokens) == ([7, 8], 3)


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        ([], "is empty"),
        (["{"], "line 1"),
        ([{"prompt": "a", "output_tokens": 1}, {"output_tokens": 1}], "line 2: one of prompt and prompt_tokens"),
        ([{"prompt": "a", "prompt_tokens": 1, "output_tokens": 1}], "one of prompt and prompt_tokens"),
        ([{"prompt": "", "output_tokens": 1}], "one of prompt and prompt_tokens"),
        ([{"prompt": "a"}], "output_tokens"),
        ([{"prompt": "a", "output_tokens": 0}], "output_tokens"),
        ([{"prompt": "a", "output_tokens": 1, "arrival": -1}], "arrival"),
        ([{"prompt": "a", "output_tokens": 1, "arrival": 1}, {"prompt": "a", "output_tokens": 1}], "1 of 2 entries"),
    ],
)
def test_a_trace_that_makes_no_sense_is_refused(tmp_path: Path, lines: list[object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        read_trace(write(tmp_path / "t.jsonl", *lines))


def test_a_missing_trace_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="cannot be read: No such file"):
        read_trace(tmp_path / "absent")


@pytest.mark.parametrize("text", ["localhost:80", "https://a:1", "http://", "http://a:port", "http://a:1/path"])
def test_only_a_plain_address_is_a_url(text: str) -> None:
    with pytest.raises(UsageError, match="http://host:port"):
        parse_url(text)


@pytest.mark.parametrize("text", ["0", "-1", "nan", "inf", "x", ""])
def test_numbers_are_above_zero_and_finite(text: str) -> None:
    with pytest.raises(UsageError):
        positive(text)
    with pytest.raises(UsageError):
        at_least(1)(text)
