"""What systemd is told."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path

import pytest

from server.service_manager import ServiceManager


@pytest.mark.parametrize("abstract", [False, True])
def test_a_manager_hears_of_every_change(tmp_path: Path, abstract: bool) -> None:
    name = f"@peregrine-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind("\0" + name[1:] if abstract else name)
        environ = {"NOTIFY_SOCKET": name, "OTHER": "stays"}
        manager = ServiceManager(environ)
        assert environ == {"OTHER": "stays"}
        manager.ready("serving")
        manager.reloading()
        manager.stopping()
        heard = [listener.recv(1000).decode().split("\n") for _ in range(3)]
    assert heard[0] == ["READY=1", "STATUS=serving"]
    assert heard[1][0] == "RELOADING=1"
    assert heard[1][1].startswith("MONOTONIC_USEC=")
    assert heard[2][0] == "STOPPING=1"


def test_a_watchdog_is_fed_twice_in_its_time(tmp_path: Path) -> None:
    async def feed(manager: ServiceManager, listener: socket.socket) -> None:
        feeding = asyncio.create_task(manager.keep_watchdog_quiet())
        for _ in range(2):
            assert await asyncio.to_thread(listener.recv, 100) == b"WATCHDOG=1"
        feeding.cancel()

    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(10)
        environ = {
            "NOTIFY_SOCKET": str(tmp_path / "notify"),
            "WATCHDOG_USEC": "20000",
            "WATCHDOG_PID": str(os.getpid()),
        }
        manager = ServiceManager(environ)
        assert manager.watchdog_seconds == 0.02
        asyncio.run(feed(manager, listener))


@pytest.mark.parametrize("environ", [{}, {"WATCHDOG_USEC": "1000", "WATCHDOG_PID": "1"}, {"NOTIFY_SOCKET": "/nowhere"}])
def test_without_a_manager_nothing_happens(environ: dict[str, str]) -> None:
    manager = ServiceManager(environ)
    manager.ready("serving")
    asyncio.run(manager.keep_watchdog_quiet())
    assert manager.watchdog_seconds == 0
