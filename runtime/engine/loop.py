"""The engine's main loop: messages in, a step, messages out."""

from __future__ import annotations

import logging
import math
import os
import signal
import sys
import threading
import time
from contextlib import suppress
from types import FrameType

import msgspec
import zmq

from runtime.engine.admission import SHUTTING_DOWN
from runtime.engine.core import EngineCore, Outputs
from runtime.messages import (
    Abort,
    AddRequest,
    Hello,
    PrefixQuery,
    PrefixReply,
    StatsQuery,
    StatsReply,
    StepOutputs,
    ToEngine,
    ToWorker,
    Welcome,
)

log = logging.getLogger(__name__)

_HIGH_WATER_MARK = 100_000
_IDLE_MILLISECONDS = 1000
_PROBE_SECONDS = 1.0


class EngineLoop:
    """Owns the socket and the signals of the engine process.

    SIGUSR1 starts draining: new requests are refused, running ones have ``drain_seconds`` left. SIGTERM and
    SIGINT end the loop at once, and so does the end of standard input: the supervisor holds its other end.

    Args:
        core: The engine.
        socket_path: Path of the ``ipc://`` endpoint to bind.
        boot_id: Names this process to the workers.
        drain_seconds: Time left to running requests once draining has begun.
        restarts: Told to who asks for statistics.
    """

    def __init__(
        self, core: EngineCore, socket_path: str, boot_id: str, drain_seconds: float, restarts: int = 0
    ) -> None:
        self.core = core
        self.restarts = restarts
        self.boot_id = boot_id
        self.drain_seconds = drain_seconds
        self._decoder = msgspec.msgpack.Decoder(ToEngine)
        self._encoder = msgspec.msgpack.Encoder()
        self._stop = threading.Event()
        self._drain_deadline: float | None = None
        self._next_probe = 0.0
        self._context = zmq.Context()
        self._socket = self._context.socket(zmq.ROUTER)
        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        self._socket.setsockopt(zmq.SNDHWM, _HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.RCVHWM, _HIGH_WATER_MARK)
        self._socket.setsockopt(zmq.LINGER, 1000)
        self._socket.bind(f"ipc://{socket_path}")
        self._wake_read, self._wake_write = os.pipe()
        os.set_blocking(self._wake_read, False)
        os.set_blocking(self._wake_write, False)
        core.grammars.on_ready = self._wake
        self._poller = zmq.Poller()
        for source in (self._socket, self._wake_read, sys.stdin.fileno()):
            self._poller.register(source, zmq.POLLIN)

    def install_signals(self) -> None:
        """Take over the process's signals; they interrupt an idle wait."""
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._on_stop)
        signal.signal(signal.SIGUSR1, self._on_drain)

    def run(self) -> None:
        """Serve until told to stop."""
        self.core.grammars.warm_up()  # while the HTTP workers are being started
        try:
            while not self._stop.is_set():
                self.core.runner.show_life()
                self._receive(0 if self.core.has_work else self._idle_milliseconds())
                for client, rejected in [*self.core.turn_away(), *self.core.admit_compiled()]:
                    self._send_one(client, rejected)
                busy = self.core.has_work
                self._send(self.core.step())
                if busy and not self.core.has_work:
                    self.core.check()
                self._drain()
                self._probe()
            self._send(self.core.fail_all(SHUTTING_DOWN))
        finally:
            self._context.destroy(linger=1000)

    def _idle_milliseconds(self) -> int:
        """How long nothing is to be done, unless something comes."""
        seconds = self.core.deadlines.next - time.perf_counter()
        return max(0, math.ceil(min(_IDLE_MILLISECONDS, 1000 * seconds)))

    def _wake(self) -> None:
        """End an idle wait, from any thread."""
        with suppress(BlockingIOError):  # full: it ends anyway
            os.write(self._wake_write, b".")

    def _on_stop(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self._stop.set()

    def _on_drain(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002
        self.core.draining = True
        if self._drain_deadline is None:
            self._drain_deadline = time.monotonic() + self.drain_seconds

    def _drain(self) -> None:
        if self._drain_deadline is not None and time.monotonic() >= self._drain_deadline:
            self._send(self.core.fail_all(SHUTTING_DOWN))

    def _probe(self) -> None:
        """Send something empty to each worker with requests: ZeroMQ tells of a dead peer only when it is sent to."""
        now = time.monotonic()
        if now >= self._next_probe:
            self._next_probe = now + _PROBE_SECONDS
            self._send({client: [] for client in self.core.clients})

    def _receive(self, timeout: int) -> None:
        """Take in every message that is there; wait up to ``timeout`` milliseconds for the first."""
        ready = dict(self._poller.poll(timeout))
        if self._wake_read in ready:
            os.read(self._wake_read, 4096)
        if sys.stdin.fileno() in ready and not os.read(sys.stdin.fileno(), 4096):
            log.warning("the supervisor is gone")
            self._stop.set()
        if self._socket not in ready:
            return
        while True:
            try:
                client, frame = self._socket.recv_multipart(zmq.NOBLOCK)
            except zmq.Again:
                return
            except ValueError:
                log.error("dropped a message that is not one frame")
                continue
            self._handle(client, frame)

    def _handle(self, client: bytes, frame: bytes) -> None:
        try:
            message: ToEngine = self._decoder.decode(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.error("dropped a message that cannot be read: %s", error)
            return
        match message:
            case AddRequest():
                rejected = self.core.add(client, message)
                if rejected is not None:
                    self._send_one(client, rejected)
            case Abort(request_id, sample):
                self.core.abort(client, request_id, sample)
            case StatsQuery(query_id):
                stats = msgspec.structs.replace(self.core.stats(), pid=os.getpid(), restarts_total=self.restarts)
                self._send_one(client, StatsReply(query_id, stats))
            case PrefixQuery(limit):
                self._send_one(client, PrefixReply(self.core.prefix_digests(limit)))
            case Hello(pid):
                log.info("worker %d connected", pid)
                self._send_one(client, Welcome(self.boot_id, self.core.limits))

    def _send(self, outputs: Outputs) -> None:
        for client, tokens in outputs.items():
            self._send_one(client, StepOutputs(tokens))

    def _send_one(self, client: bytes, message: ToWorker) -> None:
        try:
            self._socket.send_multipart([client, self._encoder.encode(message)], zmq.NOBLOCK)
        except zmq.ZMQError as error:  # the worker died, or has not read for very long: the engine never waits
            log.warning("a worker is gone (%s); its requests are freed", error)
            self.core.abort_client(client)
