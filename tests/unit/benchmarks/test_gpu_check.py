"""The GPU check's own machinery: what it says where it cannot run, and where a part crashes."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import msgspec
import pytest

from benchmarks import gpu_check
from benchmarks.gpu.findings import Findings, NotRunError, Outcome, Settings
from benchmarks.gpu.part import require

NO_GPU = {"gpu": "no NVIDIA driver", "compute_capability": None, "driver_cuda": None}
GPU = {"gpu": "Some GPU", "compute_capability": "8.9", "driver_cuda": "13.0"}


def part(code: str) -> list[str]:
    """A part that is this code; it finds the result file in ``path``."""
    lead = (
        "import sys; from pathlib import Path; from benchmarks.gpu.findings import Findings; path = Path(sys.argv[1]);"
    )
    return [sys.executable, "-c", f"{lead} found = Findings(path, 'some'); {code}"]


def test_without_a_gpu_nothing_runs_and_the_report_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "describe", lambda: NO_GPU)
    report = tmp_path / "deep" / "report.json"
    assert gpu_check.main(["--output", str(report)]) == 0
    parts = json.loads(report.read_text())["parts"]
    assert [found["part"] for found in parts] == list(gpu_check.PARTS)
    assert {(found["status"], found["message"]) for found in parts} == {("not run", "no NVIDIA driver")}
    shown = capsys.readouterr().out.splitlines()
    assert shown[0] == "GPU: no NVIDIA driver"
    assert len(shown) == 3 + len(parts)


def test_what_a_part_found_is_read_back() -> None:
    code = "found.add(copy_gb_s=2.5); found.outcome.summary = 'fast'; found.close('ok')"
    outcome = gpu_check.run_part("some", part(code), Settings(), 60)
    assert (outcome.status, outcome.summary, outcome.figures) == ("ok", "fast", {"copy_gb_s": 2.5})


def test_a_crash_keeps_what_was_found_before_it() -> None:
    code = "found.add(build=1); print('last words', file=sys.stderr, flush=True); import os; os.kill(os.getpid(), 11)"
    outcome = gpu_check.run_part("some", part(code), Settings(), 60)
    assert (outcome.status, outcome.message, outcome.figures) == ("failed", "ended by SIGSEGV", {"build": 1})
    assert outcome.log == "last words\n"


def test_what_a_killed_part_leaves_behind_is_removed() -> None:
    code = "import os, tempfile; found.add(left=tempfile.mkdtemp()); os.kill(os.getpid(), 9)"
    left = gpu_check.run_part("some", part(code), Settings(), 60).figures["left"]
    assert not Path(left).exists()


def test_a_part_that_hangs_is_stopped() -> None:
    outcome = gpu_check.run_part("some", part("import threading; threading.Event().wait()"), Settings(), 0.5)
    assert (outcome.status, outcome.figures) == ("failed", {})
    assert outcome.message.startswith("stopped after")


def test_a_part_that_leaves_nothing_has_failed() -> None:
    assert gpu_check.run_part("some", part("pass"), Settings(), 60).message == "left no result"
    assert gpu_check.run_part("some", part("sys.exit(3)"), Settings(), 60).message == "ended with status 3"


def test_ceilings_are_told_to_the_parts_after_them(monkeypatch: pytest.MonkeyPatch) -> None:
    told: list[Settings] = []

    def run(name: str, command: object, settings: Settings, limit: float) -> Outcome:
        told.append(settings)
        return Outcome(part=name, status="ok", figures={"copy_gb_s": 1000.0, "copied": "words"})

    monkeypatch.setattr(gpu_check, "run_part", run)
    gpu_check.run_parts(["ceilings", "attention"], GPU, "a-model")
    assert told == [Settings(model="a-model"), Settings(model="a-model", ceilings={"copy_gb_s": 1000.0})]
    assert told[1].share("copy_gb_s", 250.0) == 0.25
    assert told[1].share("matrix_tflop_s", 1.0) is None


def test_a_failure_is_the_exit_status_and_one_line_of_the_table(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(gpu_check, "describe", lambda: GPU)
    monkeypatch.setattr(
        gpu_check, "run_part", lambda name, *_: Outcome(part=name, message="UNSUPPORTED_CC\nand more", seconds=3)
    )
    assert gpu_check.main(["--parts", "tensorrt-rtx", "--output", str(tmp_path / "r.json")]) == 1
    shown = capsys.readouterr().out
    assert "GPU: Some GPU (8.9), CUDA 13.0" in shown
    assert "tensorrt-rtx  failed        3  UNSUPPORTED_CC\n" in shown
    assert json.loads((tmp_path / "r.json").read_text())["parts"][0]["message"] == "UNSUPPORTED_CC\nand more"


def test_a_missing_package_is_not_a_failure(tmp_path: Path) -> None:
    with pytest.raises(NotRunError, match="the package absent is not installed: get it"):
        require("absent.bindings", "get it")
    require("json.decoder", "")
    findings = Findings(tmp_path / "found.json", "some")
    findings.close("not run", "why")
    written = msgspec.json.decode((tmp_path / "found.json").read_bytes(), type=Outcome)
    assert (written.status, written.message) == ("not run", "why")
