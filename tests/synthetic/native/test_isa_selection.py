from __future__ import annotations

import os
import subprocess
import sys

import pytest

from runtime.native import available_isas, library_path

REPORT = """
from runtime.native import NativeLibraryError, active_isa
try:
    print(active_isa())
except NativeLibraryError as error:
    print(error)
"""
SAMPLE = """
from runtime.native import NativeLibraryError
from runtime.sampling.native_sampler import NativeSampler
try:
    NativeSampler(frozenset(), max_rows=1, threads=1)
except NativeLibraryError as error:
    print(error)
"""
REGISTER = "import sys, onnxruntime as o\no.SessionOptions().register_custom_ops_library(sys.argv[1])"


def run(code: str, isa: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PEREGRINE_CPU_ISA": isa, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)


def test_the_portable_kernels_are_always_there() -> None:
    assert available_isas()[-1] == "portable"


@pytest.mark.parametrize("isa", available_isas())
def test_the_environment_chooses(isa: str) -> None:
    assert run(REPORT, isa).stdout.strip() == isa


def test_an_empty_choice_is_the_widest() -> None:
    assert run(REPORT, "").stdout.strip() == available_isas()[0]


@pytest.mark.parametrize("code", [REPORT, SAMPLE])
def test_an_unknown_choice_is_refused_by_name(code: str) -> None:
    wanted = f"PEREGRINE_CPU_ISA=sse9 is not possible here: choose from {', '.join(available_isas())}"
    assert run(code, "sse9").stdout.strip() == wanted


def test_a_session_refuses_an_unknown_choice() -> None:
    done = run(REGISTER, "sse9", str(library_path()))
    assert done.returncode == 1
    assert "PEREGRINE_CPU_ISA names an instruction set" in done.stderr
