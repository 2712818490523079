"""How a step grows with batch, context and chunk, beside its floor: ``python -m benchmarks.scaling``.

The model's executor runs alone, without the scheduler. The KV cache is filled with numbers instead of prompts, its
blocks lie scattered. Every round visits every point, so that a slow minute of the machine touches all of them.
"""

from __future__ import annotations

import argparse
import statistics
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

import msgspec

from benchmarks.ceilings import measure
from benchmarks.engine import built_bundle, open_engine
from benchmarks.executor_steps import STEPS, Point, Steps
from benchmarks.floors import Ceilings, Costs
from benchmarks.machine import describe, in_words
from benchmarks.usage import at_least
from benchmarks.weights import weights_read
from runtime.bundle.manifest_file import read_manifest
from runtime.engine.core import EngineCore


def points(args: argparse.Namespace) -> list[Point]:
    """Of decode as far as ``kv_tokens`` go, and of prefill."""
    decode = [
        Point(rows, 1, context)
        for context in args.contexts
        for rows in args.batches
        if rows * context <= args.kv_tokens
    ]
    return decode + [Point(1, chunk, past) for past in args.pasts for chunk in args.chunks]


def report(rows: list[dict[str, float]], ceilings: Ceilings) -> list[str]:
    """The tables."""
    lines = [
        f"read {ceilings.bandwidth / 1e9:.1f} GB/s; linear kernel {ceilings.multiply_adds / 1e9:.0f} G multiply-adds/s",
        f"{'batch':>6}{'new':>6}{'past':>6}{'ms':>9}{'best':>9}{'floor':>9}{'x floor':>9}{'tokens/s':>10}",
    ]
    for row in rows:
        milliseconds = "".join(f"{1e3 * row[name]:>9.2f}" for name in ("median", "best", "floor"))
        rate = row["rows"] * row["new"] / row["median"]
        shape = f"{row['rows']:>6}{row['new']:>6}{row['past']:>6}"
        lines.append(f"{shape}{milliseconds}{row['median'] / row['floor']:>9.2f}{rate:>10.0f}")
    return lines


def main() -> None:
    """Command line."""
    args = _arguments()
    machine = describe()
    print(in_words(machine))
    longest = max(max(args.contexts) + STEPS + 2, max(args.pasts) + max(args.chunks))
    slack = max(args.batches) * (STEPS + 32)
    bundle = Path(built_bundle(args.model))
    manifest = read_manifest(bundle)
    if (manifest.target, manifest.kv.kind) != ("cpu", "paged"):
        raise SystemExit(f"error: {args.model} is not for a CPU with paged KV, which this measures")
    core = open_engine(
        str(bundle),
        max_total_tokens=max(args.kv_tokens, longest) + slack,
        max_request_tokens=longest,
        max_running=max(args.batches),
        max_step_tokens=max(*args.chunks, *args.batches),
    )
    costs = Costs(manifest.architecture, weights_read(bundle / "model.onnx"), manifest.kv.element_bytes)
    rows, ceilings = _measure(core, costs, args)
    print("\n".join(report(rows, ceilings)))
    if args.json is not None:
        document = {"kind": "scaling", "machine": machine, "ceilings": asdict(ceilings), "rows": rows}
        args.json.write_bytes(msgspec.json.encode(document) + b"\n")


def _measure(core: EngineCore, costs: Costs, args: argparse.Namespace) -> tuple[list[dict[str, float]], Ceilings]:
    steps = Steps(core)
    taken: dict[Point, list[float]] = defaultdict(list)
    found = []
    for _ in range(args.rounds):
        found.append(measure(costs.architecture))
        for point in points(args):
            taken[point] += steps.decode(point) if point.new == 1 else steps.prefill(point)
    ceilings = Ceilings(max(c.bandwidth for c in found), max(c.multiply_adds for c in found))
    rows = []
    for point, seconds in taken.items():
        work = costs.step(point.rows, point.new, point.past)
        figures = {"median": statistics.median(seconds), "best": min(seconds), "floor": work.floor(ceilings)}
        rows.append(msgspec.structs.asdict(point) | figures | asdict(work))
    return rows, ceilings


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="benchmarks.scaling", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    count = at_least(1)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--batches", type=count, nargs="+", default=[1, 2, 4, 8, 16, 32, 64])
    parser.add_argument("--contexts", type=count, nargs="+", default=[128, 512, 2048, 8000])
    parser.add_argument("--chunks", type=at_least(2), nargs="+", default=[16, 32, 64, 128, 256, 512, 1024])
    parser.add_argument("--pasts", type=at_least(0), nargs="+", default=[0, 2048], help="tokens before a chunk")
    parser.add_argument("--kv-tokens", type=count, default=65536, help="of all sequences together")
    parser.add_argument("--rounds", type=count, default=3)
    parser.add_argument("--json", type=Path, metavar="FILE")
    return parser.parse_args()


if __name__ == "__main__":
    main()
