"""What is said on the control socket: one line of JSON each way, then the connection ends.

Lines of JSON rather than HTTP: there is nothing to route, authorise or keep alive, and a whole server for it fits on
a page.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec

MAX_LINE = 8192
"""Bytes of a command: room for the longest path."""

Command = Literal["status", "swap", "drain", "resume", "stop"]


class ControlRequest(msgspec.Struct, forbid_unknown_fields=True):
    """A command.

    Attributes:
        spec: Of ``swap``: what to serve; ``None`` is what is served already.
    """

    command: Command
    spec: str | None = None


class ControlAnswer(msgspec.Struct, omit_defaults=True):
    """What came of it.

    Attributes:
        error: Why it was not done; empty if it was.
        message: For the operator.
        status: Of ``status``.
    """

    error: str = ""
    message: str = ""
    status: dict[str, Any] = {}
