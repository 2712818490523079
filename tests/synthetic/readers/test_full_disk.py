"""A build that runs out of room says so in one line, and leaves neither half a bundle nor a lock."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from gguf_files import model_file

from build_engine.locks import lock_if_free

ROOT = Path(__file__).parents[3]


def build(model: Path, largest_file: int | None) -> subprocess.CompletedProcess[str]:
    """Build, as if there were room for files of so many bytes and no more."""
    limit = resource.RLIM_INFINITY if largest_file is None else largest_file
    # NOTE: there is no room for what coverage would write either.
    environ = {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
    return subprocess.run(
        [sys.executable, "-m", "build_engine", "build", str(model), "--no-verify", "--target", "cpu", "--quiet"],
        env=environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY)),
        capture_output=True,
        text=True,
        timeout=60,
    )


@pytest.mark.parametrize("largest_file", [100, 20_000])
def test_no_room_for_a_bundle(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, largest_file: int) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))
    model = model_file().write(tmp_path / "tiny.gguf")
    failed = build(model, largest_file)
    assert failed.returncode == 2
    assert failed.stderr.startswith("error: ")
    assert failed.stderr.count("\n") == 1
    assert "File too large" in failed.stderr
    bundles = tmp_path / "cache" / "bundles"
    assert not bundles.exists() or [*bundles.iterdir()] == []
    for lock in (tmp_path / "cache" / "locks").iterdir():
        with lock_if_free(lock.stem) as free:
            assert free
    assert build(model, None).returncode == 0
    assert len([*bundles.iterdir()]) == 1
