"""What the operating system says of this server's processes: several serve together, and one answers the scrape."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class ProcessFacts:
    """One process.

    Attributes:
        resident_bytes: Memory in use, mapped weights included.
        open_files: Descriptors.
        started_at: Seconds since 1970.
    """

    resident_bytes: int
    open_files: int
    started_at: float


def facts_of(pid: int) -> ProcessFacts | None:
    """What is known of a process; ``None`` where it has ended, or there is no ``/proc``."""
    directory = PROC / str(pid)
    try:
        stat = (directory / "stat").read_text().rpartition(")")[2].split()
        boot = next(line for line in (PROC / "stat").read_text().splitlines() if line.startswith("btime "))
        files = len([*(directory / "fd").iterdir()])
    except (OSError, StopIteration):
        return None
    # NOTE: proc(5) counts from 1 and begins with pid and name: field 22 is the start, field 24 the resident pages.
    started_at = int(boot.split()[1]) + int(stat[19]) / os.sysconf("SC_CLK_TCK")
    return ProcessFacts(int(stat[21]) * os.sysconf("SC_PAGE_SIZE"), files, started_at)


def http_workers() -> list[int]:
    """Process ids of gunicorn's workers, of which this is one; this process alone outside of gunicorn."""
    if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
        return [os.getpid()]
    parent = str(os.getppid())
    try:
        return [int(pid) for pid in (PROC / parent / "task" / parent / "children").read_text().split()]
    except OSError:
        return [os.getpid()]


class ProcessCollector(Collector):
    """Prometheus's usual metrics of a process, with a label that says which.

    Args:
        processes: Process ids by role.
    """

    def __init__(self, processes: Mapping[str, Iterable[int]]) -> None:
        self._facts = {
            role: facts for role, pids in processes.items() if (facts := [f for p in pids if (f := facts_of(p))])
        }

    def collect(self) -> Iterator[Metric]:
        """Yield every metric."""
        memory = _gauge("process_resident_memory_bytes", "Resident memory, mapped weights included")
        files = _gauge("process_open_fds", "Open file descriptors")
        started = _gauge("process_start_time_seconds", "When the oldest of them started, in seconds since 1970")
        count = _gauge("peregrine_processes", "Running processes")
        for role, facts in self._facts.items():
            memory.add_metric([role], sum(one.resident_bytes for one in facts))
            files.add_metric([role], sum(one.open_files for one in facts))
            started.add_metric([role], min(one.started_at for one in facts))
            count.add_metric([role], len(facts))
        yield from (memory, files, started, count)


def _gauge(name: str, text: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, text, labels=["process"])
