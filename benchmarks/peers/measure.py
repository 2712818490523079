"""One engine's part of a round."""

from __future__ import annotations

import time
from collections.abc import Iterable

from benchmarks.peers.contender import Contender
from benchmarks.peers.engine import checked
from benchmarks.peers.errors import PeerError
from benchmarks.peers.processes import peak_megabytes
from benchmarks.peers.rounds import run_workload, warm_up
from benchmarks.workloads import Workload

FIRST = [1000, 2000, 3000, 4000]


def measure_round(engine: Contender, workloads: Iterable[Workload], index: int) -> dict[str, dict[str, float]]:
    """Start ``engine``, measure all ``workloads``, end it.

    Returns:
        Figures by workload, and under ``start`` the seconds from the process's start to its first token and the peaks
        of resident memory.

    Raises:
        PeerError: It failed.
    """
    began = time.monotonic()
    try:
        with engine.start() as running:
            (first,) = checked(running.generate([FIRST], 1), 1, 1)
            measured = {}
            for workload in workloads:
                warm_up(running, workload, index)
                measured[workload.name] = run_workload(running, workload, index)
            largest, together = peak_megabytes(running.root)
    except (OSError, RuntimeError, SystemExit) as error:  # the serving helper ends with the latter
        raise error if isinstance(error, PeerError) else PeerError(f"{type(error).__name__}: {error}") from error
    start = {"first_token_s": first.first - began, "peak_process_mb": largest, "peak_all_mb": together}
    return {**measured, "start": start}
