"""What gunicorn loads in each worker: ``server.worker:create_app()``."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path

from server.app import Application
from server.config import RUN_DIRECTORY_VARIABLE, HttpConfig, WorkerConfig, read_config
from server.configured import configured_application
from server.drain import Departure, LeavingWorker
from server.logs import configure_logging
from server.phase import PhaseReader
from server.services import Services, start_services
from server.tracing.start import start_tracing

_gunicorn_worker: LeavingWorker | None = None


def remember_worker(worker: LeavingWorker) -> None:
    """Keep gunicorn's worker object, which knows whether it is to stop."""
    global _gunicorn_worker
    _gunicorn_worker = worker


def create_app() -> Application:
    """The application of this process, configured by the supervisor's files.

    Raises:
        RuntimeError: gunicorn's worker has not been remembered.
    """
    if _gunicorn_worker is None:
        raise RuntimeError("the application was loaded outside of a worker")
    config = read_config(WorkerConfig, os.environ)
    http = read_config(HttpConfig, os.environ)
    configure_logging(config.log_level, "http", config.log_format)
    tracing = start_tracing(os.environ, config.model_name)
    traced = [] if tracing is None else [tracing]
    phase = PhaseReader(Path(os.environ[RUN_DIRECTORY_VARIABLE]))
    departure = Departure(_gunicorn_worker, phase, http.keepalive)

    async def start() -> Services:
        services = await start_services(config, os.environ, departure.announced, traced)
        with suppress(BrokenPipeError):  # the supervisor listens for the first worker only
            os.write(http.ready, b".")
        os.close(http.ready)
        return services

    return configured_application(config, start, traced, departure)
