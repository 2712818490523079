"""What a swap puts in place: the server's own command line read again, on another model if one is named.

That happens in a process of its own, because a build may take long, and whatever it loads or breaks is not the
server's: ``python -m server.replan`` reads the request from standard input and writes the answer to standard output.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE
from contextlib import redirect_stdout
from dataclasses import replace

import msgspec

from server.access.key_source import KeySource
from server.errors import StartError
from server.supervisor_config import SupervisorConfig
from server.tether import tethered

COMMAND = [sys.executable, "-m", "server.replan"]


class _Wish(msgspec.Struct):
    arguments: tuple[str, ...]
    spec: str | None


class _Plan(msgspec.Struct):
    config: SupervisorConfig | None = None
    error: str = ""


async def replan(arguments: tuple[str, ...], spec: str | None) -> SupervisorConfig:
    """The configuration of the successor; its bundle is built first where there is none.

    Args:
        arguments: The command line of ``serve``.
        spec: Replaces the model that it names.

    Raises:
        StartError: There is no such bundle, or it cannot be served with these flags.
    """
    process = await asyncio.create_subprocess_exec(*tethered(COMMAND, signal.SIGTERM), stdin=PIPE, stdout=PIPE)
    try:
        answer, _ = await process.communicate(msgspec.json.encode(_Wish(arguments, spec)))
    except BaseException:
        process.terminate()
        await process.wait()
        raise
    try:
        plan = msgspec.json.decode(answer, type=_Plan)
    except msgspec.MsgspecError:
        raise StartError(f"looking for the bundle ended with status {process.returncode}") from None
    if plan.config is None:
        raise StartError(plan.error)
    return plan.config


def main() -> int:
    """Answer one request."""
    from runtime.bundle import BundleError
    from server.serve import plan

    wish = msgspec.json.decode(sys.stdin.buffer.read(), type=_Wish)
    try:
        with redirect_stdout(sys.stderr):
            # NOTE: who has keys is the server's to say: this process has not what the environment told it of them.
            config = plan(wish.arguments, "peregrine serve", wish.spec)
            answer = _Plan(replace(config, tenants=(), keys=KeySource()))
    except (StartError, BundleError, ValueError) as error:
        answer = _Plan(error=str(error))
    sys.stdout.buffer.write(msgspec.json.encode(answer))
    return 0


if __name__ == "__main__":
    sys.exit(main())
