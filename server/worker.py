"""What gunicorn loads in each worker: ``server.worker:create_app()``."""

from __future__ import annotations

import os
import signal
from contextlib import suppress
from functools import partial
from typing import TYPE_CHECKING

from server.access.layers import guarded
from server.app import Application
from server.config import HttpConfig, WorkerConfig, read_config
from server.logs import configure_logging
from server.services import Services, start_services
from server.tracing.start import start_tracing

if TYPE_CHECKING:
    from gunicorn.workers.base import Worker

_gunicorn_worker: Worker | None = None


def remember_worker(worker: Worker) -> None:
    """Keep gunicorn's worker object, which knows whether it is to stop."""
    global _gunicorn_worker
    _gunicorn_worker = worker


def create_app() -> Application:
    """The application of this process, configured by the supervisor's files."""
    config = read_config(WorkerConfig, os.environ)
    http = read_config(HttpConfig, os.environ)
    configure_logging(config.log_level, "http", config.log_format)
    tracing = start_tracing(os.environ, config.model_name)
    traced = [] if tracing is None else [tracing]

    async def start() -> Services:
        services = await start_services(config, os.environ, draining, traced)
        with suppress(BrokenPipeError):  # the supervisor listens for the first worker only
            os.write(http.ready, b".")
        os.close(http.ready)
        return services

    return Application(
        start,
        max_body_bytes=config.max_body_bytes,
        stall_seconds=config.stall_seconds,
        request_timeout=config.request_timeout,
        ui=config.ui,
        tgi=config.tgi,
        log_prompts=config.log_prompts,
        guard=partial(guarded, config=config),
        draining=draining,
        leave=_leave,
        witnesses=traced,
    )


def draining() -> bool:
    """Whether gunicorn has told this worker to stop."""
    return _gunicorn_worker is not None and not _gunicorn_worker.alive


def _leave() -> None:
    # NOTE: to a worker that is stopping already, SIGQUIT means: do not wait any longer.
    os.kill(os.getpid(), signal.SIGQUIT)
