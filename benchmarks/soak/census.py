"""A server's processes over its life: memory, descriptors, threads, and what is left of them in the end."""

from __future__ import annotations

import asyncio
import statistics
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.processes import ENGINE, WORKER, resident_megabytes, roles
from benchmarks.soak.served import Served

_SECONDS = 1.0
_WINDOW = 8
"""Samples that a reading of memory is the median of."""

GROWTH = 1.05
"""Resident memory that a process may have in the end, over that after its warm-up."""

POOLS = 8
"""Threads, or descriptors, that pools may still open after the warm-up; what leaks grows with every request."""


@dataclass
class Life:
    """One process, sampled once a second."""

    role: str
    born: float
    megabytes: list[float] = field(default_factory=list)


@dataclass(frozen=True)
class Holdings:
    """What a process has open."""

    descriptors: int
    threads: int


@dataclass
class Census:
    """Watches a server.

    Attributes:
        lives: All processes that it ever had, by their ids.
        shared: Files in shared memory that any of them had open or mapped.
    """

    server: Served
    lives: dict[int, Life] = field(default_factory=dict)
    shared: set[Path] = field(default_factory=set)

    async def watch(self) -> None:
        """Sample until cancelled."""
        while True:
            self.sample()
            await asyncio.sleep(_SECONDS)

    def sample(self) -> None:
        """Take in what there is now."""
        for process, role in roles(self.server.supervisor).items():
            life = self.lives.setdefault(process, Life(role, time.monotonic()))
            life.megabytes.append(resident_megabytes(process))
            self.shared |= _shared_memory(process)

    def grown(self, warm_up: float) -> list[str]:
        """Processes that grew after their warm-up of so many seconds; and all that were judged, as lines."""
        lines = []
        for process, life in self._judged(warm_up):
            before, after = life.megabytes[int(warm_up) :][:_WINDOW], life.megabytes[-_WINDOW:]
            warm, end = statistics.median(before), statistics.median(after)
            verdict = "GREW" if end > GROWTH * warm else "ok"
            lines.append(
                f"{life.role} {process}: {warm:.1f} MiB warm, {end:.1f} at the end, {end / warm:.3f}: {verdict}"
            )
        return lines

    def _judged(self, warm_up: float) -> list[tuple[int, Life]]:
        """Those that live, and have lived long enough for a comparison."""
        living = roles(self.server.supervisor)
        return [
            (process, life)
            for process, life in self.lives.items()
            if process in living and life.role in (ENGINE, WORKER) and len(life.megabytes) >= warm_up + 2 * _WINDOW
        ]

    def holdings(self) -> dict[str, list[Holdings]]:
        """What the processes of each role have open now."""
        found: dict[str, list[Holdings]] = {}
        for process, role in roles(self.server.supervisor).items():
            with suppress(OSError):
                descriptors = len(list(Path(f"/proc/{process}/fd").iterdir()))
                threads = len(list(Path(f"/proc/{process}/task").iterdir()))
                found.setdefault(role, []).append(Holdings(descriptors, threads))
        return found

    def remains(self) -> list[str]:
        """What a server that has ended has left behind."""
        left = [f"process {process}, {life.role}" for process, life in self.lives.items() if _running(process)]
        left += [f"shared memory {path}" for path in sorted(self.shared) if path.exists()]
        left += [f"temporary file {path}" for path in sorted(self.server.scratch.iterdir())]
        return left


def swollen(before: dict[str, list[Holdings]], after: dict[str, list[Holdings]]) -> list[str]:
    """Roles with other numbers of processes than before, or with more open than their pools explain."""
    found = []
    for role in sorted(before.keys() | after.keys()):
        old, new = before.get(role, []), after.get(role, [])
        if len(old) != len(new):
            found.append(f"{role}: {len(new)} processes instead of {len(old)}")
        for name in ("descriptors", "threads"):
            most_old, most_new = (max((getattr(one, name) for one in all_), default=0) for all_ in (old, new))
            if most_new > most_old + POOLS:
                found.append(f"{role}: {most_new} {name}, {most_old} before")
    return found


def _shared_memory(process: int) -> set[Path]:
    found = set()
    with suppress(OSError):
        for line in Path(f"/proc/{process}/maps").read_text().splitlines():
            if " /dev/shm/" in line and not line.endswith("(deleted)"):
                found.add(Path(line[line.index("/dev/shm/") :]))
    return found


def _running(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
