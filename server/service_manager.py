"""Tells systemd how the server is: the protocol of ``sd_notify(3)``, which is a datagram of lines."""

from __future__ import annotations

import asyncio
import os
import socket
import time
from collections.abc import MutableMapping
from contextlib import suppress


class ServiceManager:
    """Whoever started the server and wants to hear of it; without one, nothing is told.

    Args:
        environ: Names it; its variables are taken out, as they are not meant for child processes.
    """

    def __init__(self, environ: MutableMapping[str, str] = os.environ) -> None:
        self._path = environ.pop("NOTIFY_SOCKET", "")
        microseconds = environ.pop("WATCHDOG_USEC", "")
        mine = environ.pop("WATCHDOG_PID", str(os.getpid())) == str(os.getpid())
        self.watchdog_seconds = int(microseconds) / 1e6 if microseconds.isdigit() and mine else 0.0

    def ready(self, status: str) -> None:
        """Requests are answered, for the first time or after ``reloading``."""
        self._tell("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """A swap begins."""
        self._tell("RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}")

    def stopping(self) -> None:
        """The end begins."""
        self._tell("STOPPING=1", "STATUS=finishing the running requests")

    async def keep_watchdog_quiet(self) -> None:
        """Show, twice in the time it allows, that this event loop turns; returns at once if nobody watches."""
        while self.watchdog_seconds:
            self._tell("WATCHDOG=1")
            await asyncio.sleep(self.watchdog_seconds / 2)

    def _tell(self, *lines: str) -> None:
        if not self._path:
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        # NOTE: a manager that does not listen is no reason to fail.
        with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify:
            notify.settimeout(1.0)
            notify.sendto("\n".join(lines).encode(), address)
