"""What a decode step costs around the model: ``python -m benchmarks.loop``.

The real engine core on a model whose forward pass takes no time; the messages to the workers are encoded, not sent.
"""

from __future__ import annotations

import argparse
import cProfile
import gc
import os
import pstats
import time
from collections import Counter

import msgspec
import numpy as np
import numpy.typing as npt

from benchmarks.steps import timed
from runtime.engine.core import EngineCore
from runtime.executors.host import HostExecutor
from runtime.executors.rows import StepInputs
from runtime.limits import EngineLimits
from runtime.messages import AddRequest, StepOutputs
from runtime.request import SamplingParams
from runtime.sampling.native_sampler import NativeSampler
from runtime.scheduler import FuturePeak

BLOCK_SIZE = 16
CONTEXT = 2048
PARTS = ("plan", "submit", "finish", "commit", "step")


class FreeModel:
    """A ``HostModel`` whose logits are there already."""

    scores = False
    block_size = BLOCK_SIZE

    def __init__(self, rows: int, vocab_size: int) -> None:
        self.num_blocks = rows * CONTEXT // BLOCK_SIZE
        self.logits = np.zeros((rows + 64, vocab_size), dtype=np.float32)
        self.logits[:, 7] = 8.0

    def forward(self, inputs: StepInputs) -> npt.NDArray[np.float32]:
        """See ``HostModel``."""
        return self.logits[: len(inputs.logits_rows)]

    def copy_blocks(self, copies: list[tuple[int, int]]) -> None:
        """See ``HostModel``."""

    def close(self) -> None:
        """See ``HostModel``."""


def make_core(rows: int, vocab_size: int) -> EngineCore:
    """An engine with room for ``rows`` sequences."""
    model = FreeModel(rows, vocab_size)
    limits = EngineLimits(
        max_request_tokens=CONTEXT,
        max_total_tokens=rows * CONTEXT,
        max_running=rows,
        max_queued=rows,
        max_step_tokens=256,
        block_size=BLOCK_SIZE,
        vocab_size=vocab_size,
        eos_token_ids=(0,),
    )
    executor = HostExecutor(
        model,
        eos_token_ids=frozenset({0}),
        max_rows=rows,
        max_step_tokens=256,
        max_logit_rows=rows + 64,
        max_sequence_tokens=CONTEXT,
        sampler=NativeSampler(frozenset({0}), max_rows=rows, threads=len(os.sched_getaffinity(0))),
    )
    return EngineCore(executor, limits, FuturePeak())


def start(core: EngineCore, rows: int) -> None:
    """Let ``rows`` requests run that have their prompts behind them."""
    params = SamplingParams(max_new_tokens=CONTEXT - 64, ignore_eos=True)
    for number in range(rows):
        core.add(b"worker", AddRequest(number, [number + 1] * 32, params))
    while core.scheduler.waiting or not all(sequence.decoding for sequence in core.scheduler.running):
        core.step()


def measure(core: EngineCore, steps: int) -> dict[str, float]:
    """Median seconds of a step and of its parts."""
    encoder = msgspec.msgpack.Encoder()
    spent: Counter[str] = Counter()
    assert isinstance(core.executor, HostExecutor)
    for owner, name in (
        (core.scheduler, "plan"),
        (core.scheduler, "commit"),
        (core.executor, "submit"),
        (core.executor._finisher, "finish"),  # noqa: SLF001
    ):
        timed(owner, name, spent)
    taken: dict[str, list[float]] = {name: [] for name in (*PARTS, "encode")}
    gc.collect()
    for _ in range(steps):
        spent.clear()
        began = time.perf_counter()
        outputs = core.step()
        stepped = time.perf_counter()
        for tokens in outputs.values():
            encoder.encode(StepOutputs(tokens))
        taken["encode"].append(time.perf_counter() - stepped)
        spent["step"] = stepped - began  # type: ignore[assignment]
        for name in PARTS:
            taken[name].append(spent[name])
    return {name: float(np.median(values)) for name, values in taken.items()}


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--vocab-size", type=int, default=64, help="64 leaves the loop alone, 49152 samples in earnest")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--profile", action="store_true", help="profile 32 rows instead")
    args = parser.parse_args()
    if args.profile:
        core = make_core(32, args.vocab_size)
        start(core, 32)
        with cProfile.Profile() as profile:
            for _ in range(args.steps):
                core.step()
        pstats.Stats(profile).sort_stats("tottime").print_stats(30)
        return
    print(
        f"{'rows':>6}"
        + "".join(f"{name:>10}" for name in ("plan", "pack", "finish", "commit", "send", "encode", "all"))
    )
    for rows in (1, 8, 32, 64):
        core = make_core(rows, args.vocab_size)
        start(core, rows)
        seconds = measure(core, args.steps)
        pack = seconds["submit"] - seconds["finish"]
        send = seconds["step"] - seconds["plan"] - seconds["submit"] - seconds["commit"]
        figures = (seconds["plan"], pack, seconds["finish"], seconds["commit"], send, seconds["encode"])
        print(f"{rows:>6}" + "".join(f"{1e3 * value:>10.3f}" for value in (*figures, sum(figures))))


if __name__ == "__main__":
    main()
