"""A server of its own for one run: where its files and its log are, and how it ended."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from benchmarks.processes import process_tree
from benchmarks.server import free_port, healthy

STOP_SECONDS = 90.0


@dataclass(frozen=True)
class Served:
    """A running server.

    Attributes:
        scratch: Its temporary directory, which nobody else writes to.
        log: What it prints.
    """

    port: int
    process: subprocess.Popen[bytes]
    scratch: Path
    log: Path

    @property
    def supervisor(self) -> int:
        """Process id."""
        return self.process.pid

    def stop(self) -> int:
        """SIGTERM; gives the exit status.

        Raises:
            subprocess.TimeoutExpired: It does not end.
        """
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        return self.process.wait(STOP_SECONDS)


@contextmanager
def served(model: str, flags: tuple[str, ...], folder: Path) -> Iterator[Served]:
    """Serve ``model`` until the end of the block, or until it was stopped before; ``folder`` gets its files.

    Raises:
        SystemExit: It cannot start; its log has said why.
    """
    scratch, log, port = folder / "tmp", folder / "server.log", free_port()
    scratch.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "server", model, "--port", str(port), "--log_level", "warning", *flags]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, stdout=output, stderr=subprocess.STDOUT, env=os.environ | {"TMPDIR": str(scratch)}
        )
    server = Served(port, process, scratch, log)
    try:
        while not healthy(port):
            if process.poll() is not None:
                raise SystemExit(f"error: the server ended with status {process.returncode}:\n{log.read_text()}")
            time.sleep(0.02)
        yield server
    finally:
        left = process_tree(process.pid)
        try:
            server.stop()
        except subprocess.TimeoutExpired:
            for process_id in left:
                os.kill(process_id, signal.SIGKILL)
            process.wait()
