"""The ZeroMQ side of a worker's connection to the engine."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from typing import cast

import msgspec
import zmq
from zmq.utils.monitor import parse_monitor_message

from runtime.messages import Hello, ToEngine, ToWorker

logger = logging.getLogger("peregrine.engine")

HIGH_WATER_MARK = 10_000
"""Messages that may wait in each direction; one step is one message, so this is minutes of a stuck worker."""

RECONNECT_MILLISECONDS = 50

_MONITORED = zmq.EVENT_HANDSHAKE_SUCCEEDED | zmq.EVENT_DISCONNECTED


class EngineLink:
    """A DEALER socket that greets the engine whenever it connects and tells at once when the engine has gone.

    The socket is read from the event loop without a task or a thread: one wake-up handles every message there
    is. Has to be made and used on one running loop.

    Args:
        socket_path: Filesystem path of the engine's endpoint.
        on_message: Called with each message.
        on_loss: Called when the connection broke; the socket goes on trying to connect.
    """

    def __init__(self, socket_path: str, on_message: Callable[[ToWorker], None], on_loss: Callable[[], None]) -> None:
        self._on_message, self._on_loss = on_message, on_loss
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder = msgspec.msgpack.Decoder(ToWorker)
        self._loop = asyncio.get_running_loop()
        self._closed = False
        self._context: zmq.Context[zmq.Socket[bytes]] = zmq.Context()
        self._socket = self._context.socket(zmq.DEALER)
        self._socket.set(zmq.SNDHWM, HIGH_WATER_MARK)
        self._socket.set(zmq.RCVHWM, HIGH_WATER_MARK)
        self._socket.set(zmq.LINGER, 0)
        # NOTE: without IMMEDIATE, requests sent while the engine is down would be delivered to its successor.
        self._socket.set(zmq.IMMEDIATE, 1)
        self._socket.set(zmq.RECONNECT_IVL, RECONNECT_MILLISECONDS)
        self._monitor = self._socket.get_monitor_socket(_MONITORED)
        self._readers = {
            cast("int", self._monitor.get(zmq.FD)): self._read_monitor,
            cast("int", self._socket.get(zmq.FD)): self._read_socket,
        }
        for descriptor, reader in self._readers.items():
            self._loop.add_reader(descriptor, reader)
        self._socket.connect(f"ipc://{socket_path}")
        self._read_monitor()

    def send(self, message: ToEngine) -> None:
        """Send without waiting.

        Raises:
            zmq.Again: The engine is not connected.
        """
        self._socket.send(self._encoder.encode(message), zmq.NOBLOCK)
        # NOTE: ZeroMQ's descriptor is edge-triggered, and sending may swallow the edge of a message that has
        # just come in.
        self._loop.call_soon(self._read_socket)

    def close(self) -> None:
        """Disconnect; nothing is called any more."""
        if self._closed:
            return
        self._closed = True
        for descriptor in self._readers:
            self._loop.remove_reader(descriptor)
        self._socket.disable_monitor()
        self._monitor.close(0)
        self._socket.close(0)
        self._context.term()

    def _greet(self) -> None:
        if self._closed:
            return
        try:
            self.send(Hello(os.getpid()))
        except zmq.Again:
            # Connected but not attached to the socket yet, or broken again at once.
            self._loop.call_later(RECONNECT_MILLISECONDS / 1000, self._greet)

    def _read_monitor(self) -> None:
        while not self._closed and cast("int", self._monitor.get(zmq.EVENTS)) & zmq.POLLIN:
            event = parse_monitor_message(self._monitor.recv_multipart(zmq.NOBLOCK))["event"]
            if event == zmq.EVENT_HANDSHAKE_SUCCEEDED:
                self._greet()
            elif event == zmq.EVENT_DISCONNECTED:
                # The engine's last words may still be waiting.
                self._read_socket()
                self._on_loss()

    def _read_socket(self) -> None:
        while not self._closed:
            try:
                frame = self._socket.recv(zmq.NOBLOCK)
            except zmq.Again:
                return
            try:
                message = self._decoder.decode(frame)
            except msgspec.MsgspecError:
                logger.exception("a message from the engine cannot be read")
                continue
            self._on_message(message)
