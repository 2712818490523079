"""Starts the server under test and finds its processes."""

from __future__ import annotations

import http.client
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager

from benchmarks.processes import ENGINE, roles


def free_port() -> int:
    """A TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serving(model: str, *flags: str) -> Iterator[tuple[int, int, float]]:
    """Serve ``model``; gives the port, the engine's process id and the seconds until ``/health`` answered."""
    port = free_port()
    command = [sys.executable, "-m", "server", model, "--port", str(port), "--log_level", "warning", *flags]
    began = time.monotonic()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    try:
        while not healthy(port):
            if process.poll() is not None:
                raise SystemExit(f"error: the server ended with status {process.returncode}")
            time.sleep(0.005)
        yield port, engine_of(process.pid), time.monotonic() - began
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(90)


def healthy(port: int) -> bool:
    """Whether ``/health`` answers 200."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def engine_of(supervisor: int) -> int:
    """Process id of the supervisor's engine."""
    for process, role in roles(supervisor).items():
        if role == ENGINE:
            return process
    message = "the engine process was not found"
    raise RuntimeError(message)
