"""The parent's end of a rendering process."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
import weakref
from collections.abc import Mapping
from contextlib import suppress
from typing import Any, TypeVar

import msgspec

from server.template_process import HEADER, Compiled, Job, Rendered
from server.tether import tethered

T = TypeVar("T")

_COMMAND = [sys.executable, "-m", "server.template_process"]
_INHERITED = ("HOME", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PATH", "PYTHONHOME", "PYTHONPATH", "TZ", "VIRTUAL_ENV")
"""Of the environment: the rest may be secret."""

_MAX_ANSWER_BYTES = 2**28
_PIECE = 2**16


class LateError(Exception):
    """No answer came in time; the process has been ended."""


class DiedError(Exception):
    """The process ended by itself or makes no sense any more, most likely for want of memory."""


class TemplateProcess:
    """One process with one template. Used by one thread at a time, and not after an error."""

    def __init__(self, job: Job) -> None:
        self._process = subprocess.Popen(  # noqa: S603 - this very package
            tethered(_COMMAND),
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            env={name: os.environ[name] for name in _INHERITED if name in os.environ},
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._requests, self._answers = self._process.stdin, self._process.stdout
        os.set_blocking(self._requests.fileno(), False)
        os.set_blocking(self._answers.fileno(), False)
        self._job = job
        self._end = weakref.finalize(self, _end, self._process)

    def compiled(self, end: float) -> Compiled:
        """What the process says of the template; to be called first.

        Raises:
            LateError: ``time.monotonic()`` has reached ``end``.
            DiedError: The process is gone.
        """
        return self._ask(self._job, Compiled, end)

    def render(self, variables: Mapping[str, Any], end: float) -> Rendered:
        """The text of a chat; raises as ``compiled``."""
        return self._ask(variables, Rendered, end)

    def close(self) -> None:
        """End the process, as forgetting this object does."""
        self._end()

    def _ask(self, message: Any, kind: type[T], end: float) -> T:
        try:
            frame = msgspec.json.encode(message)
            self._write(HEADER.pack(len(frame)) + frame, end)
            (size,) = HEADER.unpack(self._read(HEADER.size, end))
            if size > _MAX_ANSWER_BYTES:
                raise DiedError
            return msgspec.json.decode(self._read(size, end), type=kind)
        except (OSError, RecursionError, msgspec.MsgspecError, UnicodeDecodeError):
            raise DiedError from None

    def _write(self, data: bytes, end: float) -> None:
        view = memoryview(data)
        while view:
            _wait(self._requests.fileno(), select.POLLOUT, end)
            with suppress(BlockingIOError):
                view = view[os.write(self._requests.fileno(), view) :]

    def _read(self, count: int, end: float) -> bytes:
        data = bytearray()
        while len(data) < count:
            _wait(self._answers.fileno(), select.POLLIN, end)
            part = os.read(self._answers.fileno(), min(count - len(data), _PIECE))
            if not part:
                raise DiedError
            data += part
        return bytes(data)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None:
            pipe.close()


def _wait(descriptor: int, event: int, end: float) -> None:
    # NOTE: not select(), which takes no descriptors beyond 1023.
    poller = select.poll()
    poller.register(descriptor, event)
    left = end - time.monotonic()
    if left <= 0 or not poller.poll(left * 1000):
        raise LateError
