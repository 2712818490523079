"""A Ray cluster of two nodes on this machine, of its own: ``python -m benchmarks.ray.cluster`` prints its address.

It lives until standard input ends, in a temporary directory that goes with it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from server.fleet.settings import QUICK_PATHS

NODES = 2
OBJECT_STORE_BYTES = 80 * 2**20
START_SECONDS = 120


@contextmanager
def cluster(cpus: int = 1) -> Iterator[tuple[str, int]]:
    """A running cluster; gives its address and the process that all of its processes descend from.

    Args:
        cpus: Logical ones of each node.
    """
    with tempfile.TemporaryDirectory(prefix="ray-", dir="/tmp", ignore_cleanup_errors=True) as directory:
        # NOTE: Ray keeps sockets there, whose paths have to be short, and finds running clusters by it.
        environment = os.environ | {"RAY_TMPDIR": directory, "RAY_SERVE_LOG_TO_STDERR": "0"} | QUICK_PATHS
        process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.ray.cluster", str(cpus)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            address = next((line.split()[1] for line in process.stdout if line.startswith("address ")), "")
            assert address, "the cluster does not start"
            yield address, process.pid
        finally:
            process.stdin.close()
            process.wait(60)
            process.stdout.close()


def main() -> None:
    from ray.cluster_utils import Cluster

    node = {"num_cpus": int(sys.argv[1]), "object_store_memory": OBJECT_STORE_BYTES, "include_dashboard": False}
    (Path(os.environ["RAY_TMPDIR"]) / "ray").mkdir(exist_ok=True)
    nodes = Cluster(initialize_head=True, head_node_args=node)
    try:
        for _ in range(NODES - 1):
            nodes.add_node(**node)
        print("address", nodes.address, flush=True)
        sys.stdin.read()
    finally:
        nodes.shutdown()


if __name__ == "__main__":
    main()
