"""What is said where CUDA or its compiler cannot be used."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest

from runtime.cuda.errors import CudaError
from runtime.cuda.nvrtc import compile_cubin, compiler_version


def test_an_error_names_the_call_its_code_and_what_it_means() -> None:
    error = CudaError("cuMemAlloc", "CUDA_ERROR_OUT_OF_MEMORY", "out of memory")
    assert str(error) == "cuMemAlloc: CUDA_ERROR_OUT_OF_MEMORY: out of memory"
    assert error.out_of_memory


def test_an_error_without_a_call_has_no_code() -> None:
    error = CudaError("finding a GPU", "", "there is none")
    assert str(error) == "finding a GPU: there is none"
    assert not error.out_of_memory


def test_without_the_package_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "cuda.bindings", None)
    with pytest.raises(CudaError, match=r"^compiling k\.cu for sm_90: .*peregrine-llm\[cuda\]"):
        compile_cubin("", "k.cu", "sm_90")


def test_without_the_library_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent() -> None:
        raise RuntimeError("libnvrtc.so.13 not found")

    bindings = SimpleNamespace(nvrtc=SimpleNamespace(nvrtcVersion=absent))
    monkeypatch.setitem(sys.modules, "cuda.bindings", bindings)
    with pytest.raises(CudaError, match=r"^nvrtcVersion: .*nvidia-cuda-nvrtc"):
        compiler_version()


def test_machine_code_is_for_a_real_gpu() -> None:
    with pytest.raises(CudaError, match=r"one GPU, such as sm_90, not for 'compute_90'"):
        compile_cubin("", "k.cu", "compute_90")
