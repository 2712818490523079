"""Processes of peers: started in a group of their own, ended for certain, weighed with their children."""

from __future__ import annotations

import os
import signal
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from benchmarks.processes import process_tree, resident_megabytes

_GRACE_SECONDS = 20
_OURS = ("PYTHONPATH", "VIRTUAL_ENV")


def peer_variables(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """This process's environment without what would lead a peer's interpreter to our modules, and without a hub."""
    kept = {name: value for name, value in os.environ.items() if name not in _OURS}
    return {**kept, "HF_HUB_OFFLINE": "1", "TOKENIZERS_PARALLELISM": "false", **(more or {})}


@contextmanager
def started(
    command: list[str], log: Path, variables: Mapping[str, str], *, pipes: bool
) -> Iterator[subprocess.Popen[bytes]]:
    """``command`` as the leader of its own process group, which is gone when the context ends.

    Args:
        command: Program and arguments.
        log: Takes its standard error, and its standard output unless that is a pipe.
        variables: More environment variables.
        pipes: Connect standard input and output to this process.
    """
    with log.open("wb") as file:
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE if pipes else subprocess.DEVNULL,
            stdout=subprocess.PIPE if pipes else file,
            stderr=file,
            env=peer_variables(variables),
            start_new_session=True,
        )
    try:
        yield process
    finally:
        end_group(process)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """Ask the group that ``process`` leads to end, and kill what is left of it after a while."""
    for stream in (process.stdin, process.stdout):
        if stream:
            stream.close()
    signal_group(process, signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        process.wait(_GRACE_SECONDS)
    signal_group(process, signal.SIGKILL)
    process.wait()


def signal_group(process: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Send ``number`` to every process of the group."""
    with suppress(ProcessLookupError):
        os.killpg(process.pid, number)


@contextmanager
def limited(process: subprocess.Popen[bytes], seconds: float) -> Iterator[None]:
    """Kill the group of ``process`` when the block takes longer: whoever waits for its answer sees it end."""
    timer = threading.Timer(seconds, signal_group, (process, signal.SIGKILL))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def peak_megabytes(root: int) -> tuple[float, float]:
    """Peak resident memory of the largest process below ``root``, and of all of them added up (shared pages too)."""
    peaks = [resident_megabytes(process, "VmHWM") for process in process_tree(root)]
    return max(peaks), sum(peaks)
