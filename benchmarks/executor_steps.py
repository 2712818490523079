"""Steps of an executor alone, at any batch and context: no prompt is read before them, no scheduler plans them."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import numpy as np

from runtime.engine.core import EngineCore
from runtime.executors.host import HostExecutor
from runtime.request import SamplingParams
from runtime.scheduler.plan import Logits, RowStart, RowWork, StepPlan

STEPS = 40
"""Steps of a point in a round at most, and so tokens that a context grows by."""
ENOUGH_SECONDS = 0.5


class Point(msgspec.Struct, frozen=True):
    """``rows`` sequences with ``new`` tokens each behind ``past`` ones in a step."""

    rows: int
    new: int
    past: int


class Mixed(msgspec.Struct, frozen=True):
    """Sequences that decode, and a chunk of a prompt beside them."""

    decodes: Point
    chunk: Point


class Steps:
    """Runs steps of the executor of an engine, whose scheduler stays out of it.

    Args:
        core: The engine.
        tokens: First and last id of random prompts.
    """

    def __init__(self, core: EngineCore, tokens: tuple[int, int] = (100, 40000)) -> None:
        assert isinstance(core.executor, HostExecutor)
        self._executor = core.executor
        self._rng = np.random.default_rng(0)
        self._tokens = tokens
        self._rows: list[int] = []
        self._blocks = self._rng.permutation(core.executor.capabilities.num_blocks)
        # NOTE: pages that nobody wrote are one page of zeros, which would come from the cache of the processor.
        for pool in core.executor.model._pools.values():  # type: ignore[attr-defined]  # noqa: SLF001
            shape, bits = pool.shape[1:], pool.dtype == np.uint16  # those of bfloat16
            pool[...] = 0x3C00 + self._rng.integers(0, 0x400, shape) if bits else self._rng.random(shape)

    def decode(self, point: Point) -> list[float]:
        """Seconds of some steps, each a token longer than the one before."""
        work = [RowWork(row, 1, [], Logits.LAST, True) for row in range(point.rows)]
        self._run(StepPlan(ends=self._rows, starts=list(self._starts(point, STEPS + 2)), work=work))
        self._rows = list(range(point.rows))
        return self._timed([StepPlan(work=work)] * STEPS)

    def prefill(self, point: Point) -> list[float]:
        """Seconds of the same step, some times over."""
        (start,) = self._starts(point, point.new)
        again = StepPlan(ends=[0], starts=[start], work=[RowWork(0, point.new, [], Logits.LAST, True)])
        self._run(StepPlan(ends=self._rows, starts=again.starts, work=again.work))
        self._rows = [0]
        return self._timed([again] * STEPS)

    def mixed(self, mixed: Mixed) -> list[float]:
        """Seconds of steps that run both."""
        decodes, chunk = mixed.decodes, mixed.chunk
        row = decodes.rows
        starts = [*self._starts(decodes, STEPS + 2)]
        used = sum(len(start.blocks) for start in starts)
        (prompt,) = self._starts(chunk, chunk.new, row, used)
        work = [RowWork(number, 1, [], Logits.LAST, True) for number in range(row)]
        work.append(RowWork(row, chunk.new, [], Logits.LAST, True))
        self._run(StepPlan(ends=self._rows, starts=[*starts, prompt], work=work))
        self._rows = [*range(row + 1)]
        return self._timed([StepPlan(ends=[row], starts=[prompt], work=work)] * STEPS)

    def _starts(self, point: Point, room: int, row: int = 0, used: int = 0) -> Iterator[RowStart]:
        """Rows from ``row`` on, with blocks after the first ``used`` ones."""
        size = self._executor.capabilities.block_size
        count = -(-(point.past + room) // size)
        params = SamplingParams(max_new_tokens=room, ignore_eos=True)
        for number in range(point.rows):
            tokens = self._rng.integers(*self._tokens, point.past + point.new).tolist()
            first = used + number * count
            blocks = self._blocks[first : first + count].tolist()
            yield RowStart(row + number, tokens, len(tokens), point.past, blocks, params)

    def _timed(self, plans: list[StepPlan]) -> list[float]:
        taken: list[float] = []
        for plan in plans:
            began = time.perf_counter()
            self._run(plan)
            taken.append(time.perf_counter() - began)
            if len(taken) >= 5 and sum(taken) > ENOUGH_SECONDS:
                break
        return taken

    def _run(self, plan: StepPlan) -> None:
        self._executor.collect(self._executor.submit(plan))
