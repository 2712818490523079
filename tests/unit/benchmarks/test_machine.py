"""What the benchmarks read from Linux."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks import machine, processes
from benchmarks.regression.address_space import mapped_bytes


def test_machines_differ_by_processor_instruction_sets_and_cores(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    usual = machine.machine_class()
    monkeypatch.setenv("PEREGRINE_CPU_ISA", "portable")
    assert machine.machine_class() == usual
    monkeypatch.setattr(
        machine, "_cpu", lambda: {"vendor_id": "V", "cpu family": "6", "model": "1", "flags": "fma avx2"}
    )
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1, 2})
    monkeypatch.setattr(machine.platform, "machine", lambda: "x86_64")
    assert machine.machine_class() == "x86_64 V-6-1 avx2, 3 cores"


def test_bytes_of_a_mapped_file_are_those_of_its_pages(tmp_path: Path) -> None:
    path = tmp_path / "file with spaces"
    path.write_bytes(bytes(10_000))
    assert mapped_bytes(path) == 0
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ):
        assert mapped_bytes(path) == -(-10_000 // mmap.PAGESIZE) * mmap.PAGESIZE
        assert mapped_bytes(path, access="rw") == 0


def test_a_process_below_another_is_found_with_its_cpu_time() -> None:
    code = "import sys; sum(range(100_000)); print('done', flush=True); sys.stdin.read()"
    with subprocess.Popen([sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        child.stdout.readline()
        assert processes.parent_of(child.pid) == os.getpid()
        assert child.pid in processes.process_tree(os.getpid())
        assert 0 < processes.cpu_seconds(child.pid) < 60
        child.stdin.close()
