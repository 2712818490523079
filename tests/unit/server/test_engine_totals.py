"""Counters that no swap and no restart takes back."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from runtime.stats import EngineStats
from server.engine_totals import TOTALS_FILE, add_up


def test_engines_add_up_and_gauges_do_not(tmp_path: Path) -> None:
    add_up(tmp_path, "first", EngineStats(steps_total=5, running=3))
    assert add_up(tmp_path, "second", EngineStats(steps_total=2, running=1)) == EngineStats(steps_total=7, running=1)
    assert add_up(tmp_path, "first", EngineStats(steps_total=6)).steps_total == 8


def test_an_older_snapshot_takes_nothing_back(tmp_path: Path) -> None:
    add_up(tmp_path, "first", EngineStats(generated_tokens_total=9, step_seconds_total=1.5))
    late = add_up(tmp_path, "first", EngineStats(generated_tokens_total=4, step_seconds_total=1.0))
    assert (late.generated_tokens_total, late.step_seconds_total) == (9, 1.5)


def test_workers_do_not_lose_each_others_engines(tmp_path: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda n: add_up(tmp_path, f"boot {n}", EngineStats(steps_total=1)), range(40)))
    assert add_up(tmp_path, "boot 0", EngineStats(steps_total=1)).steps_total == 40


def test_a_half_written_file_is_begun_anew(tmp_path: Path) -> None:
    (tmp_path / TOTALS_FILE).write_bytes(b'{"first": {"steps')
    assert add_up(tmp_path, "second", EngineStats(steps_total=3)).steps_total == 3
