"""Kernels are compiled once for each source, GPU and compiler."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.cuda import kernel_cache
from runtime.cuda.kernel_cache import cached_cubin, kernel_source, sampling_kernels


class Compiler:
    def __init__(self) -> None:
        self.compiled: list[tuple[str, str]] = []
        self.version = (13, 0)

    def __call__(self, source: str, name: str, arch: str, options: tuple[str, ...]) -> bytes:
        self.compiled.append((name, arch))
        return f"{arch}:{source}".encode()


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Compiler:
    compiler = Compiler()
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(kernel_cache, "compile_cubin", compiler)
    monkeypatch.setattr(kernel_cache, "compiler_version", lambda: compiler.version)
    return compiler


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "k.cu"
    path.write_text("int x;")
    return path


def test_a_second_start_compiles_nothing(compiler: Compiler, source: Path, tmp_path: Path) -> None:
    assert cached_cubin(source, "sm_90") == cached_cubin(source, "sm_90") == b"sm_90:int x;"
    assert compiler.compiled == [("k.cu", "sm_90")]
    assert [path.suffix for path in (tmp_path / "cache" / "kernels").iterdir()] == [".cubin"]


def test_another_source_gpu_or_compiler_is_compiled_anew(compiler: Compiler, source: Path) -> None:
    cached_cubin(source, "sm_90")
    cached_cubin(source, "sm_80")
    compiler.version = (13, 1)
    cached_cubin(source, "sm_80")
    source.write_text("int y;")
    assert cached_cubin(source, "sm_80") == b"sm_80:int y;"
    assert len(compiler.compiled) == 4


def test_a_cache_that_cannot_be_written_is_done_without(
    compiler: Compiler, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(source / "not-a-folder"))
    assert cached_cubin(source, "sm_90") == b"sm_90:int x;"


def test_the_gpu_is_told_by_its_compute_capability(compiler: Compiler) -> None:
    sampling_kernels((12, 0))
    assert compiler.compiled == [("sampling.cu", "sm_120")]


def test_headers_are_put_in_place_once(tmp_path: Path) -> None:
    (tmp_path / "a.cuh").write_text("#pragma once\nint a;\n")
    (tmp_path / "b.cuh").write_text('#pragma once\n#include "a.cuh"\nint b;\n')
    path = tmp_path / "k.cu"
    path.write_text('#include "a.cuh"\n#include "b.cuh"\nint k;\n')
    assert kernel_source(path).split("\n") == ["int a;", "", "", "int b;", "", "int k;", ""]
