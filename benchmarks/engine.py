"""An engine in this process: what is measured without HTTP."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

from runtime.bundle import BundleError
from runtime.bundle.manifest_file import MANIFEST_FILE
from runtime.config import EngineConfig
from runtime.engine.core import EngineCore
from runtime.engine.factory import build_engine
from runtime.engine.sizing import SizingError


def built_bundle(model: str) -> str:
    """The path of a model's bundle, which is built first if need be; a bundle is its own."""
    if (Path(model) / MANIFEST_FILE).is_file():
        return model
    command = [sys.executable, "-m", "build_engine", "build", model, "--print-path"]
    ended = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)
    if ended.returncode:
        raise SystemExit(ended.returncode)
    return ended.stdout.split()[-1]


def open_engine(bundle: str, **settings: Any) -> EngineCore:
    """An engine without a prefix cache, so that no prompt is read for nothing, and that uses its whole KV cache.

    Args:
        bundle: Path of a bundle.
        settings: Fields of ``EngineConfig``.

    Raises:
        SystemExit: They cannot be met, or the bundle cannot be used here.
    """
    config = EngineConfig(bundle=bundle, socket="", prefix_cache=False, admission="future_peak", **settings)
    try:
        return build_engine(config)[0]
    except (BundleError, SizingError) as error:
        raise SystemExit(f"error: {error}") from None
