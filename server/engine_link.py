"""The ZeroMQ side of a worker's connection to the engine."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import cast

import msgspec
import zmq

from runtime.messages import Hello, ToEngine, ToWorker

logger = logging.getLogger("peregrine.engine")

HIGH_WATER_MARK = 10_000
"""Messages that may wait in each direction; one step is one message, so this is minutes of a stuck worker."""

RECONNECT_MILLISECONDS = 50
LOOK_SECONDS = 1.0


class EngineLink:
    """A DEALER socket that greets the engine whenever it connects and tells at once when the engine has gone.

    The socket is read from the event loop without a task or a thread: one wake-up handles every message there
    is. Has to be made and used on one running loop.

    Args:
        socket_path: Filesystem path of the engine's endpoint.
        on_message: Called with each message.
        on_loss: Called when the connection broke; the link goes on trying to connect.
    """

    def __init__(self, socket_path: str, on_message: Callable[[ToWorker], None], on_loss: Callable[[], None]) -> None:
        self._endpoint = f"ipc://{socket_path}"
        self._on_message, self._on_loss = on_message, on_loss
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(ToWorker)
        self._loop = asyncio.get_running_loop()
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._closed = False
        self._connect()
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)

    def send(self, message: ToEngine) -> None:
        """Send without waiting.

        Raises:
            zmq.Again: Too many messages wait to be sent.
        """
        self._socket.send(self._encoder.encode(message), zmq.NOBLOCK)
        # NOTE: ZeroMQ's descriptor is edge-triggered, and sending may swallow the edge of a message that has
        # just come in.
        self._loop.call_soon(self._read_socket)

    def close(self) -> None:
        """Disconnect; nothing is called any more."""
        if not self._closed:
            self._closed = True
            self._timer.cancel()
            self._disconnect()
            self._context.term()

    def _connect(self) -> None:
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.SNDHWM, HIGH_WATER_MARK)
        self._socket.set(zmq.RCVHWM, HIGH_WATER_MARK)
        self._socket.set(zmq.LINGER, 0)
        self._socket.set(zmq.RECONNECT_IVL, RECONNECT_MILLISECONDS)
        self._monitor = self._socket.get_monitor_socket(zmq.EVENT_DISCONNECTED)
        self._loop.add_reader(cast("int", self._monitor.get(zmq.FD)), self._read_monitor)
        self._loop.add_reader(cast("int", self._socket.get(zmq.FD)), self._read_socket)
        self._socket.connect(self._endpoint)
        # The first thing that the engine hears, whenever it comes up.
        self.send(Hello(os.getpid()))
        # NOTE: descriptors tell of changes only, and only once what was there before has been looked at.
        self._read_monitor()

    def _disconnect(self) -> None:
        self._loop.remove_reader(cast("int", self._monitor.get(zmq.FD)))
        self._loop.remove_reader(cast("int", self._socket.get(zmq.FD)))
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)

    def _look(self) -> None:
        """Look without being told, in case a change was missed."""
        self._timer = self._loop.call_later(LOOK_SECONDS, self._look)
        self._read_monitor()
        self._read_socket()

    def _read_monitor(self) -> None:
        if self._closed or not cast("int", self._monitor.get(zmq.EVENTS)) & zmq.POLLIN:
            return
        # NOTE: the engine's last words may still be waiting.
        self._read_socket()
        # NOTE: a new socket, because this one would deliver what was sent in vain to the engine's successor.
        # ZeroMQ's own remedy, IMMEDIATE, drops incoming messages as well when the connection breaks.
        self._disconnect()
        self._on_loss()
        self._connect()

    def _read_socket(self) -> None:
        while not self._closed:
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = self._decoder.decode(frame)
            except (msgspec.MsgspecError, UnicodeDecodeError):
                logger.exception("a message from the engine cannot be read")
                continue
            self._on_message(message)
