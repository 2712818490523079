"""``make gpu``: runs whatever of the GPU targets this machine allows, and says what it found.

Numbers are checked against the references; rates stand beside two ceilings that are measured in the same run. Each part
has a process of its own, so that a crash of one is a finding and the others run. Without a GPU nothing runs, and the
report says so.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.gpu.findings import Outcome, Settings
from benchmarks.gpu.machine import describe

PARTS = {
    "ceilings": ("copy bandwidth and matrix rate", 120),
    "sampling": ("the sampling kernels alone", 180),
    "attention": ("the KV-cache kernels of the TensorRT plugins alone", 300),
    "matmul": ("matrix products of onnxruntime's CUDA provider", 120),
    "tensorrt-rtx": ("engine of TensorRT-RTX", 600),
    "cuda": ("engine of onnxruntime's CUDA provider", 600),
    "tensorrt": ("engine of full TensorRT, linear slots", 1200),
    "plugins": ("the KV-cache plugins in full TensorRT", 300),
}
"""Name -> what it runs, and the seconds that it may take."""
WITHOUT_GPU = ("cpu",)
"""Not among the parts unless asked for: the same script on the CPU's engine with linear slots, to try the script."""
_LOG_BYTES = 4000


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; returns 0 unless a part failed."""
    arguments = _parser().parse_args(argv)
    machine = describe()
    outcomes = run_parts(arguments.parts, machine, arguments.model)
    report = {
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "model": arguments.model,
        "machine": machine,
        "parts": [msgspec.to_builtins(outcome) for outcome in outcomes],
    }
    arguments.output.parent.mkdir(parents=True, exist_ok=True)
    arguments.output.write_text(json.dumps(report, indent=2) + "\n", encoding="utf-8")
    print("\n".join(table(machine, outcomes, arguments.output)))
    return int(any(outcome.status == "failed" for outcome in outcomes))


def run_parts(names: Sequence[str], machine: dict[str, Any], model: str) -> list[Outcome]:
    """The parts in order; what the first one measures is what the others are compared with."""
    outcomes, settings = [], Settings(model=model)
    for name in names:
        if machine["compute_capability"] is None and name not in WITHOUT_GPU:
            outcomes.append(Outcome(part=name, status="not run", message=machine["gpu"]))
            continue
        print(f"{name} ...", file=sys.stderr, flush=True)
        command = [sys.executable, "-m", "benchmarks.gpu.part", name]
        outcome = run_part(name, command, settings, PARTS.get(name, ("", 600))[1])
        if name == "ceilings":
            rates = {key: value for key, value in outcome.figures.items() if isinstance(value, float)}
            settings = msgspec.structs.replace(settings, ceilings=rates)
        outcomes.append(outcome)
    return outcomes


def run_part(name: str, command: Sequence[str], settings: Settings, limit: float) -> Outcome:
    """Run ``command`` with a result file and the settings behind it, for ``limit`` seconds at most."""
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="gpu-check-") as directory:
        result, log = Path(directory) / "result.json", Path(directory) / "log"
        whole = [*command, str(result), msgspec.json.encode(settings).decode()]
        ended = ""
        with log.open("wb") as file:
            try:
                # NOTE: what a part that is killed leaves behind goes with this directory.
                here = os.environ | {"TMPDIR": directory}
                code = subprocess.run(whole, stdout=file, stderr=file, timeout=limit, check=False, env=here).returncode
            except subprocess.TimeoutExpired:
                ended = f"stopped after {limit:.0f} s"
            else:
                ended = _ending(code)
        outcome = _read(result, name)
        if ended:
            outcome.status, outcome.message = "failed", ended
        outcome.seconds = outcome.seconds or round(time.monotonic() - began, 1)
        if outcome.status == "failed":
            outcome.log = log.read_bytes()[-_LOG_BYTES:].decode(errors="replace")
    return outcome


def table(machine: dict[str, Any], outcomes: Sequence[Outcome], report: Path) -> list[str]:
    """The report for people."""
    capability = machine["compute_capability"]
    gpu = f"{machine['gpu']} ({capability}), CUDA {machine['driver_cuda']}" if capability else machine["gpu"]
    lines = [f"GPU: {gpu}", f"{'part':<14}{'result':<9}{'s':>6}  what"]
    for outcome in outcomes:
        what = (outcome.summary if outcome.status == "ok" else outcome.message).split("\n", 1)[0]
        lines.append(f"{outcome.part:<14}{outcome.status:<9}{outcome.seconds:>6.0f}  {what}")
    return [*lines, f"report: {report}"]


def _ending(code: int) -> str:
    """How a process ended, unless it ended well."""
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return f"ended with status {code}" if code else ""


def _read(result: Path, name: str) -> Outcome:
    try:
        return msgspec.json.decode(result.read_bytes(), type=Outcome)
    except (OSError, msgspec.DecodeError):
        return Outcome(part=name, message="left no result")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument(
        "--parts", nargs="+", choices=[*PARTS, *WITHOUT_GPU], default=list(PARTS), help="which ones (default: all)"
    )
    parser.add_argument("--output", type=Path, default=Path("build/gpu_check.json"), help="JSON (default: %(default)s)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
