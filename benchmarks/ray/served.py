"""A server of the default model to measure: one machine's, or a fleet on a Ray cluster of its own."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

from benchmarks.processes import cpu_seconds, process_tree
from benchmarks.ray.cluster import cluster
from benchmarks.server import free_port, healthy

MODEL = "smollm2-135m-instruct"
ENGINE_FLAGS = ("--target", "cpu", "--threads", "1", "--no_spinning", "--disable_speculation")
START_SECONDS = 120.0


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        roots: Processes that all of its processes descend from.
    """

    port: int
    roots: tuple[int, ...]

    def cpu_seconds(self) -> float:
        """Spent by all of its processes so far."""
        return sum(cpu_seconds(process) for root in self.roots for process in process_tree(root))


@contextmanager
def served(*flags: str, ray: bool) -> Iterator[Served]:
    """Serve until the end of the block."""
    port = free_port()
    command = [sys.executable, "-m", "server", MODEL, "--port", str(port), "--log_level", "warning", *ENGINE_FLAGS]
    with ExitStack() as stack:
        above: tuple[int, ...] = ()
        if ray:
            address, pid = stack.enter_context(cluster())
            above, flags = (pid,), ("--ray", address, "--proxies", "head", *flags)
        process = subprocess.Popen([*command, *flags], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        stack.callback(process.wait, 90)
        stack.callback(process.send_signal, signal.SIGTERM)
        deadline = time.monotonic() + START_SECONDS
        while not healthy(port):
            if process.poll() is not None or time.monotonic() > deadline:
                raise SystemExit("error: the server does not start")
            time.sleep(0.1)
        yield Served(port, (*above, process.pid))
