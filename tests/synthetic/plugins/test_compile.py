"""Every kernel compiles for every architecture it is meant for. Compiled code is not run: that takes the GPUs."""

from __future__ import annotations

import pytest
from paged_case import make_spec

from build_engine.errors import BuildError
from build_engine.plugins.compile import ARCHITECTURES, compile_cubins, plugin_ptx

pytest.importorskip("cuda.bindings.nvrtc", reason="kernels NOT compiled for GPUs: cuda-bindings is not installed")
ELF = b"\x7fELF"


@pytest.mark.parametrize(
    "spec",
    [
        make_spec(32, "float16", sliding_window=100, softcap=30.0, splits=16),
        make_spec(128, "bfloat16", (32, 8), splits=16),
        make_spec(256, "float16", softcap=50.0, splits=16),
        make_spec(6, "bfloat16", (16, 1), splits=4),
    ],
    ids=["tensor-f16", "tensor-bf16", "generic-f16", "generic-bf16"],
)
def test_attention_compiles_for_every_architecture(spec) -> None:
    cubins = compile_cubins(spec, "paged_attention")
    assert tuple(cubins) == ARCHITECTURES
    assert all(cubin.startswith(ELF) and b"paged_attention" in cubin for cubin in cubins.values())


@pytest.mark.parametrize("spec", [make_spec(128, qk_norm=True), make_spec(80, "bfloat16", rotary_dim=20)])
def test_kv_write_compiles_for_every_architecture(spec) -> None:
    cubins = compile_cubins(spec, "paged_kv_write")
    assert all(cubin.startswith(ELF) and b"paged_kv_write" in cubin for cubin in cubins.values())


def test_ptx_uses_tensor_cores_and_names_its_kernel() -> None:
    ptx = plugin_ptx(make_spec(64, "bfloat16"), "paged_attention", "sm_80")
    assert ".visible .entry paged_attention(" in ptx
    assert "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32" in ptx
    assert "cp.async.cg.shared.global" in ptx
    assert ".target sm_80" in ptx


def test_an_architecture_the_compiler_does_not_know_is_refused_with_its_words() -> None:
    with pytest.raises(BuildError, match="cannot compile paged_kv_write"):
        compile_cubins(make_spec(64), "paged_kv_write", ["sm_12"])
