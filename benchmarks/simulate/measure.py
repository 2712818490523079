"""Fits the simulator's cost model to steps of this machine: ``python -m benchmarks.simulate.measure FILE``.

Executor steps give the curve and the constants; whole engine steps, beside them, what scheduling adds. Mixed steps,
which the fit has not seen, say how good it is.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from pathlib import Path

import msgspec
import numpy as np

from benchmarks.engine import built_bundle, open_engine
from benchmarks.executor_steps import STEPS, Mixed, Point, Steps
from benchmarks.machine import describe, in_words
from benchmarks.simulate.cost import KNOTS, CostModel, Load, error_of, fit
from benchmarks.usage import at_least
from runtime.engine.core import EngineCore
from runtime.messages import AddRequest
from runtime.request import SamplingParams

ROWS = (1, 2, 4, 8, 16, 32)
CONTEXTS = (32, 256, 1024)
CHUNKS = (2, 4, 8, 16, 32, 64, 128, 256)
PASTS = (0, 768, 1792)
LONGEST = 4096
SCHEDULED = (1, 8, 32)
"""Batches whose whole steps are timed."""

MIXED = tuple(
    Mixed(Point(rows, 1, context), Point(1, chunk, past))
    for rows, context in ((1, 256), (8, 512), (16, 256), (31, 256))
    for chunk, past in ((16, 0), (64, 256), (200, 768))
)
QUIET = 0.2
"""Quantile of the times of a point that is taken: others can make a step slower, never faster."""


def points() -> list[Point]:
    """What is fitted to."""
    decode = [Point(rows, 1, context) for context in CONTEXTS for rows in ROWS]
    return decode + [Point(1, chunk, past) for past in PASTS for chunk in CHUNKS]


def load_of(point: Point) -> Load:
    """What a step of a point does."""
    if point.new == 1:
        return Load(tokens=point.rows, keys=point.rows * (point.past + 1), products=0, outputs=point.rows)
    products = point.new * (point.past + point.new // 2)
    return Load(tokens=point.new, keys=0, products=products, outputs=1)


def load_of_mixed(mixed: Mixed) -> Load:
    """What a step of sequences that decode, beside a chunk of a prompt, does."""
    one, other = load_of(mixed.decodes), load_of(mixed.chunk)
    return Load(
        tokens=one.tokens + other.tokens, keys=one.keys, products=other.products, outputs=one.outputs + other.outputs
    )


def measure(core: EngineCore, rounds: int) -> CostModel:
    """The model of this machine; its error is that on steps which it was not fitted to."""
    steps = Steps(core)
    taken: dict[Point, list[float]] = {point: [] for point in points()}
    mixed: dict[Mixed, list[float]] = {point: [] for point in MIXED}
    for _ in range(rounds):
        for point, seconds in taken.items():
            seconds += steps.decode(point) if point.new == 1 else steps.prefill(point)
        for both, seconds in mixed.items():
            seconds += steps.mixed(both)
    model = fit([load_of(point) for point in taken], [_quiet(seconds) for seconds in taken.values()])
    error = error_of(model, [load_of_mixed(both) for both in mixed], [_quiet(seconds) for seconds in mixed.values()])
    return msgspec.structs.replace(model, error=error, machine=in_words(describe()))


def _quiet(seconds: list[float]) -> float:
    return float(np.quantile(seconds, QUIET))


def with_scheduling(model: CostModel, core: EngineCore) -> CostModel:
    """The model with what plan, commit and messages add to a step: a constant, and another for each token."""
    rows, extra = [], []
    for batch in SCHEDULED:
        found = [(load, seconds - model.seconds(load)) for load, seconds in _whole_steps(core, batch)]
        rows.append([1.0, batch])
        extra.append(_quiet([seconds for _, seconds in found]))
    (base, each), *_ = np.linalg.lstsq(np.array(rows), np.array(extra), rcond=None)
    curve = [knot + max(0.0, float(base)) for knot in model.curve]
    return msgspec.structs.replace(model, curve=curve, output=model.output + max(0.0, float(each)))


def _whole_steps(core: EngineCore, batch: int) -> Iterator[tuple[Load, float]]:
    """Loads and seconds of the steps in which ``batch`` sequences decode."""
    params = SamplingParams(max_new_tokens=80, ignore_eos=True)
    rng = np.random.default_rng(batch)
    for number in range(batch):
        core.add(b"", AddRequest(number, rng.integers(100, 40000, 64).tolist(), params))
    while core.has_work:
        keys = sum(sequence.computed + 1 for sequence in core.scheduler.running)
        began = time.perf_counter()
        outputs = core.step()
        seconds = time.perf_counter() - began
        if sum(len(tokens) for tokens in outputs.values()) == batch and keys > batch * 65:
            yield Load(tokens=batch, keys=keys, products=0, outputs=batch), seconds


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
        max_total_tokens=max(ROWS) * (max(CONTEXTS) + STEPS + 32) + LONGEST,
        max_request_tokens=LONGEST,
        max_running=max(ROWS),
        max_step_tokens=max(CHUNKS),
        speculation="off",
    )
    model = with_scheduling(measure(core, args.rounds), core)
    args.output.write_bytes(msgspec.json.format(msgspec.json.encode(model), indent=2) + b"\n")
    print(model.machine)
    for tokens, seconds in zip(KNOTS, model.curve, strict=True):
        print(f"{tokens:>5} tokens {1e3 * seconds:8.2f} ms")
    print(f"head {1e3 * model.head:.2f} ms, an output {1e6 * model.output:.1f} us")
    print(f"a key {1e9 * model.key:.1f} ns, a product {1e9 * model.product:.2f} ns")
    print(f"mean error on steps that it was not fitted to {100 * model.error:.1f} %")


if __name__ == "__main__":
    main()
