"""The control socket: commands to a running server, from its own user and root alone."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
import struct
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import msgspec

from server.control_protocol import MAX_LINE, ControlAnswer, ControlRequest
from server.errors import StartError
from server.operator import complain, say

COMMAND_SECONDS = 5.0
"""Time that a client has to say what it wants."""

Handler = Callable[[ControlRequest], Awaitable[ControlAnswer]]

_CREDENTIALS = struct.Struct("3i")


@asynccontextmanager
async def control_socket(path: Path, handle: Handler) -> AsyncIterator[None]:
    """Answer commands on ``path`` as long as the context lasts.

    Raises:
        StartError: The socket cannot be made.
    """
    listener = _bind(path)
    try:
        server = await asyncio.start_unix_server(
            lambda reader, writer: _serve(reader, writer, handle), sock=listener, limit=MAX_LINE
        )
        # NOTE: not waited for: a command such as a long swap may still hold its connection.
        try:
            yield
        finally:
            server.close()
    finally:
        _remove(path)


def may_command(uid: int) -> bool:
    """Whether a process of this user may give commands."""
    return uid in (0, os.geteuid())


def _bind(path: Path) -> socket.socket:
    """A socket that only this user can connect to, at no moment anybody else."""
    try:
        _remove_stale(path)
        listener = socket.socket(socket.AF_UNIX)
        before = os.umask(0o177)
        try:
            listener.bind(str(path))
        except OSError:
            listener.close()
            raise
        finally:
            os.umask(before)
    except OSError as error:
        raise StartError(f"--control_socket {path}: {error.strerror or error}") from None
    return listener


def _remove(path: Path) -> None:
    path.unlink(missing_ok=True)


def _remove_stale(path: Path) -> None:
    """Remove what a killed server left, if that is what lies there."""
    if not path.exists():
        return
    if not stat.S_ISSOCK(path.stat().st_mode):
        raise StartError(f"--control_socket {path}: there is a file of that name, and it is no socket")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            path.unlink()
            return
    raise StartError(f"--control_socket {path}: another server answers there")


async def _serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, handle: Handler) -> None:
    peer = writer.get_extra_info("socket")
    pid, uid, _ = _CREDENTIALS.unpack(peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size))
    try:
        # NOTE: read before it is refused: a connection that is closed with something unread loses the answer.
        request = await _read(reader)
        answer = await _obey(request, uid, f"uid {uid} (pid {pid})", handle)
        with suppress(ConnectionError):
            writer.write(msgspec.json.encode(answer) + b"\n")
            await writer.drain()
    finally:
        writer.close()


async def _read(reader: asyncio.StreamReader) -> ControlRequest | None:
    """The command, if that is what comes."""
    try:
        async with asyncio.timeout(COMMAND_SECONDS):
            return msgspec.json.decode(await reader.readline(), type=ControlRequest)
    except (ValueError, RecursionError, ConnectionError, TimeoutError):
        return None


async def _obey(request: ControlRequest | None, uid: int, who: str, handle: Handler) -> ControlAnswer:
    if not may_command(uid):
        complain(f"control: refused {who}")
        return ControlAnswer(error="only the server's own user and root may give commands")
    if request is None:
        return ControlAnswer(error="that is no command")
    told = " ".join(filter(None, (request.command, request.spec)))
    if request.command != "status":
        say(f"control: {told!r} by {who}")
    answer = await handle(request)
    if answer.error:
        complain(f"control: {told!r} by {who}: {answer.error}")
    return answer
