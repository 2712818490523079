"""The baseline file, and what the gate answers with one, without one, and on another machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.regression import __main__ as gate
from benchmarks.regression.baseline import BASELINE, Baseline, BaselineError, read_baseline, renewed, write_baseline
from benchmarks.regression.counters import OPTIMISED
from benchmarks.regression.timing import Ratio

COUNTS = {"replay": {"steps": 24}, OPTIMISED: {"all": 5}}
RATIOS = {"decode": Ratio(8.0, 9.0)}


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the gate finds instead of measuring."""
    found: dict[str, object] = {"counts": COUNTS, "ratios": RATIOS}
    monkeypatch.setattr(gate, "built", Path)
    monkeypatch.setattr(gate, "count_all", lambda *_: found["counts"])
    monkeypatch.setattr(gate, "measure", lambda *_: found["ratios"])
    return found


@pytest.fixture
def baseline(measured: dict[str, object], tmp_path: Path) -> Path:
    path = tmp_path / "baseline.json"
    assert gate.main(["--accept", "  first figures ", "--baseline", str(path)]) == 0
    return path


def test_what_is_accepted_is_read_again_with_its_reason(baseline: Path) -> None:
    found = read_baseline(baseline)
    assert found.counters is not None
    assert found.counters.values == COUNTS
    assert found.counters.accepted.reason == "first figures"
    assert {"python", "onnxruntime"} <= found.counters.accepted.versions.keys()
    (timings,) = found.timings.values()
    assert timings.values == RATIOS


def test_machines_of_other_classes_keep_their_timings(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    old = renewed(Baseline(), "here", COUNTS, RATIOS)
    monkeypatch.setattr("benchmarks.regression.baseline.machine_class", lambda: "another")
    path = tmp_path / "baseline.json"
    write_baseline(path, renewed(old, "there", COUNTS, {"decode": Ratio(1.0, 1.0)}))
    found = read_baseline(path).timings
    assert found.keys() == {*old.timings, "another"}
    assert {record.accepted.reason for record in found.values()} == {"here", "there"}


def test_counters_alone_can_be_accepted(baseline: Path, measured: dict[str, object]) -> None:
    timings = read_baseline(baseline).timings
    measured["counts"] = {"replay": {"steps": 30}}
    assert gate.main(["--accept", "more steps", "--counters", "--baseline", str(baseline)]) == 0
    found = read_baseline(baseline)
    assert found.counters is not None
    assert found.counters.values == measured["counts"]
    assert found.timings == timings


def test_the_same_again_passes(baseline: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gate.main(["--baseline", str(baseline)]) == 0
    assert "counters: all 2 as they were" in capsys.readouterr().out


def test_one_counter_that_differs_fails(
    baseline: Path, measured: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    measured["counts"] = COUNTS | {"replay": {"steps": 25}}
    assert gate.main(["--counters", "--baseline", str(baseline)]) == 1
    assert "replay: steps: was 24, is 25 (+1)" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("flags", "factor", "code"), [((), 1.1, 0), ((), 1.7, 1), (["--wide"], 1.7, 0), (["--wide"], 9, 1)]
)
def test_slower_than_the_band_fails(
    baseline: Path, measured: dict[str, object], flags: list[str], factor: float, code: int
) -> None:
    measured["ratios"] = {"decode": Ratio(8.0 * factor, 9.0)}
    assert gate.main([*flags, "--baseline", str(baseline)]) == code


def test_faster_passes_and_says_how_to_hold_on_to_it(
    baseline: Path, measured: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    measured["ratios"] = {"decode": Ratio(4.0, 4.5)}
    assert gate.main(["--baseline", str(baseline)]) == 0
    assert "some are faster" in capsys.readouterr().out


def test_on_an_unknown_machine_counters_count_and_timings_are_shown(
    baseline: Path, monkeypatch: pytest.MonkeyPatch, measured: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, "machine_class", lambda: "another")
    measured["ratios"] = {"decode": Ratio(800.0, 900.0)}
    assert gate.main(["--baseline", str(baseline)]) == 0
    assert "there are none of a machine like this (another): make perf-accept" in capsys.readouterr().out
    measured["counts"] = {}
    assert gate.main(["--baseline", str(baseline)]) == 1


def test_with_another_onnxruntime_its_own_optimisation_is_not_compared(
    baseline: Path, monkeypatch: pytest.MonkeyPatch, measured: dict[str, object], capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gate, "versions", lambda: {"onnxruntime": "9"})
    measured["counts"] = COUNTS | {OPTIMISED: {"all": 6}}
    assert gate.main(["--counters", "--baseline", str(baseline)]) == 0
    assert "is not compared" in capsys.readouterr().out


def test_without_a_baseline_the_gate_says_how_to_make_one(
    measured: dict[str, object], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert gate.main(["--baseline", str(tmp_path / "none.json")]) == 1
    assert "no counters to compare with: make perf-accept" in capsys.readouterr().out


@pytest.mark.parametrize("content", ["", "[]", '{"counters": 3}', '{"other": 1}'])
def test_a_baseline_that_is_none_is_one_clear_message(
    content: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "baseline.json"
    path.write_text(content)
    with pytest.raises(BaselineError, match="cannot be read"):
        read_baseline(path)
    assert gate.main(["--baseline", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"error: {path} cannot be read: ")


@pytest.mark.parametrize("flags", [["--accept", " "], ["--repeat", "0"]])
def test_flags_that_mean_nothing_are_refused(flags: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        gate.main(flags)
    assert ended.value.code == 2
    assert "error: " in capsys.readouterr().err


def test_the_repositorys_own_baseline_can_be_read() -> None:
    found = read_baseline(BASELINE)
    assert found.counters is not None
    assert found.timings
