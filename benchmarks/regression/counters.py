"""Everything that is counted, by section: equal on every machine and in every run, or something has changed."""

from __future__ import annotations

import gc
import sys
from pathlib import Path

from benchmarks.regression.address_space import mapped_bytes
from benchmarks.regression.engines import open_engine
from benchmarks.regression.graph import built_nodes, kv_bytes_per_token, optimised_nodes
from benchmarks.regression.replay import count, play
from benchmarks.regression.scenarios import SCENARIOS, STEADY
from runtime.engine.core import EngineCore
from runtime.native.library import load_library

Counts = dict[str, dict[str, int]]

OPTIMISED = "graph after ONNX Runtime's optimisation"
"""The one section that depends on the version of another project."""

_WARM_UP, _MEASURED = 40, 20
_LARGE_BYTES = 4 * 2**20


def count_all(bundle: Path, reward_bundle: Path) -> Counts:
    """Counts of the default engine and, where scores are concerned, of the reward engine."""
    sections = {
        "graph as built": built_nodes(bundle),
        OPTIMISED: optimised_nodes(bundle),
        "memory": memory(bundle),
        "growth after warm-up": growth(open_engine(bundle)),
    }
    for scenario in SCENARIOS:
        core = open_engine(reward_bundle if scenario.reward else bundle, **scenario.engine)
        sections[f"replay, {scenario.name}"] = count(core, scenario)
    return sections


def memory(bundle: Path) -> dict[str, int]:
    """Bytes of weights in the file and mapped by an engine, and of KV cache for a token."""
    gc.collect()  # an engine's parts refer to each other: an earlier one may still map the file
    core, weights = open_engine(bundle), bundle / "weights.bin"
    try:
        return {
            "bytes of weights": weights.stat().st_size,
            "bytes of weights mapped": mapped_bytes(file=weights),
            "bytes of KV a token": kv_bytes_per_token(bundle),
            "bytes of KV a token, as limits have it": core.limits.kv_bytes_per_token,
        }
    finally:
        core.executor.close()


def growth(core: EngineCore) -> dict[str, int]:
    """What the same work, done again and again, takes more each time; closes the engine.

    Returns:
        ``native workspaces`` taken from the system; ``Python objects a step``, rounded down, since caches of the
        interpreter fill for a while; and ``writable memory`` in units of 4 MiB, rounded down too: a KV pool or an arena
        of ONNX Runtime is many of them.
    """
    try:
        for _ in range(_WARM_UP):
            play(core, STEADY)
        before, steps = _held(), 0
        for _ in range(_MEASURED):
            steps += play(core, STEADY)["steps"]
        workspaces, objects, mapped = (now - then for now, then in zip(_held(), before, strict=True))
    finally:
        core.executor.close()
    return {
        "native workspaces": workspaces,
        "Python objects a step": max(0, objects) // steps,
        "writable memory, 4 MiB": max(0, mapped) // _LARGE_BYTES,
    }


def _held() -> tuple[int, int, int]:
    """Workspaces allocated so far, Python's memory blocks in use, bytes of writable address space."""
    gc.collect()
    return load_library().peregrine_workspace_allocations(), sys.getallocatedblocks(), mapped_bytes(access="rw")
