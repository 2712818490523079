from __future__ import annotations

from pathlib import Path

import pytest

from runtime.native import NativeLibraryError, library, library_path


class FakeFunction:
    def __init__(self, result: object) -> None:
        self.result = result

    def __call__(self, *arguments: object) -> object:
        return self.result


class FakeLibrary:
    """What ctypes would load, with the answers given."""

    def __init__(self, abi: int = library.ABI_VERSION, isa: bytes | None = b"avx2") -> None:
        self.peregrine_abi_version = FakeFunction(abi)
        self.peregrine_active_isa = FakeFunction(isa)
        self.peregrine_has_isa = lambda name: not name.startswith(b"avx512")
        self.peregrine_force_isa = FakeFunction(1)
        self.peregrine_linear_isa = FakeFunction(b"avx2")
        self.peregrine_force_linear_isa = FakeFunction(1)
        self.peregrine_workspace_allocations = FakeFunction(0)
        self.peregrine_to_half = FakeFunction(None)
        self.peregrine_to_float = FakeFunction(None)


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> pytest.MonkeyPatch:
    """A library file that is there; `load` decides what is in it."""
    path = tmp_path / "libperegrine_ops.so"
    path.write_bytes(b"")
    monkeypatch.setattr(library, "_LIBRARY", path)
    library.load_library.cache_clear()
    yield monkeypatch
    library.load_library.cache_clear()


def load(patch: pytest.MonkeyPatch, fake: FakeLibrary) -> None:
    patch.setattr(library.ctypes, "CDLL", lambda path: fake)


def test_a_missing_library_says_what_to_run(built: pytest.MonkeyPatch) -> None:
    library_path().unlink()
    with pytest.raises(NativeLibraryError, match=r"is missing: run 'python -m runtime\.native\.build'"):
        library_path()


def test_a_library_that_cannot_be_loaded_is_named(built: pytest.MonkeyPatch) -> None:
    with pytest.raises(NativeLibraryError, match=r"cannot load .*libperegrine_ops\.so"):
        library.load_library()


def test_a_library_of_other_sources_is_refused(built: pytest.MonkeyPatch) -> None:
    load(built, FakeLibrary(abi=99))
    with pytest.raises(NativeLibraryError, match="has ABI version 99, this code needs"):
        library.load_library()


def test_isas_are_reported_widest_first(built: pytest.MonkeyPatch) -> None:
    load(built, FakeLibrary())
    assert library.active_isa() == "avx2"
    assert library.available_isas() == ("avx2", "portable")


def test_an_isa_that_is_not_there_is_refused(built: pytest.MonkeyPatch) -> None:
    load(built, FakeLibrary(isa=None))
    built.setenv("PEREGRINE_CPU_ISA", "avx512")
    with pytest.raises(NativeLibraryError, match="PEREGRINE_CPU_ISA=avx512 is not possible here: choose from avx2"):
        library.active_isa()
