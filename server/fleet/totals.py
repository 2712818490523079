"""Several engines' numbers as one's."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from runtime.stats import EngineStats


def total(stats: Iterable[EngineStats]) -> EngineStats:
    """The sum of each number: a fleet's KV cache is as large as all of them. There is no process id of them all."""
    rows = [msgspec.structs.asdict(each) for each in stats]
    sums = {name: sum(row[name] for row in rows) for name in EngineStats.__struct_fields__}
    return EngineStats(**sums | {"pid": 0, "seconds_since_step": min(row["seconds_since_step"] for row in rows)})
