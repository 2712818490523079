"""What an operator is told whose fleet does not start."""

from __future__ import annotations

import subprocess
import sys

from e2e.serving import MODEL

from benchmarks.ray.cluster import cluster


def test_an_engine_that_cannot_start_is_reported_with_its_reason() -> None:
    with cluster() as (address, _):
        flags = ["--target", "cpu", "--ray", address, "--max_total_token_num", "64"]
        done = subprocess.run(
            [sys.executable, "-m", "server", MODEL, "--port", "0", *flags],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
    assert done.returncode == 2
    last = done.stderr.splitlines()[-1]
    assert "the fleet does not start" in last
    assert "64" in last


def test_no_cluster_at_the_address_is_one_line() -> None:
    flags = ["--target", "cpu", "--ray", "127.0.0.1:9"]
    done = subprocess.run(
        [sys.executable, "-m", "server", MODEL, *flags], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 2
    assert done.stderr.endswith("--ray 127.0.0.1:9: [Errno 111] Connection refused\n")
