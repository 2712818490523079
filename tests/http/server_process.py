"""A whole server in processes of its own, on a free port."""

from __future__ import annotations

import http.client
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
START_SECONDS = 60


class ServerProcess:
    """``python -m server`` or another program that serves; its output is kept for the failure message."""

    def __init__(self, *arguments: str, program: tuple[str, ...] = ("-m", "server"), **environ: str) -> None:
        paths = os.pathsep.join([str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/http")])
        self.process = subprocess.Popen(
            [sys.executable, *program, *arguments],
            env=os.environ | {"PYTHONPATH": paths} | environ,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self.lines: list[str] = []
        self._changed = threading.Condition()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with self._changed:
                self.lines.append(line)
                self._changed.notify_all()
        with self._changed:
            self.lines.append("")
            self._changed.notify_all()

    def __enter__(self) -> ServerProcess:
        return self

    def __exit__(self, *_: object) -> None:
        left = descendants(self.process.pid)
        self.process.kill()
        self.process.wait(10)
        for pid in left:
            wait_until(lambda pid=pid: not running(pid), f"process {pid} outlives the server")
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()

    @property
    def output(self) -> str:
        """Everything printed so far."""
        return "".join(self.lines)

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for a line."""
        with self._changed:
            found = self._changed.wait_for(
                lambda: re.search(pattern, self.output) or self.lines[-1:] == [""], START_SECONDS
            )
            match = re.search(pattern, self.output)
        assert found, f"no {pattern!r} in time:\n{self.output}"
        assert match, f"no {pattern!r} before the end:\n{self.output}"
        return match

    def wait_until_serving(self) -> ServerProcess:
        """Wait until requests are answered."""
        self.port = int(self.wait_for(r"serving \S+ on https?://127\.0\.0\.1:(\d+)")[1])
        return self

    def exit_status(self, timeout: float = 30.0) -> int:
        """Wait for the end."""
        try:
            status = self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"the server does not end:\n{self.output}") from None
        self._reader.join(10)
        return status

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to the supervisor alone."""
        self.process.send_signal(number)

    def engine_pid(self) -> int:
        """The running engine's process."""
        (pid,) = [p for p in descendants(self.process.pid) if "engine" in command_line(p)]
        return pid

    def connect(self) -> http.client.HTTPConnection:
        """A new connection."""
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)

    def request(
        self, method: str, path: str, body: Any = None, headers: Mapping[str, str] | None = None
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on a connection of its own."""
        connection = self.connect()
        try:
            return self.on(connection, method, path, body, headers)
        finally:
            connection.close()

    @staticmethod
    def on(
        connection: http.client.HTTPConnection,
        method: str,
        path: str,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
    ) -> tuple[int, dict[str, str], bytes]:
        """One request on ``connection``."""
        connection.request(method, path, None if body is None else json.dumps(body), dict(headers or {}))
        response = connection.getresponse()
        found = {name.lower(): value for name, value in response.getheaders()}
        return response.status, found, response.read()

    def stream(self, path: str = "/generate_stream", tokens: int = 200) -> socket.socket:
        """Begin a stream and wait for its first bytes."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=30)
        body = json.dumps(completion(tokens)).encode()
        connection.sendall(b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % (path.encode(), len(body)))
        connection.sendall(body)
        if path == "/generate_stream":
            assert connection.recv(16) == b"HTTP/1.1 200 OK\r"
        return connection

    def metric(self, name: str) -> float:
        """A value from ``/metrics``."""
        text = self.request("GET", "/metrics")[2].decode()
        values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines() if line.startswith(name)]
        assert values, f"no metric {name}"
        return sum(values)


def completion(tokens: int) -> dict[str, Any]:
    """A body that generates exactly ``tokens`` tokens."""
    return {"inputs": "hi", "parameters": {"max_new_tokens": tokens, "ignore_eos": True}}


def read_all(connection: socket.socket) -> bytes:
    """What comes until the other end closes, or until the end of a chunked body."""
    parts = []
    while not b"".join(parts[-2:]).endswith(b"0\r\n\r\n") and (part := connection.recv(65536)):
        parts.append(part)
    connection.close()
    return b"".join(parts)


def wait_until(condition: Callable[[], bool], message: str, timeout: float = 20.0) -> None:
    """Poll for something that other processes do."""
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, message
        time.sleep(0.02)


def descendants(pid: int) -> list[int]:
    """Processes below ``pid``."""
    parents: dict[int, list[int]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal() and (stat := _stat(int(entry.name))):
            parents.setdefault(int(stat[1]), []).append(int(entry.name))
    found, queue = [], [pid]
    while queue:
        children = parents.get(queue.pop(), [])
        found += children
        queue += children
    return found


def running(pid: int) -> bool:
    """Whether a process exists and is no zombie."""
    stat = _stat(pid)
    return bool(stat) and stat[0] != "Z"


def command_line(pid: int) -> str:
    """Program and arguments of a process."""
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode()
    except OSError:
        return ""


def _stat(pid: int) -> list[str]:
    """State and parent of a process, and more; empty if there is none."""
    try:
        return (Path("/proc") / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return []
