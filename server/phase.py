"""How near its end a generation of HTTP workers is: one byte that the supervisor writes and every worker maps."""

from __future__ import annotations

import mmap
import os
from enum import IntEnum
from pathlib import Path

PHASE_FILE = "phase"


class Phase(IntEnum):
    """What the supervisor has in mind for a generation.

    Attributes:
        SERVING: Nothing.
        LAME_DUCK: Everything is answered, but clients are asked to go elsewhere.
        RETIRING: A successor serves; who still holds a connection is answered.
        ENDING: The server ends.
    """

    SERVING = 0
    LAME_DUCK = 1
    RETIRING = 2
    ENDING = 3


def write_phase(directory: Path, phase: Phase) -> None:
    """Tell the workers whose private directory this is."""
    # NOTE: never truncated: the workers have it mapped.
    descriptor = os.open(directory / PHASE_FILE, os.O_WRONLY | os.O_CREAT, 0o600)
    try:
        os.pwrite(descriptor, bytes([phase]), 0)
    finally:
        os.close(descriptor)


class PhaseReader:
    """A worker's view of it: reading costs no system call, so that every answer can ask."""

    def __init__(self, directory: Path) -> None:
        with (directory / PHASE_FILE).open("rb") as file:
            self._byte = mmap.mmap(file.fileno(), 1, access=mmap.ACCESS_READ)

    def __call__(self) -> Phase:
        """The phase now."""
        return Phase(self._byte[0])
