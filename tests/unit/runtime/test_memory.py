"""Memory left to a process, on the machine and inside a control group."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import memory


def test_a_control_groups_limit_counts_where_it_is_lower(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "meminfo").write_text("MemTotal: 9 kB\nMemAvailable: 1000 kB\n")
    (tmp_path / "max").write_text("500000\n")
    (tmp_path / "current").write_text("100000\n")
    monkeypatch.setattr(memory, "_MEMINFO", tmp_path / "meminfo")
    monkeypatch.setattr(memory, "_CGROUPS", ((tmp_path / "max", tmp_path / "current"),))
    assert memory.available_memory() == 400_000
    (tmp_path / "max").write_text("max\n")
    assert memory.available_memory() == 1_024_000
    (tmp_path / "meminfo").unlink()
    assert memory.available_memory() is None
