"""The listening socket, reserved before anything slow is started."""

from __future__ import annotations

import resource
import socket

from server.errors import StartError
from server.tls import TlsFiles


def reserve(host: str, port: int, stall_seconds: float) -> socket.socket:
    """Bind without listening: the port is taken, but clients are refused until the server is ready.

    Args:
        host: Name or address to bind.
        port: Port, 0 for any free one.
        stall_seconds: Time after which the kernel drops a connection whose peer does not take data.

    Raises:
        StartError: The address is in use or cannot be bound.
    """
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(
            host or None, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
        listener = socket.socket(family, kind, protocol)
    except OSError as error:
        raise StartError(f"--host {host}: {error.strerror}") from None
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if hasattr(socket, "TCP_USER_TIMEOUT"):
            # NOTE: accepted sockets inherit it. The application stops serving a stalled client by itself; this
            # frees the connection, which still holds unsent data.
            listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(stall_seconds * 1000))
        listener.bind(address)
    except OSError as error:
        listener.close()
        raise StartError(f"--host {host} --port {port}: {error.strerror}") from None
    return listener


def allow_many_connections() -> None:
    """Raise this process's limit of open files, and so its children's, as far as it may."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def listen(listener: socket.socket, backlog: int = 2048) -> None:
    """Open the port.

    Raises:
        StartError: Another server opened it since it was reserved.
    """
    try:
        listener.listen(backlog)
    except OSError as error:
        raise StartError(f"{url(listener)}: {error.strerror}") from None


def url(listener: socket.socket, tls: TlsFiles | None = None) -> str:
    """Where clients find the server."""
    host, port = listener.getsockname()[:2]
    scheme = "http" if tls is None else "https"
    return f"{scheme}://[{host}]:{port}" if ":" in host else f"{scheme}://{host}:{port}"
