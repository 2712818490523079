"""What constraints cost: ``python -m benchmarks.constraints``, in process and without HTTP."""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from benchmarks.steps import timed
from runtime.bundle.bundle import TOKENIZER_FILE
from runtime.bundle.manifest_file import read_manifest
from runtime.config import EngineConfig
from runtime.constraints import json_schema, regex
from runtime.constraints.compiled_grammar import compile_grammar
from runtime.constraints.masks import MaskRows
from runtime.constraints.vocabulary import Vocabulary, load_vocabulary
from runtime.engine.core import EngineCore
from runtime.engine.factory import build_engine
from runtime.executors.host import HostExecutor
from runtime.messages import AddRequest
from runtime.request import Constraint, SamplingParams
from runtime.sampling.reference import allowed_tokens

TITLES = ("", "step, ms", "mask alone, us", "in a step, us", "waited, ms", "throughput")
STREAMS = 32
STEPS = 64


def record(fields: int) -> dict[str, Any]:
    """A schema of an object with text, numbers and choices."""
    kinds: list[dict[str, Any]] = [
        {"type": "string", "maxLength": 40},
        {"type": "integer", "minimum": 0, "maximum": 9999},
        {"enum": ["red", "green", "blue"]},
        {"type": "array", "items": {"type": "string", "maxLength": 12}, "maxItems": 4},
    ]
    properties = {f"field_{index}": kinds[index % len(kinds)] for index in range(fields)}
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def nested(width: int) -> dict[str, Any]:
    """A schema of several hundred kilobytes at the widths used here."""
    inner = {f"a{j}": {"enum": [f"v{j}_{k}" for k in range(20)]} for j in range(width)}
    schema = {"type": "object", "properties": inner, "required": [*inner], "additionalProperties": False}
    return {"type": "object", "properties": {f"k{i}": schema for i in range(width)}, "required": ["k0"]}


CONSTRAINTS: dict[str, Constraint | None] = {
    "free": None,
    "40 fields": json_schema(json.dumps(record(40))),
    "any JSON": json_schema('{"type":"array","minItems":500}'),
    "[^0-9]{2000}": regex("[^0-9]{2000}"),
}


def compile_times(vocabulary: Vocabulary) -> None:
    """Print the best of several compilations."""
    schemas = {"4 fields": record(4), "40 fields": record(40), "400 fields": record(400), "30 x 30 x 20": nested(30)}
    for name, schema in schemas.items():
        text = json.dumps(schema)
        seconds = []
        for _ in range(7):
            began = time.perf_counter()
            compile_grammar(vocabulary, json_schema(text))
            seconds.append(time.perf_counter() - began)
        print(f"compile {name:>14}, {len(text) / 1000:6.1f} kB: {1e3 * min(seconds):8.2f} ms")


def masks_alone(vocabulary: Vocabulary, constraint: Constraint) -> float:
    """Seconds for a token's mask in a batch of all streams, with nothing else to do."""
    rng = np.random.default_rng(2)
    rows, masks = [*range(STREAMS)], MaskRows(STREAMS, vocabulary.eos_tokens)
    grammar = compile_grammar(vocabulary, constraint)
    views = [masks.start(row, grammar, [], keep_going=True) for row in rows]
    seconds = []
    for _ in range(STEPS):
        began = time.perf_counter()
        masks.begin(rows)
        masks.finish(grammar.vocab_size)
        seconds.append(time.perf_counter() - began)
        for row, view in zip(rows, views, strict=True):
            allowed = np.flatnonzero(allowed_tokens(view, grammar.vocab_size)).tolist()
            if set(allowed) <= set(vocabulary.eos_tokens):
                masks.start(row, grammar, [], keep_going=True)
            else:
                masks.accept([row], [int(rng.choice(allowed))])
    return median(seconds) / STREAMS


def decode(core: EngineCore, constraint: Constraint | None, spent: Counter[str]) -> dict[str, float]:
    """Seconds a decode step of all streams, in all and by part."""
    rng = np.random.default_rng(1)
    for number in range(STREAMS):
        params = SamplingParams(
            max_new_tokens=STEPS + 8, ignore_eos=True, top_k=-1, temperature=1.0, seed=number, constraint=constraint
        )
        core.add(b"", AddRequest(number, rng.integers(100, 40000, 32).tolist(), params))
    while len(core.grammars) or core.scheduler.waiting or not all(s.decoding for s in core.scheduler.running):
        core.admit_compiled()
        core.step()
    spent.clear()
    steps, began = 0, time.perf_counter()
    while len(core.scheduler.running) == STREAMS:
        core.step()
        steps += 1
    figures = {part: seconds / steps for part, seconds in spent.items()} | {"steps": float(steps)}
    figures["step"] = (time.perf_counter() - began) / steps
    while core.has_work:
        core.step()
    return figures


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--rounds", type=int, default=5)
    args = parser.parse_args()
    build = [sys.executable, "-m", "build_engine", "build", args.model, "--print-path"]
    bundle = Path(subprocess.run(build, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])
    manifest = read_manifest(bundle)
    began = time.perf_counter()
    vocabulary = load_vocabulary(bundle / TOKENIZER_FILE, manifest.architecture.vocab_size, manifest.eos_token_ids)
    print(f"vocabulary of {vocabulary.vocab_size}: {1e3 * (time.perf_counter() - began):.0f} ms")
    compile_times(vocabulary)
    core, _ = build_engine(EngineConfig(bundle=str(bundle), socket="", prefix_cache=False))
    assert isinstance(core.executor, HostExecutor)
    spent: Counter[str] = Counter()
    masks = core.executor._finisher._masks  # type: ignore[attr-defined]  # noqa: SLF001
    timed(masks, "_compute", spent)
    timed(masks, "finish", spent)
    alone = {name: masks_alone(vocabulary, constraint) for name, constraint in CONSTRAINTS.items() if constraint}
    rounds: dict[str, list[dict[str, float]]] = {name: [] for name in CONSTRAINTS}
    for _ in range(args.rounds):
        for name, constraint in CONSTRAINTS.items():
            rounds[name].append(decode(core, constraint, spent))
    free = [figures["step"] for figures in rounds["free"]]
    print("\n" + "".join(f"{title:>16}" for title in TITLES))
    for name, figures in rounds.items():
        step = min(f["step"] for f in figures)
        mask = min(f.get("_compute", 0.0) for f in figures) / STREAMS
        waited = min(f.get("finish", 0.0) for f in figures)
        ratio = median(a / f["step"] for a, f in zip(free, figures, strict=True))
        numbers = (1e3 * step, 1e6 * alone.get(name, 0.0), 1e6 * mask, 1e3 * waited, ratio)
        print(f"{name:>16}" + "".join(f"{number:>16.2f}" for number in numbers))


if __name__ == "__main__":
    main()
