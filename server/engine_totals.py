"""The counters of all engines that a server has had, added up: one that is replaced takes nothing back.

Every snapshot is noted in a file of all workers before it is shown, under the name of its engine's life; so what was
shown once is in every later sum.
"""

from __future__ import annotations

import fcntl
from pathlib import Path

import msgspec

from runtime.stats import EngineStats

TOTALS_FILE = "engines.json"
COUNTERS = tuple(name for name in EngineStats.__struct_fields__ if name.endswith("_total") and name != "restarts_total")
"""Restarts are the supervisor's count, and a sum already."""

_Counts = dict[str, float]


def add_up(directory: Path, boot_id: str, stats: EngineStats) -> EngineStats:
    """Note a snapshot and give back what all engines have counted.

    Args:
        directory: Where all workers of all generations count.
        boot_id: Names the life of the engine that ``stats`` is of.
        stats: Its snapshot.

    Returns:
        ``stats`` with the sums instead of its own counters.

    Raises:
        OSError: The snapshot cannot be noted.
    """
    with (directory / TOTALS_FILE).open("a+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        file.seek(0)
        engines = _decode(file.read())
        # NOTE: another worker may have noted a later snapshot already.
        noted = engines.get(boot_id, {})
        engines[boot_id] = {name: max(getattr(stats, name), noted.get(name, 0)) for name in COUNTERS}
        file.truncate(0)
        file.write(msgspec.json.encode(engines))
    sums = {name: sum(engine.get(name, 0) for engine in engines.values()) for name in COUNTERS}
    return msgspec.structs.replace(stats, **sums)


def _decode(content: bytes) -> dict[str, _Counts]:
    try:
        return msgspec.json.decode(content or b"{}", type=dict[str, _Counts])
    except msgspec.MsgspecError:  # a worker was killed, or the disk was full, while it wrote
        return {}
