"""An engine as something that can be installed, started and measured."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.peers.engine import Engine
from benchmarks.peers.environments import Environment, install, peers_root
from benchmarks.peers.errors import PeerError, last_line
from benchmarks.peers.http_engine import Dialect, HttpEngine
from benchmarks.peers.processes import limited, started
from benchmarks.peers.worker_engine import WorkerEngine
from benchmarks.server import free_port, healthy

ROUND_SECONDS = 900.0
"""A peer that takes longer for a round, its start included, is ended."""
_WORKERS = Path(__file__).with_name("workers")


@dataclass(frozen=True)
class Contender:
    """An engine that can be measured.

    Attributes:
        interface: How it is reached, for people.
        settings: One line each.
        prepare: Installs it and makes its model; run before any round.
        start: A running engine, gone with the context.
    """

    name: str
    version: str
    interface: str
    settings: tuple[str, ...]
    prepare: Callable[[], object]
    start: Callable[[], AbstractContextManager[Engine]]


def server(
    name: str,
    environment: Environment,
    dialect: Dialect,
    command: Callable[[int], list[str]],
    model: Callable[[], object],
    *,
    settings: tuple[str, ...],
    variables: Mapping[str, str] | None = None,
) -> Contender:
    """A peer that listens on the port that ``command`` is given, and answers ``/health`` when it is ready."""

    @contextmanager
    def start() -> Iterator[Engine]:
        port = free_port()
        log = _log(name)
        with started(command(port), log, variables or {}, pipes=False) as process, limited(process, ROUND_SECONDS):
            while not healthy(port):
                if process.poll() is not None:
                    raise PeerError(f"the server ended: {last_line(log.read_text(errors='replace'))}; see {log}")
                time.sleep(0.02)
            yield HttpEngine(process.pid, port, dialect)

    def prepare() -> None:
        install(environment)
        model()

    return Contender(name, environment.version, "HTTP", settings, prepare, start)


def library(
    name: str,
    environment: Environment,
    script: str,
    arguments: Callable[[], list[str]],
    *,
    settings: tuple[str, ...],
) -> Contender:
    """A peer that the worker ``script`` runs with ``arguments``, which prepare its model when they are asked for."""

    @contextmanager
    def start() -> Iterator[Engine]:
        log = _log(name)
        command = [str(environment.python), str(_WORKERS / script), *arguments()]
        with started(command, log, {}, pipes=True) as process, limited(process, ROUND_SECONDS):
            engine = WorkerEngine(process, log)
            engine.wait_until_ready()
            yield engine

    def prepare() -> None:
        install(environment)
        arguments()

    return Contender(name, environment.version, "in process", settings, prepare, start)


def _log(name: str) -> Path:
    folder = peers_root() / "logs"
    folder.mkdir(parents=True, exist_ok=True)
    return folder / f"{name}.log"
