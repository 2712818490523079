"""One part of the check in this process: ``python -m benchmarks.gpu.part NAME RESULT_FILE SETTINGS``."""

from __future__ import annotations

import importlib
import logging
import sys
import time
import traceback
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import msgspec

from benchmarks.gpu.findings import Findings, NotRunError, Settings

KERNELS = ("cuda.bindings", "pip install cuda-python 'nvidia-cuda-nvrtc==13.0.*'")
"""Package that a part cannot do without, and how it is had."""
ENGINES = {
    "cpu": ("onnxruntime", "pip install 'peregrine-llm[cpu]'"),
    "tensorrt-rtx": ("tensorrt_rtx", "pip install 'peregrine-llm[tensorrt-rtx]'"),
    "cuda": ("onnxruntime", "pip install 'peregrine-llm[cuda]'"),
    "tensorrt": ("tensorrt", "pip install 'peregrine-llm[tensorrt]'"),
}


def run(name: str, settings: Settings, findings: Findings) -> None:
    """Run the part ``name``.

    Raises:
        NotRunError: Something that it needs is not there.
        Exception: It failed.
    """
    if name == "matmul":
        require(*ENGINES["cuda"])
    elif name != "cpu":
        require(*KERNELS)
    if name == "plugins":
        require(*ENGINES["tensorrt"])
    if name in ENGINES:
        require(*ENGINES[name])
        from benchmarks.gpu.engine import measure

        measure(settings, findings, name)
        return
    importlib.import_module(f"benchmarks.gpu.{name}").measure(settings, findings)


def require(module: str, fix: str) -> None:
    """See that a package is there.

    Raises:
        NotRunError: It is not.
    """
    try:
        found = find_spec(module) is not None
    except ModuleNotFoundError:
        found = False
    if not found:
        message = f"the package {module.partition('.')[0]} is not installed: {fix}"
        raise NotRunError(message)


def main(arguments: Sequence[str]) -> None:
    """Command line."""
    name, result, settings = arguments
    logging.basicConfig(level=logging.WARNING, format="%(name)s: %(message)s")
    findings = Findings(Path(result), name)
    began = time.monotonic()
    try:
        run(name, msgspec.json.decode(settings, type=Settings), findings)
    except NotRunError as error:
        findings.close("not run", str(error))
    except Exception as error:
        traceback.print_exc()
        findings.close("failed", f"{type(error).__name__}: {error}")
    else:
        findings.outcome.seconds = round(time.monotonic() - began, 1)
        findings.close("ok")


if __name__ == "__main__":
    main(sys.argv[1:])
