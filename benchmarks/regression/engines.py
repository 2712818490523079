"""The engine under test, with limits that do not follow the machine."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from runtime.config import EngineConfig
from runtime.engine.core import EngineCore
from runtime.engine.factory import build_engine

MODEL = "smollm2-135m-instruct"
REWARD_MODEL = "smollm2-135m-reward"
THREADS = 2

_LIMITS: dict[str, Any] = {
    "max_total_tokens": 4096,
    "max_request_tokens": 1024,
    "max_running": 32,
    "max_step_tokens": 256,
    "threads": THREADS,
    "spinning": False,
    "speculation": "off",
}


def built(model: str) -> Path:
    """The model's bundle for the CPU, which is built first where there is none.

    Raises:
        SystemExit: It cannot be built; the builder has said why.
    """
    command = [sys.executable, "-m", "build_engine", "build", model, "--target", "cpu", "--print-path"]
    done = subprocess.run(command, check=False, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(done.returncode)
    return Path(done.stdout.split()[-1])


def open_engine(bundle: Path, **wishes: Any) -> EngineCore:
    """A new engine on ``bundle``; ``wishes`` are fields of ``EngineConfig`` that replace the usual ones here."""
    return build_engine(EngineConfig(bundle=str(bundle), socket="", **(_LIMITS | wishes)))[0]
