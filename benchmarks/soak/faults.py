"""What is done to a server's processes, and when: a schedule is a function of its seed and length."""

from __future__ import annotations

import asyncio
import os
import random
import signal
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import msgspec

from benchmarks.processes import ENGINE, WORKER, roles
from benchmarks.soak.served import Served

Kind = Literal["kill engine", "stop engine", "kill worker", "stop worker"]

ENGINE_REST = 65.0
"""Seconds after which a server that replaces dead engines has forgotten the last one."""

ENGINE_DEATHS = 3
"""Fewer in a row than it puts up with."""

_SHORTEST_GAP, _LONGEST_GAP = 1.0, 6.0
_SHORTEST_STOP, _LONGEST_STOP = 0.5, 4.0


class Fault(msgspec.Struct, frozen=True, kw_only=True):
    """One deed, ``at`` seconds from the start; a stopped process goes on after ``seconds``."""

    at: float
    kind: Kind
    seconds: float = 0.0


def schedule(seed: int, seconds: float) -> list[Fault]:
    """Faults until ``seconds``, every kind as often; engines die no oftener than a server bears."""
    rng, faults = random.Random(f"faults {seed}"), list[Fault]()
    coming: list[Kind] = []
    deaths: list[float] = []
    now = rng.uniform(_SHORTEST_GAP, _LONGEST_GAP) / 2
    while now < seconds:
        if not coming:
            coming = rng.sample(["kill engine", "stop engine", "kill worker", "stop worker"], 4)
        kind = coming.pop()
        stop = rng.uniform(_SHORTEST_STOP, _LONGEST_STOP) if kind.startswith("stop") else 0.0
        if kind != "kill engine" or len(deaths) < ENGINE_DEATHS or now - deaths[-1] > ENGINE_REST:
            faults.append(Fault(at=now, kind=kind, seconds=stop))
            deaths += [now] if kind == "kill engine" else []
        now += stop + rng.uniform(_SHORTEST_GAP, _LONGEST_GAP)
    return faults


@dataclass
class Injector:
    """Does what a schedule says.

    Attributes:
        done: What was done, in words, with the time of it.
        orphaned: Ports of the clients that a killed worker was answering.
    """

    server: Served
    say: Callable[[str], None]
    done: list[str] = field(default_factory=list)
    orphaned: set[int] = field(default_factory=set)

    async def run(self, faults: list[Fault]) -> None:
        """All of it, each at its time."""
        start = time.monotonic()
        for fault in faults:
            await asyncio.sleep(start + fault.at - time.monotonic())
            await self._inject(fault)

    async def _inject(self, fault: Fault) -> None:
        role = ENGINE if fault.kind.endswith("engine") else WORKER
        found = sorted(process for process, has in roles(self.server.supervisor).items() if has == role)
        if not found:
            self.say(f"{fault.kind}: there is none at the moment")
            return
        process = found[len(self.done) % len(found)]
        lost = ""
        # NOTE: a process that ends by itself at this moment is one of those faults too.
        with suppress(ProcessLookupError):
            os.kill(process, signal.SIGSTOP)
            if fault.seconds:
                await asyncio.sleep(fault.seconds)
                os.kill(process, signal.SIGCONT)
            else:
                if role == WORKER:
                    # NOTE: it is stopped, so that these are exactly the clients that lose their answers.
                    ports = clients_of(process, self.server.port)
                    self.orphaned |= ports
                    lost = f", answering {len(ports)}"
                os.kill(process, signal.SIGKILL)
        self.done.append(fault.kind)
        self.say(f"{fault.kind} {process}{f' for {fault.seconds:.1f} s' if fault.seconds else ''}{lost}")


def clients_of(process: int, port: int) -> set[int]:
    """TCP ports of those whose connections to ``port`` a process of this machine holds."""
    sockets = set()
    for entry in Path(f"/proc/{process}/fd").iterdir():
        with suppress(OSError):
            sockets.add(str(entry.readlink()))
    found = set()
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        _, local, remote, *_, inode = line.split()[:10]
        if int(local.partition(":")[2], 16) == port and f"socket:[{inode}]" in sockets:
            found.add(int(remote.partition(":")[2], 16))
    return found
