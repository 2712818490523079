"""Where the time of a step goes, in process and without HTTP: ``python -m benchmarks.steps``."""

from __future__ import annotations

import argparse
import resource
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from benchmarks.engine import built_bundle, open_engine
from benchmarks.machine import describe
from runtime.engine.core import EngineCore
from runtime.executors.host import HostExecutor
from runtime.messages import AddRequest
from runtime.request import SamplingParams


def timed(owner: Any, name: str, spent: Counter[str]) -> None:
    """Add the time of each call of ``owner.name`` to ``spent``."""
    call: Callable[..., object] = getattr(owner, name)

    def wrapper(*args: object) -> object:
        began = time.perf_counter()
        try:
            return call(*args)
        finally:
            spent[name] += time.perf_counter() - began  # type: ignore[assignment]

    setattr(owner, name, wrapper)


def decode(core: EngineCore, streams: int, spent: Counter[str]) -> dict[str, float]:
    """Prompts of 128 tokens in, then 128 tokens out; returns seconds a decode step, in all and by native part."""
    rng = np.random.default_rng(streams)
    params = SamplingParams(max_new_tokens=128, ignore_eos=True)
    for number in range(streams):
        core.add(b"", AddRequest(number, rng.integers(100, 40000, 128).tolist(), params))
    while core.scheduler.waiting or not all(sequence.decoding for sequence in core.scheduler.running):
        core.step()
    spent.clear()
    steps, began = 0, time.perf_counter()
    while len(core.scheduler.running) == streams:
        core.step()
        steps += 1
    figures = {part: seconds / steps for part, seconds in spent.items()}
    figures["step"] = (time.perf_counter() - began) / steps
    while core.has_work:
        core.step()
    return figures


def shares(core: EngineCore, streams: int, spent: Counter[str]) -> dict[str, float]:
    """Milliseconds of a decode step and of its parts, after a round to warm up."""
    decode(core, streams, spent)
    seconds = decode(core, streams, spent)
    step, graph, sampling = (1e3 * seconds[part] for part in ("step", "run_with_iobinding", "_draw"))
    return {"streams": streams, "step": step, "graph": graph, "sampling": sampling, "python": step - graph - sampling}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    machine = describe()
    core = open_engine(built_bundle(args.model), speculation="off")
    assert isinstance(core.executor, HostExecutor)
    spent: Counter[str] = Counter()
    timed(core.executor.model._session, "run_with_iobinding", spent)  # type: ignore[attr-defined]  # noqa: SLF001
    timed(core.executor._finisher._sampler, "_draw", spent)  # type: ignore[attr-defined]  # noqa: SLF001
    titles = ("step ms", "graph ms", "sampling ms", "Python ms", "native", "tokens/s")
    print(f"{'streams':>8}" + "".join(f"{title:>13}" for title in titles))
    rows = []
    for streams in (1, 2, 4, 8, 16, 32):
        row = shares(core, streams, spent)
        rows.append(row)
        parts = "".join(f"{row[part]:>13.2f}" for part in ("step", "graph", "sampling", "python"))
        print(f"{streams:>8}{parts}{1 - row['python'] / row['step']:>13.1%}{1e3 * streams / row['step']:>13.0f}")
    print(f"peak resident memory: {resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024:.0f} MB")
    if args.json is not None:
        args.json.write_bytes(msgspec.json.encode({"kind": "steps", "machine": machine, "rows": rows}) + b"\n")


if __name__ == "__main__":
    main()
