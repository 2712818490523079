"""gunicorn's configuration, read by ``gunicorn -c python:server.gunicorn_conf``."""

from __future__ import annotations

import logging
import os
import signal
import ssl
from typing import TYPE_CHECKING

from prometheus_client.multiprocess import mark_process_dead

from server.config import HttpConfig, read_config
from server.logs import json_formatter
from server.tether import die_with_parent
from server.tls import tls_context

if TYPE_CHECKING:
    from gunicorn.arbiter import Arbiter
    from gunicorn.workers.base import Worker

WORKER_BOOT_ERROR = 3
"""The exit status of a worker at which gunicorn ends instead of trying another."""

_config = read_config(HttpConfig, os.environ)

bind = f"fd://{_config.listener}"
workers = _config.workers
loglevel = _config.log_level
timeout = _config.timeout
graceful_timeout = _config.graceful_timeout
keepalive = _config.keepalive

worker_class = "server.http_worker.HttpWorker"
worker_connections = _config.worker_connections
asgi_loop = "auto"
asgi_lifespan = "on"
asgi_disconnect_grace_period = 3
http_protocols = "h1"
preload_app = False
max_requests = 0
control_socket_disable = True
limit_request_line = 4094
limit_request_fields = 64
limit_request_field_size = 8190
if _config.tls is not None:
    certfile = _config.tls.certificate


def ssl_context(_conf: object, _default: object) -> ssl.SSLContext:
    """The workers' TLS, as it was checked at the start."""
    if _config.tls is None:
        raise SystemExit(WORKER_BOOT_ERROR)
    try:
        return tls_context(_config.tls)
    except (OSError, ValueError) as error:
        # NOTE: gunicorn answers any other exception by speaking plain HTTP on the port.
        logging.getLogger("gunicorn.error").critical("the certificate cannot be used any more: %s", error)
        raise SystemExit(WORKER_BOOT_ERROR) from None


def on_starting(server: Arbiter) -> None:  # noqa: ARG001
    """Have gunicorn's own lines look like the others."""
    if _config.log_format == "json":
        for handler in logging.getLogger("gunicorn.error").handlers:
            handler.setFormatter(json_formatter("http"))


def pre_fork(server: Arbiter, worker: Worker) -> None:  # noqa: ARG001 - gunicorn's signature
    """Remember who the parent will be."""
    worker.supervised_by = os.getpid()


def post_fork(server: Arbiter, worker: Worker) -> None:  # noqa: ARG001
    """Leave no worker behind, however gunicorn's master ends; let the application see its worker."""
    die_with_parent(worker.supervised_by, signal.SIGKILL)
    from server.worker import remember_worker

    remember_worker(worker)


def child_exit(server: Arbiter, worker: Worker) -> None:  # noqa: ARG001
    """Take a worker's open requests out of the gauges; its counters stay, so that sums never fall."""
    mark_process_dead(worker.pid)  # type: ignore[no-untyped-call]
