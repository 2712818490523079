from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.native import build
from runtime.native.build import BuildError

COMPILER = "#!/bin/sh\n{body}\n"
# Writes what it was asked for to its log, and an empty file where the output should be.
RECORDING = 'echo "$@" >> {log}\nwhile [ "$1" != -o ]; do shift; done\n: > "$2"'


@pytest.fixture
def no_compiler(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An environment without compilers; the folder on its PATH is returned."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(folder))
    return folder


def install(path: Path, body: str) -> Path:
    path.write_text(COMPILER.format(body=body))
    path.chmod(0o755)
    return path


def recorded(folder: Path, log: Path, output: Path) -> list[str]:
    install(folder / "g++", RECORDING.format(log=log))
    build.build_library(output)
    return log.read_text().splitlines()


@pytest.mark.parametrize("name", ["c++", "g++", "clang++"])
def test_compilers_on_the_path_are_found(no_compiler: Path, name: str) -> None:
    assert not build.has_compiler()
    install(no_compiler / name, "exit 0")
    assert build.has_compiler()


def test_cxx_may_have_arguments(no_compiler: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    log = tmp_path / "log"
    compiler = install(tmp_path / "my-cxx", RECORDING.format(log=log))
    monkeypatch.setenv("CXX", f"{compiler} --mine")
    build.build_library(tmp_path / "library.so")
    assert all(line.startswith("--mine ") for line in log.read_text().splitlines())


def test_every_source_is_compiled_and_linked(no_compiler: Path, tmp_path: Path) -> None:
    *compiled, linked = recorded(no_compiler, tmp_path / "log", tmp_path / "out" / "library.so")
    names = {path.name for path in build.SOURCES.glob("*.cc")}
    assert {Path(line.split(" -c ")[1].split()[0]).name for line in compiled} == names
    assert linked.count(".o ") == len(compiled)
    assert (tmp_path / "out" / "library.so").is_file()


def test_wide_instructions_are_allowed_in_kernels_alone(no_compiler: Path, tmp_path: Path) -> None:
    for line in recorded(no_compiler, tmp_path / "log", tmp_path / "library.so"):
        assert ("-mavx2" in line) == ("-DPEREGRINE_AVX" in line)
        assert "-DPEREGRINE_AVX" not in line or "kernels.cc" in line


def test_flags_keep_results_reproducible(no_compiler: Path, tmp_path: Path) -> None:
    *compiled, _ = recorded(no_compiler, tmp_path / "log", tmp_path / "library.so")
    assert all("-ffp-contract=off" in line for line in compiled)
    assert not any("fast-math" in line or "march=native" in line for line in compiled)


def test_other_machines_get_the_portable_kernels(
    no_compiler: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(build.platform, "machine", lambda: "aarch64")
    lines = recorded(no_compiler, tmp_path / "log", tmp_path / "library.so")
    assert not any("-mavx" in line for line in lines)
    assert sum("/kernels.cc" in line for line in lines) == 1
    assert sum("/linear_kernels.cc" in line for line in lines) == 1


def test_a_failing_compiler_is_quoted_and_the_old_library_kept(no_compiler: Path, tmp_path: Path) -> None:
    library = tmp_path / "library.so"
    library.write_text("old")
    install(no_compiler / "c++", "echo 'no such header' >&2; exit 1")
    with pytest.raises(BuildError, match="no such header"):
        build.build_library(library)
    assert library.read_text() == "old"


def test_a_compiler_that_is_not_there_is_named(
    no_compiler: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(BuildError, match="cannot run no-such-compiler"):
        build.build_library(tmp_path / "library.so")


def test_no_compiler_at_all_says_what_to_install(
    no_compiler: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(BuildError, match="pip install ziglang"):
        build.build_library(tmp_path / "library.so")


def test_main_reports_errors_in_one_line(
    no_compiler: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(build.importlib.util, "find_spec", lambda name: None)
    assert build.main() == 1
    assert capsys.readouterr().err.startswith("error: no C++ compiler: ")


def test_the_build_needs_the_standard_library_alone() -> None:
    """Only then can setup.py load it in an empty build environment."""
    code = f"import runpy; runpy.run_path({build.__file__!r})"
    subprocess.run([sys.executable, "-I", "-S", "-c", code], check=True, timeout=60)


def load_backend() -> object:
    path = Path(build.__file__).parents[2] / "build_backend" / "native_backend.py"
    spec = importlib.util.spec_from_file_location("backend_under_test", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_backend_asks_for_zig_only_without_a_compiler(no_compiler: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backend = load_backend()
    monkeypatch.setattr(backend.build_meta, "get_requires_for_build_wheel", lambda settings: ["wheel"])
    monkeypatch.setattr(backend.build_meta, "get_requires_for_build_editable", lambda settings: ["wheel"])
    hooks = (backend.get_requires_for_build_wheel, backend.get_requires_for_build_editable)
    assert [hook() for hook in hooks] == [["wheel", "ziglang==0.17.*"]] * 2
    install(no_compiler / "c++", "exit 0")
    assert [hook() for hook in hooks] == [["wheel"]] * 2
    assert os.environ["PATH"] == str(no_compiler)
