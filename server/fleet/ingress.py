"""The HTTP side of a fleet: the single server's application, on Ray Serve's ASGI interface."""

from __future__ import annotations

import os
from contextlib import ExitStack
from dataclasses import replace

from ray import serve

from server.access.key_ring import publish
from server.app import Application
from server.configured import configured_application
from server.engine_port import EnginePort
from server.fleet.client import FleetClient
from server.fleet.replica_metrics import ReplicaCollector
from server.fleet.settings import APPLICATION, ENGINE, FleetSettings
from server.logs import configure_logging
from server.run_directory import run_directory
from server.services import Services, start_services
from server.tracing.start import start_tracing


def make_ingress(settings: FleetSettings) -> Application:
    """The application of one ingress process."""
    config = settings.worker
    configure_logging(config.log_level, "http", config.log_format)
    if settings.tenants:
        # NOTE: as long as this process lives; nothing of Serve's tells when it ends.
        directory = _held.enter_context(run_directory())
        config = replace(config, key_ring=str(publish(settings.tenants, directory)))
    tracing = start_tracing(os.environ, config.model_name)
    traced = [] if tracing is None else [tracing]

    async def start() -> Services:
        client = FleetClient(serve.get_deployment_handle(ENGINE, APPLICATION))

        async def connect(*_: object) -> EnginePort:
            await client.start()
            return client

        services = await start_services(config, settings.environ, observers=traced, connect=connect)
        services.metrics.collectors.append(ReplicaCollector(lambda: client.last_states))
        return services

    return configured_application(config, start, traced)


_held = ExitStack()
