"""What this machine does at best, measured: the ceilings of ``benchmarks.floors``."""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np
import numpy.typing as npt

from benchmarks.floors import Ceilings
from benchmarks.kernels import Layers, best_seconds
from runtime.bundle.architecture import Architecture

_BYTES = 400_000_000
"""Read by a measurement, all threads together; far beyond any cache."""


def read_bandwidth() -> float:
    """Bytes a second that are summed by one thread, or by all at once where that is more."""
    rates = []
    for threads in sorted({1, len(os.sched_getaffinity(0))}):
        parts = np.ones((threads, _BYTES // 8 // threads), dtype=np.int64)
        with ThreadPoolExecutor(threads) as pool:
            rates.append(parts.nbytes / best_seconds(partial(_read, pool, parts)))
    return max(rates)


def linear_rate(architecture: Architecture) -> float:
    """Multiply-adds a second of the linear kernel on the model's widest matrix of a layer; its best precision."""
    layers = Layers(architecture.hidden_size, 2 * architecture.intermediate_size)
    best = 0.0
    for bits, group, offsets in ((4, 32, True), (8, 32, False)):
        layers.native(bits, group, offsets=offsets)
        best = max(best, *layers.rates())
    return best * 1e9 / 2


def measure(architecture: Architecture) -> Ceilings:
    """Both ceilings."""
    return Ceilings(read_bandwidth(), linear_rate(architecture))


def _read(pool: ThreadPoolExecutor, parts: npt.NDArray[np.int64]) -> list[np.int64]:
    """Each part by a thread: a sum does not hold the interpreter's lock."""
    return list(pool.map(np.sum, parts))
