"""Medians, ratios and tables of the comparison."""

from __future__ import annotations

import json

import pytest

from benchmarks.peers.report import Record, best_peer, document, ratio, tables
from benchmarks.peers.us import US


def record(name: str, *rates: float, failure: str = "") -> Record:
    rounds = [
        {
            "A": {"output_tokens_per_s": rate, "prompt_tokens_per_s": 1.0, "first_token_ms": 8.0},
            "C": {"output_tokens_per_s": 1.0, "prompt_tokens_per_s": 10 * rate, "first_token_ms": 300.0},
            "start": {"first_token_s": 1.5, "peak_process_mb": 400.0, "peak_all_mb": 500.0},
        }
        for rate in rates
    ]
    return Record(name, "1.0", "HTTP", ("a setting",), rounds, failure)


@pytest.fixture
def records() -> list[Record]:
    return [
        record(US, 200.0, 220.0, 100.0),
        record("slow", 50.0, 40.0, 90.0),
        record("fast", 160.0, 170.0),
        record("broken", failure="no | such package"),
    ]


def test_the_median_is_taken_over_the_rounds_there_are(records: list[Record]) -> None:
    assert records[0].median("A", "output_tokens_per_s") == 200.0
    assert records[2].median("A", "output_tokens_per_s") == 165.0
    assert records[3].median("A", "output_tokens_per_s") is None
    assert records[0].median("D", "output_tokens_per_s") is None


def test_the_best_peer_is_the_fastest_that_is_not_us(records: list[Record]) -> None:
    best = best_peer(records, "A")
    assert best is not None
    assert best.name == "fast"
    assert best_peer(records, "D") is None
    assert best_peer(records[:1], "A") is None


def test_a_ratio_needs_both_sides() -> None:
    assert ratio(3.0, 2.0) == 1.5
    assert ratio(None, 2.0) is None
    assert ratio(3.0, None) is None


def test_ratios_are_of_medians_and_a_prompt_workload_goes_by_prompt_tokens(records: list[Record]) -> None:
    found = {row[0]: row[1:] for row in tables(records, ["A", "C"])[1].rows}
    assert found["slow"] == ("4.00", "4.00")
    assert found["best peer"] == ("1.21 (fast)", "1.21 (fast)")
    assert tables(records, ["A", "C"])[0].columns[3] == "C, prompt tokens/s"


def test_a_peer_that_failed_stays_in_the_table_with_its_reason(records: list[Record]) -> None:
    rates = tables(records, ["A"])[0]
    assert rates.rows[3] == ("broken", "1.0", "-", "0", "failed: no / such package")


def test_without_us_there_are_no_ratios(records: list[Record]) -> None:
    headings = [table.heading for table in tables(records[1:], ["A"])]
    assert len(headings) == 3
    assert not any("over the peer's" in heading for heading in headings)


def test_tables_come_as_text_and_as_markdown(records: list[Record]) -> None:
    table = tables(records, ["A"])[-1]
    assert "| peregrine | 1.5 | 400 | 500 |" in table.markdown()
    _, *lines = table.text().splitlines()
    assert len({len(line) for line in lines}) == 1


def test_json_has_every_round_and_setting(records: list[Record]) -> None:
    found = json.loads(json.dumps(document(records, ["A"], {"cores": 2})))
    assert found["facts"] == {"cores": 2}
    assert len(found["engines"]["slow"]["rounds"]) == 3
    assert found["engines"]["slow"]["settings"] == ["a setting"]
    assert found["engines"]["broken"]["failure"] == "no | such package"
    assert found["engines"][US]["medians"] == {"A": 200.0}
