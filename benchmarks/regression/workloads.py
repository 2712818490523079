"""What is timed in process: slices of decoding and of reading prompts, tens of milliseconds each."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path

from benchmarks.regression.calibration import Spent, matrix_products, memory_read, spent
from benchmarks.regression.engines import open_engine
from benchmarks.regression.replay import CLIENT, Arrival, request
from runtime.engine.core import EngineCore

_PROMPT = 128
_STEPS = {1: 6, 8: 3, 32: 2}
"""Steps of a slice by streams."""
_PRODUCTS = 4
"""Of a calibration: about half as long as a slice, so that what disturbs one disturbs the other."""


@dataclass(frozen=True, slots=True)
class Workload:
    """A slice of work, and the work that tells how fast the machine is at that moment.

    Attributes:
        name: For people, and in the baseline.
        run: Does the slice.
        yardstick: Does the calibration next to it.
    """

    name: str
    run: Callable[[], Spent]
    yardstick: Callable[[], Spent]


@contextmanager
def engine_workloads(bundle: Path, rounds: int) -> Iterator[list[Workload]]:
    """Decoding with 1, 8 and 32 streams, and prompts of 1024 tokens, each on an engine of its own.

    Args:
        bundle: The engine.
        rounds: How often each slice is going to run.
    """
    product, read = matrix_products(_PRODUCTS), memory_read()
    arithmetic, memory = (lambda: spent(product)), (lambda: spent(read))
    engines: list[EngineCore] = []
    found = []
    try:
        for streams, steps in _STEPS.items():
            core = _decoding(bundle, streams, steps * (rounds + 1))
            engines.append(core)
            yardstick = memory if streams == 1 else arithmetic
            found.append(Workload(f"decode, {streams} stream{'s' * (streams > 1)}", _steps(core, steps), yardstick))
        core = open_engine(bundle, prefix_cache=False, max_request_tokens=1040)
        engines.append(core)
        found.append(Workload("prefill of 1024 tokens", _prefill(core), arithmetic))
        yield found
    finally:
        for core in engines:
            core.executor.close()


def _decoding(bundle: Path, streams: int, steps: int) -> EngineCore:
    """An engine that has its prompts behind it, and room for ``steps`` steps."""
    output = steps + streams + 2  # the first ones decode while the last ones' prompts are read
    longest = _PROMPT + output
    core = open_engine(
        bundle,
        prefix_cache=False,
        admission="future_peak",
        max_request_tokens=longest,
        max_total_tokens=streams * (longest + 16) + 8,
    )
    for number in range(streams):
        arrival = Arrival(prompt=_PROMPT, output=output)
        assert core.add(CLIENT, request(number, arrival, core.limits.vocab_size)) is None
    while core.scheduler.waiting or not all(sequence.decoding for sequence in core.scheduler.running):
        core.step()
    return core


def _steps(core: EngineCore, steps: int) -> Callable[[], Spent]:
    streams = len(core.scheduler.running)

    def run() -> None:
        assert len(core.scheduler.running) == streams
        for _ in range(steps):
            core.step()

    return lambda: spent(run)


def _prefill(core: EngineCore) -> Callable[[], Spent]:
    """A step of a prompt, which takes several: the next slice goes on with it."""
    numbers = count()

    def run() -> None:
        if not core.has_work:
            arrival = Arrival(prompt=1024, output=1)
            assert core.add(CLIENT, request(next(numbers), arrival, core.limits.vocab_size)) is None
        core.step()

    return lambda: spent(run)
