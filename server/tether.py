"""Ties a process's life to its parent's, so that no orphan survives even the parent's SIGKILL.

Runs as a program too: ``python tether.py PARENT_PID SIGNAL PROGRAM ARGUMENTS...`` ties itself and becomes the
program. That way nothing but an exec happens between fork and program, which is safe in a parent with threads.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def die_with_parent(parent: int, with_signal: int) -> None:
    """Have the kernel send ``with_signal`` to this process when its parent dies; Linux only, elsewhere a no-op.

    Args:
        parent: Process id of the parent: if it died before this call, this process exits at once.
        with_signal: Signal number.
    """
    if sys.platform != "linux":
        return
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, with_signal, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def tethered(program: list[str], with_signal: signal.Signals = signal.SIGKILL) -> list[str]:
    """The command line that runs ``program`` tied to this process."""
    return [sys.executable, "-P", "-S", __file__, str(os.getpid()), str(int(with_signal)), *program]


if __name__ == "__main__":
    die_with_parent(int(sys.argv[1]), int(sys.argv[2]))
    os.execvp(sys.argv[3], sys.argv[3:])  # noqa: S606 - the caller's own program
