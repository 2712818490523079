"""Faults under load: ``python -m benchmarks.soak.chaos --minutes 10 --seed 1``.

All sorts of clients send twice what a server can answer while its engine and HTTP workers are killed and stopped on a
schedule that is a function of ``--seed`` and ``--minutes``. In the end every request has to be accounted for, every
answer has to be its solo run's, and nothing may be left: no load, memory, descriptors, threads, processes or files.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec

from benchmarks.load.arguments import MODEL
from benchmarks.load.arrivals import poisson
from benchmarks.machine import describe, in_words
from benchmarks.soak.asks import pool
from benchmarks.soak.census import Census, swollen
from benchmarks.soak.clients import BODY_LIMIT, Client, mixed
from benchmarks.soak.faults import Injector, schedule
from benchmarks.soak.gauges import leftovers
from benchmarks.soak.http_call import call
from benchmarks.soak.ledger import ANSWERED, OUTCOMES, Ledger
from benchmarks.soak.models import model_of
from benchmarks.soak.served import Served, served
from benchmarks.soak.solo import solo_answers
from benchmarks.usage import at_least, positive
from server.listener import allow_many_connections

FLAGS = (
    *("--httpserver_workers", "2", "--max_queued", "32", "--running_max_req_size", "16", "--write_stall_seconds", "5"),
    *("--max_total_token_num", "2048", "--max_req_total_len", "256", "--admission", "aggressive"),
    *("--max_body_bytes", str(BODY_LIMIT)),
)
OVERLOAD = 2.0
"""Times its capacity."""

ANSWER_SECONDS = 90.0
"""A client that has no end of its answer by then was not answered."""

SETTLING = 20.0
"""Seconds in which any process may still take memory for the first time."""

_FREE_SECONDS = 10.0
_WARM_UP_SHARE, _QUIET_SHARE = 0.15, 0.2
"""Of the run: closed loop before, and load without faults in the end."""

_CLIENTS = 32


def main(argv: Sequence[str] | None = None) -> int:
    """Command line; 1 on any violation."""
    args = parser().parse_args(argv)
    machine = describe()
    print(in_words(machine))
    allow_many_connections()
    with tempfile.TemporaryDirectory(prefix="soak-") as folder:
        model = model_of(args.model, Path(folder))
        asks = pool(args.distinct, args.seed, model.last_token)
        solo = solo_answers(model, asks, Path(folder) / "solo")
        with served(model.bundle, (*FLAGS, *args.flags), Path(folder) / "chaos") as server:
            run = Run(server, args, Ledger(asks, solo, lambda: run.injector.orphaned))
            asyncio.run(run.play())
            status = server.stop()
            run.end(status)
        log = server.log.read_text(errors="replace")
    print("\n".join(run.report()))
    if args.json is not None:
        args.json.parent.mkdir(parents=True, exist_ok=True)
        args.json.write_bytes(msgspec.json.encode({"kind": "chaos", "machine": machine, "log": log} | run.document()))
    return int(bool(run.problems))


def parser() -> argparse.ArgumentParser:
    """All options."""
    made = argparse.ArgumentParser(
        prog="benchmarks.soak.chaos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--minutes", type=positive, default=10.0, help="(default: 10)")
    made.add_argument("--seed", type=int, default=0)
    made.add_argument("--model", default=MODEL, help="what to serve, or tiny (default: %(default)s)")
    made.add_argument("--rate", type=positive, metavar="R", help="requests a second (default: twice the capacity)")
    made.add_argument("--distinct", type=at_least(1), default=60, help="valid requests to draw from (default: 60)")
    made.add_argument("--json", type=Path, metavar="FILE", help="write what came of it there")
    made.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="passed on to peregrine serve; last")
    return made


class Run:
    """One run.

    Attributes:
        injector: Does the faults.
        problems: Everything that should not be, in words.
        memory: Lines on processes that lived long enough to be judged.
        capacity: Valid requests a second that were answered without faults.
    """

    def __init__(self, server: Served, args: argparse.Namespace, ledger: Ledger) -> None:
        self._seed, self._seconds, self._rate = args.seed, 60 * args.minutes, args.rate
        self._server, self._ledger = server, ledger
        self._census = Census(server)
        self._began = time.monotonic()
        self.injector = Injector(server, self._say)
        self.problems: list[str] = []
        self.memory: list[str] = []
        self.capacity = 0.0
        self._sent = 0

    async def play(self) -> None:
        """Everything while the server runs."""
        watching = asyncio.create_task(self._census.watch())
        warm_up = _WARM_UP_SHARE * self._seconds
        clients = mixed(random.Random(f"clients {self._seed}"), self._ledger.asks)
        await self._closed_loop(clients, warm_up)
        await self._expect_nothing_left("after the warm-up")
        before = self._census.holdings()
        rate = self._rate or OVERLOAD * self.capacity
        self._say(f"capacity {self.capacity:.1f} requests/s; sending {rate:.1f}")
        faults = schedule(self._seed, self._seconds * (1 - _WARM_UP_SHARE - _QUIET_SHARE))
        injecting = asyncio.create_task(self.injector.run(faults))
        await self._open_loop(clients, rate, self._seconds - warm_up)
        await injecting
        self.memory = self._census.grown(max(warm_up, SETTLING))
        self.problems += [line for line in self.memory if line.endswith("GREW")]
        await self._expect_nothing_left("at the end")
        self.problems += [f"at the end: {line}" for line in swollen(before, self._census.holdings())]
        watching.cancel()
        with suppress(asyncio.CancelledError):
            await watching

    def end(self, status: int) -> None:
        """What can be said when the server has stopped."""
        if status:
            self.problems.append(f"the server ended with status {status}")
        self.problems += [f"left behind: {thing}" for thing in self._census.remains()]
        self.problems += self._ledger.violations
        booked = self._ledger.outcomes.total()
        if booked != self._sent:
            self.problems.append(f"{self._sent} requests were sent, {booked} have an outcome")

    def report(self) -> list[str]:
        """Lines for people."""
        outcomes = self._ledger.outcomes
        lines = ["", f"{self._sent} requests, {len(self.injector.done)} faults"]
        lines += [f"{outcomes[name]:>8}  {name}: {meaning}" for name, meaning in OUTCOMES.items()]
        lines += ["", *(f"{count:>8} x {words}" for words, count in self._ledger.messages.most_common())]
        lines += ["", *self.memory, ""]
        lines += [f"VIOLATION: {problem}" for problem in self.problems[:30]]
        return [*lines, f"{len(self.problems)} violations"]

    def document(self) -> dict[str, object]:
        """The same for programs."""
        return {
            "seed": self._seed,
            "seconds": self._seconds,
            "capacity": self.capacity,
            "sent": self._sent,
            "faults": self.injector.done,
            "outcomes": self._ledger.outcomes,
            "messages": self._ledger.messages,
            "memory": self.memory,
            "problems": self.problems,
        }

    async def _closed_loop(self, clients: Iterator[Client], seconds: float) -> None:
        """Keep some clients busy, and learn what the server can do."""
        until = time.monotonic() + seconds

        async def one() -> None:
            while time.monotonic() < until:
                await self._send(next(clients))

        await asyncio.gather(*(one() for _ in range(_CLIENTS)))
        self.capacity = self._ledger.outcomes[ANSWERED] / seconds

    async def _open_loop(self, clients: Iterator[Client], rate: float, seconds: float) -> None:
        """Send, whatever the server does, and wait for all that was sent."""
        start = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for arrival in poisson(rate, random.Random(f"arrivals {self._seed}")):
                if arrival > seconds:
                    break
                await asyncio.sleep(start + arrival - time.monotonic())
                tasks.create_task(self._send(next(clients)))

    async def _send(self, client: Client) -> None:
        self._sent += 1
        reply = await call(self._server.port, client.path, client.body, seconds=ANSWER_SECONDS, manner=client.manner)
        self._ledger.enter(client, reply)

    async def _expect_nothing_left(self, when: str) -> None:
        self.problems += [f"{when}: {left}" for left in await leftovers(self._server.port, _FREE_SECONDS)]

    def _say(self, line: str) -> None:
        print(f"{time.monotonic() - self._began:7.1f} s  {line}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
