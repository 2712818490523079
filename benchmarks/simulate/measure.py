"""Fits the simulator's cost model to steps of this machine: ``python -m benchmarks.simulate.measure``.

Executor steps give the curve and the constants; whole engine steps, beside them, what scheduling adds.
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.engine import built_bundle, open_engine
from benchmarks.executor_steps import STEPS, Point, Steps
from benchmarks.machine import describe, in_words
from benchmarks.simulate.cost import KNOTS, CostModel, Load, fit
from benchmarks.usage import at_least
from runtime.engine.core import EngineCore
from runtime.messages import AddRequest
from runtime.request import SamplingParams

ROWS = (1, 2, 4, 8, 16, 32, 64)
CONTEXTS = (64, 256, 1024, 2048)
CHUNKS = (16, 64, 128, 256)
PASTS = (0, 768, 1792)
LONGEST = 4096
SCHEDULED = (1, 8, 32)
"""Batches whose whole steps are timed."""


def points() -> list[Point]:
    """What is measured."""
    decode = [Point(rows, 1, context) for context in CONTEXTS for rows in ROWS if rows * context <= 65536]
    return decode + [Point(1, chunk, past) for past in PASTS for chunk in CHUNKS]


def load_of(point: Point) -> Load:
    """What a step of a point does."""
    keys = point.rows * (point.past + point.new)
    products = point.new * (point.past + point.new // 2) if point.new > 1 else 0
    return Load(tokens=point.rows * point.new, keys=keys, products=products, outputs=point.rows)


def measure(core: EngineCore, rounds: int) -> CostModel:
    """The model of this machine."""
    steps = Steps(core)
    taken: dict[Point, list[float]] = {point: [] for point in points()}
    for _ in range(rounds):
        for point, seconds in taken.items():
            seconds += steps.decode(point) if point.new == 1 else steps.prefill(point)
    loads = [load_of(point) for point in taken]
    return fit(loads, [statistics.median(seconds) for seconds in taken.values()], in_words(describe()))


def with_scheduling(model: CostModel, core: EngineCore) -> CostModel:
    """The model with what plan, commit and messages add to a step: a constant, and another for each token."""
    rows, extra = [], []
    for batch in SCHEDULED:
        for load, seconds in _whole_steps(core, batch):
            rows.append([1.0, load.outputs])
            extra.append(seconds - model.seconds(load))
    (base, each), *_ = np.linalg.lstsq(np.array(rows), np.array(extra), rcond=None)
    curve = [knot + max(0.0, float(base)) for knot in model.curve]
    return msgspec.structs.replace(model, curve=curve, output=model.output + max(0.0, float(each)))


def _whole_steps(core: EngineCore, batch: int) -> Iterator[tuple[Load, float]]:
    """Loads and seconds of the steps in which ``batch`` sequences decode, the slowest tenth left out."""
    params = SamplingParams(max_new_tokens=80, ignore_eos=True)
    rng = np.random.default_rng(batch)
    for number in range(batch):
        core.add(b"", AddRequest(number, rng.integers(100, 40000, 64).tolist(), params))
    found: list[tuple[Load, float]] = []
    while core.has_work:
        keys = sum(sequence.computed + 1 for sequence in core.scheduler.running)
        began = time.perf_counter()
        outputs = core.step()
        seconds = time.perf_counter() - began
        if sum(len(tokens) for tokens in outputs.values()) == batch:
            found.append((Load(tokens=batch, keys=keys, products=0, outputs=batch), seconds))
    found.sort(key=lambda pair: pair[1])
    yield from found[: len(found) * 9 // 10]


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.simulate.measure", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rounds", type=at_least(1), default=3)
    parser.add_argument("output", type=Path, help="JSON file to write")
    args = parser.parse_args()
    core = open_engine(
        built_bundle(args.model),
        max_total_tokens=max(ROWS) * (max(CONTEXTS) // 2 + STEPS + 32) + 65536,
        max_request_tokens=LONGEST,
        max_running=max(ROWS),
        max_step_tokens=max(CHUNKS),
        speculation="off",
    )
    model = with_scheduling(measure(core, args.rounds), core)
    args.output.write_bytes(msgspec.json.format(msgspec.json.encode(model), indent=2) + b"\n")
    print(model.machine)
    print(
        "\n".join(
            f"{tokens:>5} tokens {1e3 * seconds:8.2f} ms" for tokens, seconds in zip(KNOTS, model.curve, strict=True)
        )
    )
    print(
        f"a key {1e9 * model.key:.1f} ns, a product {1e9 * model.product:.2f} ns, an output {1e6 * model.output:.1f} us"
    )
    print(f"mean error of the fit {100 * model.error:.1f} %")


if __name__ == "__main__":
    main()
