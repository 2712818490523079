"""Times work on a device without what it costs to enqueue it."""

from __future__ import annotations

import time
from collections.abc import Callable

from runtime.cuda.device import Stream


def seconds_each(stream: Stream, enqueue: Callable[[], object], *, repeats: int = 20, rounds: int = 5) -> float:
    """Seconds of what ``enqueue`` enqueues: a CUDA graph of ``repeats`` of it, the best of ``rounds`` launches.

    Raises:
        CudaError: It fails.
    """
    enqueue()
    stream.synchronize()
    stream.begin_capture()
    try:
        for _ in range(repeats):
            enqueue()
    finally:
        graph = stream.end_capture()
    times = []
    try:
        for _ in range(rounds + 1):
            began = time.perf_counter()
            stream.launch_graph(graph)
            stream.synchronize()
            times.append(time.perf_counter() - began)
    finally:
        graph.close()
    return min(times[1:]) / repeats
