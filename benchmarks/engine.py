"""An engine in this process: what is measured without HTTP."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

from runtime.config import EngineConfig
from runtime.engine.core import EngineCore
from runtime.engine.factory import build_engine


def built_bundle(model: str) -> str:
    """The path of a model's bundle, which is built first if need be."""
    command = [sys.executable, "-m", "build_engine", "build", model, "--print-path"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.returncode)
    return ended.stdout.split()[-1]


def open_engine(bundle: str, **settings: Any) -> EngineCore:
    """An engine without a prefix cache, so that no prompt is read for nothing.

    Args:
        bundle: Path of a bundle.
        settings: Fields of ``EngineConfig``.
    """
    config = EngineConfig(bundle=bundle, socket="", prefix_cache=False, **settings)
    return build_engine(config)[0]
