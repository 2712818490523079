"""``peregrine control``: gives a running server a command."""

from __future__ import annotations

import argparse
import json
import os
import socket
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import msgspec

from server.control_protocol import Command, ControlAnswer, ControlRequest
from server.errors import StartError
from server.run_directory import CONTROL_SOCKET, PREFIX

HELP = """commands:
  status       what is served and how it goes, as JSON
  swap [SPEC]  serve another bundle, or the same one as it is now, without dropping a request
  drain        /readiness answers 503 and answers close their connections; everything is still answered
  resume       the opposite
  stop         what SIGTERM does
"""


def main(argv: Sequence[str]) -> int:
    """Run ``peregrine control``; returns the exit status: 1 when the server did not do it, 2 without a server."""
    parser = argparse.ArgumentParser(
        "peregrine control", epilog=HELP, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--control_socket", "--control-socket", metavar="PATH", type=Path, help="which server's")
    parser.add_argument("command", choices=get_args(Command), metavar="COMMAND")
    parser.add_argument("spec", nargs="?", metavar="SPEC", help="of swap: bundle, built model or recipe")
    arguments = parser.parse_args(argv)
    if arguments.spec is not None and arguments.command != "swap":
        parser.error(f"{arguments.command} takes no SPEC")
    try:
        answer = ask(arguments.control_socket or find_socket(), _request(arguments.command, arguments.spec))
    except StartError as error:
        sys.stderr.write(f"peregrine control: error: {error}\n")
        return 2
    if answer.error:
        sys.stderr.write(f"peregrine control: error: {answer.error}\n")
        return 1
    sys.stdout.write(f"{json.dumps(answer.status, indent=2) if answer.status else answer.message}\n")
    return 0


def ask(path: Path, request: ControlRequest) -> ControlAnswer:
    """Give one command and wait until it is done.

    Raises:
        StartError: No server answers at ``path``.
    """
    try:
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(msgspec.json.encode(request) + b"\n")
            with connection.makefile("rb") as answer:
                return msgspec.json.decode(answer.readline(), type=ControlAnswer)
    except (OSError, msgspec.MsgspecError) as error:
        reason = error.strerror if isinstance(error, OSError) else "the server ended"
        raise StartError(f"{path}: {reason or error}") from None


def find_socket() -> Path:
    """The control socket of the one server of this user.

    Raises:
        StartError: There is none, or there are several.
    """
    places = {Path(tempfile.gettempdir()), Path("/tmp")}  # noqa: S108 - where servers put them
    found = [path for place in places for path in place.glob(f"{PREFIX}*/{CONTROL_SOCKET}") if _answers(path)]
    if len(found) == 1:
        return found[0]
    if not found:
        raise StartError("no running server was found: name its --control_socket")
    raise StartError("several servers run: name the --control_socket of one: " + ", ".join(map(str, sorted(found))))


def _answers(path: Path) -> bool:
    """Whether a server of this user is behind it: a killed one leaves its socket."""
    try:
        with socket.socket(socket.AF_UNIX) as probe:
            probe.connect(str(path))
        return path.stat().st_uid == os.geteuid()
    except OSError:
        return False


def _request(command: Command, spec: str | None) -> ControlRequest:
    # NOTE: the server's working directory may be another one.
    path = Path(spec).expanduser() if spec else None
    return ControlRequest(command, str(path.resolve()) if path is not None and path.exists() else spec)
