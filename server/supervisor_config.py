"""What one server is to run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from runtime.config import EngineConfig
from server.access.key_source import KeySource
from server.access.tenant import Tenant
from server.config import HttpConfig, WorkerConfig
from server.engine_process import ENGINE_COMMAND


@dataclass(frozen=True, slots=True, kw_only=True)
class SupervisorConfig:
    """What to run. A swap replaces ``engine``, ``worker`` and ``http``, and leaves the rest.

    Attributes:
        engine: The engine's configuration; its socket is filled in later.
        worker: The HTTP workers' configuration; its socket is filled in later.
        http: gunicorn's configuration; its descriptors are filled in later.
        engine_failure: Whether a dead engine is replaced or ends the server.
        engine_command: Program of the engine.
        drain_delay: Seconds between the announcement of the end and the closing of the port.
        swap_drain_seconds: What running requests get after a swap.
        tenants: Who has a key; with none, everybody is let in.
        keys: To read them again from.
        control_socket: Path of the control socket; ``None`` puts it into the private directory.
        arguments: The command line that this was made of: a swap makes the successor of them.
        spec: Replaces the model that they name.
    """

    host: str
    port: int
    engine: EngineConfig
    worker: WorkerConfig
    http: HttpConfig
    engine_failure: Literal["restart", "exit"] = "restart"
    engine_command: Sequence[str] = ENGINE_COMMAND
    drain_delay: float = 0.0
    swap_drain_seconds: float = 600.0
    tenants: tuple[Tenant, ...] = ()
    keys: KeySource = field(default_factory=KeySource)
    control_socket: str | None = None
    arguments: tuple[str, ...] = ()
    spec: str | None = None
