"""Starts the real server on the real default model, as a user would."""

from __future__ import annotations

import http.client
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from benchmarks.ray.cluster import cluster
from benchmarks.server import engine_of, free_port

MODEL = "smollm2-135m-instruct"
KV = os.environ.get("PEREGRINE_TEST_KV", "paged")
"""KV cache of the default model's engine: ``linear`` is float32, with a slot for each sequence."""
RAY = bool(os.environ.get("PEREGRINE_TEST_RAY"))
"""Serve from a Ray cluster of two nodes, an engine on each."""
START_SECONDS = 120


class Server:
    """A ``peregrine serve`` process that answers ``/health``.

    Args:
        flags: Its flags.
        model: What it serves.
        ray: It serves from a Ray cluster of its own.

    Attributes:
        cluster_pid: Ancestor of that cluster's processes.
    """

    def __init__(self, *flags: str, model: str = MODEL, ray: bool = RAY) -> None:
        self.port = free_port()
        kind = ["--target", "cpu", "--kv", KV] if model == MODEL else []
        self._cluster = ExitStack()
        if ray:
            address, self.cluster_pid = self._cluster.enter_context(cluster())
            kind += ["--ray", address, "--replicas", "2", "--threads", "1", "--no_spinning", "--proxies", "head"]
        command = [sys.executable, "-m", "server", model, "--port", str(self.port), *kind, *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        self.log: list[str] = []
        self._serving = threading.Event()
        self._reader = threading.Thread(target=self._read_log, daemon=True)
        self._reader.start()
        self._serving.wait(START_SECONDS)
        self.wait_healthy(10)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def _read_log(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.log.append(line)
            if "serving" in line:
                self._serving.set()
        self._serving.set()  # it has ended: whoever waits is to see why

    def wait_healthy(self, seconds: float) -> float:
        """Seconds until ``/health`` answers 200; fails after ``seconds``."""
        began = time.monotonic()
        while time.monotonic() - began < seconds:
            assert self.process.poll() is None, "".join(self.log)
            try:
                if self.request("GET", "/health")[0] == 200:
                    return time.monotonic() - began
            except OSError:
                pass
        message = f"not healthy after {seconds} s:\n" + "".join(self.log)
        raise AssertionError(message)

    def connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", self.port, timeout=120)

    def request(self, method: str, path: str, body: object = None) -> tuple[int, bytes]:
        connection = self.connect()
        try:
            connection.request(method, path, None if body is None else json.dumps(body))
            response = connection.getresponse()
            return response.status, response.read()
        finally:
            connection.close()

    def post(self, path: str, body: object) -> Any:
        """The decoded answer of a call that succeeds."""
        status, answer = self.request("POST", path, body)
        assert status == 200, answer
        return json.loads(answer)

    def generate(self, inputs: str | list[int], **parameters: Any) -> Any:
        return self.post("/generate", {"inputs": inputs, "parameters": parameters})

    def events(self, inputs: str | list[int], **parameters: Any) -> Iterator[Any]:
        """Events of a stream, as they come; closing the iterator closes the connection."""
        connection = self.connect()
        try:
            body = json.dumps({"inputs": inputs, "parameters": parameters})
            connection.request("POST", "/generate_stream", body)
            response = connection.getresponse()
            assert response.status == 200, response.read()
            for line in response:
                if line.startswith(b"data:"):
                    yield json.loads(line[5:])
        finally:
            connection.close()

    def load(self) -> float:
        return float(json.loads(self.request("GET", "/token_load")[1])["current_load"])

    def descendants(self) -> list[int]:
        """Process ids below the supervisor."""
        parents: dict[int, int] = {}
        for stat in Path("/proc").glob("[0-9]*/stat"):
            try:
                fields = stat.read_text().rpartition(")")[2].split()
            except OSError:
                continue
            if fields[0] != "Z":
                parents[int(stat.parent.name)] = int(fields[1])
        found, frontier = [], [self.process.pid]
        while frontier:
            parent = frontier.pop()
            children = [child for child, its in parents.items() if its == parent]
            found += children
            frontier += children
        return found

    def engine_pid(self) -> int:
        return engine_of(self.process.pid)

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        if self.process.poll() is None:
            self.process.send_signal(number)
        code = self.process.wait(90)
        self._reader.join(10)
        assert self.process.stdout is not None
        self.process.stdout.close()
        self._cluster.close()
        return code
