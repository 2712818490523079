"""Engines that are libraries, run by a worker script in a process of their own."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.peers.engine import Completion
from benchmarks.peers.errors import PeerError, last_line


@dataclass
class WorkerEngine:
    """A worker that speaks the protocol of ``workers/protocol.py``.

    Attributes:
        process: Started with pipes.
        log: Its standard error.
    """

    process: subprocess.Popen[bytes]
    log: Path

    @property
    def root(self) -> int:
        """Its process id."""
        return self.process.pid

    def wait_until_ready(self) -> None:
        """Return once the model is loaded.

        Raises:
            PeerError: The worker ended instead.
        """
        if "ready" not in self._answer():
            raise PeerError("the worker spoke out of turn")

    def generate(self, prompts: list[list[int]], new_tokens: int) -> list[Completion]:
        """One call for all prompts."""
        assert self.process.stdin is not None
        try:
            self.process.stdin.write(json.dumps({"prompts": prompts, "new_tokens": new_tokens}).encode() + b"\n")
            self.process.stdin.flush()
        except OSError:
            raise PeerError(self._epitaph()) from None
        answer = self._answer()
        if "error" in answer:
            raise PeerError(str(answer["error"]))
        return [Completion(answer["began"], **request) for request in answer["requests"]]

    def _answer(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise PeerError(self._epitaph())
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _epitaph(self) -> str:
        return f"the worker ended: {last_line(self.log.read_text(errors='replace'))}; see {self.log}"
