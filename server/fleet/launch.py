"""``serve --ray``: from the flags to a fleet, until a signal ends it."""

from __future__ import annotations

import logging
import os
import queue
import signal
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import ray
from ray import serve
from ray.exceptions import RayError
from ray.serve.config import HTTPOptions
from ray.serve.exceptions import RayServeException

from server.errors import StartError
from server.fleet.application import fleet
from server.fleet.settings import APPLICATION, QUICK_PATHS, FleetSettings
from server.logs import announce
from server.tls import TlsFiles

CONNECT_SECONDS = 10.0
_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)


@dataclass(frozen=True, slots=True, kw_only=True)
class Entrance:
    """Where clients come in.

    Attributes:
        proxies: Whether each node with a replica listens, or the cluster's head alone.
        tls: ``None`` speaks plain HTTP.
    """

    host: str
    port: int
    proxies: Literal["every_node", "head"] = "every_node"
    tls: TlsFiles | None = None

    @property
    def url(self) -> str:
        """Where clients find the server."""
        scheme = "http" if self.tls is None else "https"
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{scheme}://{host}:{self.port}"


def run(settings: FleetSettings, entrance: Entrance, address: str) -> int:
    """Serve until a signal; returns the exit status.

    Args:
        settings: What to run.
        entrance: Where to listen.
        address: Of a Ray cluster; ``auto`` takes a running one or starts one, ``local`` starts one.

    Raises:
        StartError: There is no cluster, or the fleet does not start.
    """
    with _cluster(address), _signals() as signals:
        _start(settings, entrance)
        announce(f"serving {settings.worker.model_name} on {entrance.url}: {settings.min_replicas} engines on Ray")
        number = signals.get()
        announce(f"{number.name}: stopping; running requests have {settings.engine.drain_seconds:g} s to finish")
        serve.delete(APPLICATION)
    return 0


def _start(settings: FleetSettings, entrance: Entrance) -> None:
    tls = entrance.tls
    options = HTTPOptions(
        host=entrance.host,
        port=entrance.port,
        ssl_certfile=tls and tls.certificate,
        ssl_keyfile=tls and (tls.key or tls.certificate),
        ssl_ca_certs=tls and tls.client_authorities,
    )
    location = {"every_node": "EveryNode", "head": "HeadOnly"}[entrance.proxies]
    try:
        serve.start(proxy_location=location, http_options=options)
        serve.run(fleet(settings), name=APPLICATION, route_prefix="/")
    except (RuntimeError, RayError, RayServeException) as error:
        raise StartError(f"the fleet does not start: {_reason() or error}") from None


def _reason() -> str:
    """What an engine that does not start said of it, out of the traceback that Serve keeps."""
    application = serve.status().applications.get(APPLICATION)
    found = [deployment.message for deployment in application.deployments.values()] if application else []
    lines = [line for message in found for line in message.splitlines() if StartError.__name__ in line]
    return lines[-1].partition(f"{StartError.__name__}: ")[2] if lines else ""


@contextmanager
def _cluster(address: str) -> Iterator[None]:
    """A connection to Ray; what it started itself ends with it."""
    _check(address)
    where: dict[str, Any] = {} if address == "auto" else {"address": address}
    if address in ("auto", "local"):
        # NOTE: for the nodes of a cluster that starts here.
        os.environ.update(QUICK_PATHS)
    if address == "local":
        where["include_dashboard"] = False
    try:
        ray.init(**where, logging_level=logging.WARNING, log_to_driver=True)
    except (ConnectionError, RuntimeError, ValueError) as error:
        raise StartError(f"--ray {address}: {error}") from None
    try:
        yield
        if address == "local":
            serve.shutdown()
    finally:
        ray.shutdown()


def _check(address: str) -> None:
    """See whether somebody is there, because Ray tries for minutes, and says it its own way."""
    if address in ("auto", "local"):
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not port.isdecimal():
        raise StartError(f"--ray {address}: must be auto, local, or a cluster's HOST:PORT, as ray start prints it")
    try:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise StartError(f"--ray {address}: {error}") from None


@contextmanager
def _signals() -> Iterator[queue.SimpleQueue[signal.Signals]]:
    """Signals as they come. NOTE: Ray has its own handlers until here."""
    found: queue.SimpleQueue[signal.Signals] = queue.SimpleQueue()
    before = {number: signal.signal(number, lambda n, _: found.put(signal.Signals(n))) for number in _SIGNALS}
    try:
        yield found
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
