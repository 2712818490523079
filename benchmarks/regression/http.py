"""What is timed over HTTP: the start of a server, and eight streams at once."""

from __future__ import annotations

import asyncio
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.client import stream
from benchmarks.processes import cpu_seconds, parent_of, process_tree
from benchmarks.regression.calibration import Spent, matrix_products, spent
from benchmarks.regression.engines import THREADS
from benchmarks.regression.replay import Arrival, request
from benchmarks.regression.workloads import Workload
from benchmarks.server import serving

STREAMS, _PROMPT, _OUTPUT = 8, 16, 24
_VOCABULARY = 40_000
_PRODUCTS = 16
_FLAGS = ("--no_spinning", "--threads", str(THREADS), "--disable_dynamic_prompt_cache", "--disable_speculation")


class Served:
    """A server under test: how long its start took, and the requests that it gets."""

    def __init__(self, port: int, engine: int, seconds: float) -> None:
        self._port = port
        self._tree = process_tree(parent_of(engine) or engine)
        self._sent = 0
        self.start = Spent(seconds, self._cpu())

    def streams(self) -> Spent:
        """Eight streams at once, with new prompts: the server's time, the client's not among it."""
        began, cpu = time.perf_counter(), self._cpu()
        asyncio.run(self._send())
        return Spent(time.perf_counter() - began, self._cpu() - cpu)

    async def _send(self) -> None:
        arrival = Arrival(prompt=_PROMPT, output=_OUTPUT)
        requests = [request(self._sent + i, arrival, _VOCABULARY) for i in range(STREAMS)]
        self._sent += STREAMS
        await asyncio.gather(*(stream("127.0.0.1", self._port, item.prompt, _OUTPUT) for item in requests))

    def _cpu(self) -> float:
        return sum(map(cpu_seconds, self._tree))


@contextmanager
def http_workload(bundle: Path) -> Iterator[Workload]:
    """A server, and streams from it."""
    with serving(str(bundle), *_FLAGS) as started:
        served, product = Served(*started), matrix_products(_PRODUCTS)
        yield Workload(f"HTTP, {STREAMS} streams", served.streams, lambda: spent(product))


def start_workload(bundle: Path) -> Workload:
    """From the command to the first answer of ``/health``."""
    return Workload("start of a server", lambda: start(bundle), interpreter_start)


def start(bundle: Path) -> Spent:
    """Start a server, and end it."""
    with serving(str(bundle), *_FLAGS) as started:
        return Served(*started).start


def interpreter_start() -> Spent:
    """Start an interpreter that imports what the engine stands on: the yardstick of a server's start."""
    began, before = time.perf_counter(), resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", "import numpy, onnxruntime"], check=True)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return Spent(time.perf_counter() - began, cpu)
