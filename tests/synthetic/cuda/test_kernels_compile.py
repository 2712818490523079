"""Real compilation, which needs NVRTC and no GPU."""

from __future__ import annotations

import pytest

from runtime.cuda.errors import CudaError
from runtime.cuda.kernel_cache import sampling_kernels
from runtime.cuda.nvrtc import compile_cubin, compile_ptx, compiler_version

pytest.importorskip("cuda.bindings", reason="NVRTC is on Linux and Windows only")

KERNEL = 'extern "C" __global__ void twice(float* x) { x[threadIdx.x] *= FACTOR; }'


@pytest.mark.parametrize("capability", [(8, 0), (8, 6), (8, 9), (9, 0), (10, 0), (12, 0)])
def test_the_sampling_kernels_compile_for_every_gpu(
    capability: tuple[int, int], monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory
) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path_factory.mktemp("cache")))
    cubin = sampling_kernels(capability)
    assert cubin.startswith(b"\x7fELF")
    for name in (b"sample_rows", b"prompt_logprobs", b"place_counts", b"gather_tokens"):
        assert b".text." + name in cubin


def test_ptx_is_of_a_version_that_a_13_0_driver_takes() -> None:
    ptx = compile_ptx(KERNEL, "twice.cu", "sm_90", ["-DFACTOR=2.0f"])
    assert ".target sm_90" in ptx
    assert ".version 9.0" in ptx
    assert ".visible .entry twice(" in ptx
    assert compiler_version() == (13, 0)


def test_a_refused_source_comes_with_the_compilers_log() -> None:
    with pytest.raises(CudaError, match=r"twice\.cu\(1\): error: identifier \"FACTOR\" is undefined") as refused:
        compile_cubin(KERNEL, "twice.cu", "sm_90")
    assert refused.value.code == "NVRTC_ERROR_COMPILATION"


def test_an_unknown_gpu_is_named() -> None:
    with pytest.raises(CudaError, match=r"^compiling twice\.cu for sm_12: NVRTC_ERROR_INVALID_OPTION"):
        compile_cubin(KERNEL, "twice.cu", "sm_12", ["-DFACTOR=2.0f"])
