from pathlib import Path

import pytest

from runtime.bundle.cache import bundles_root, cache_root, sources_root


def test_the_variable_decides(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path))
    assert cache_root() == tmp_path
    assert bundles_root() == tmp_path / "bundles"
    assert sources_root() == tmp_path / "sources"


def test_a_relative_variable_starts_at_the_current_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PEREGRINE_CACHE", "here")
    assert cache_root() == tmp_path / "here"


def test_without_it_the_xdg_folder_is_taken(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("PEREGRINE_CACHE", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_root() == tmp_path / "xdg" / "peregrine"
    for useless in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", useless)
        assert cache_root() == tmp_path / ".cache" / "peregrine"
