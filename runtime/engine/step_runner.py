"""Runs the scheduler's steps on an executor, as far ahead as it takes them, and isolates who makes them fail."""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass

from runtime.black_box import BlackBox
from runtime.engine.isolation import Isolation
from runtime.engine.patience import Patience
from runtime.executors.base import Executor, StepHandle
from runtime.scheduler import Emission, Scheduler, Step

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Refused:
    """In place of the handle of a step that could not be submitted."""

    error: Exception


@dataclass(frozen=True, slots=True)
class _Flying:
    """A step that was submitted and not yet collected."""

    step: Step
    handle: StepHandle | _Refused
    began: float


class StepRunner:
    """Plan, submit, collect, commit.

    Args:
        scheduler: Plans the steps.
        executor: Runs them.

    Attributes:
        steps: Steps that succeeded.
        seconds: Time spent in them.
        isolation: Finds who makes steps fail.
        box: Told who is in each step.
        patience: Says when one is overdue.
    """

    def __init__(self, scheduler: Scheduler, executor: Executor) -> None:
        self._scheduler = scheduler
        self._executor = executor
        self._flying: deque[_Flying] = deque()
        self._collected = time.perf_counter()
        self.steps = 0
        self.seconds = 0.0
        self.isolation = Isolation(scheduler)
        self.box = BlackBox()
        self.patience = Patience()

    @property
    def has_work(self) -> bool:
        """Whether a step is on its way."""
        return bool(self._flying)

    @property
    def seconds_since_step(self) -> float:
        """Since the last step ended, or since the start."""
        return time.perf_counter() - self._collected

    def show_life(self) -> None:
        """Have whoever reads the box see that the engine turns."""
        self.box.beat(self.patience.seconds(self._tokens_in_flight()))

    def step(self) -> Iterator[list[Emission]]:
        """Submit the next step, and collect the oldest one as soon as ``depth`` of them are on their way.

        Yields:
            What came of each one that was collected; to be read before the next is committed.

        Raises:
            EngineFailedError: Step after step failed.
        """
        try:
            yield from self._step()
        finally:
            if not self._flying:
                self.box.leave()

    def _step(self) -> Iterator[list[Emission]]:
        self.isolation.advance()
        submitted = self._submit()
        depth = 1 if self.isolation.active else self._executor.capabilities.depth
        if self._flying and isinstance(self._flying[-1].handle, _Refused):
            # NOTE: what the steps ahead of it bring comes first, and none is planned behind it.
            while self._flying:
                yield self._collect()
        elif self._flying and (not submitted or len(self._flying) >= depth):
            yield self._collect()

    def _submit(self) -> bool:
        """Plan and submit a step; returns whether there was one."""
        step = self._scheduler.plan()
        if step is None:
            return False
        began = time.perf_counter()
        for item in step.planned:
            group = item.sequence.group
            if group.queue_seconds < 0:
                group.queue_seconds = began - group.arrived
        self.box.beat(self.patience.seconds(step.plan.tokens + self._tokens_in_flight()))
        self.box.enter((sequence.group.fingerprint, sequence.generated) for sequence, _, _ in step.planned)
        handle: StepHandle | _Refused
        try:
            handle = self._executor.submit(step.plan)
        except Exception as error:
            handle = _Refused(error)
        self._flying.append(_Flying(step, handle, began))
        return True

    def _tokens_in_flight(self) -> int:
        return sum(flying.step.plan.tokens for flying in self._flying)

    def _collect(self) -> list[Emission]:
        """Wait for the oldest step on its way, and commit what it brings."""
        flying = self._flying.popleft()
        if isinstance(flying.handle, _Refused):
            return self._fail(flying.step, flying.handle.error)
        try:
            output = self._executor.collect(flying.handle)
        except Exception as error:
            return self._fail(flying.step, error)
        now = time.perf_counter()
        self.steps += 1
        seconds = now - max(flying.began, self._collected)
        self.seconds += seconds
        self._collected = now
        self.patience.observe(flying.step.plan.tokens, seconds)
        if self._scheduler.speculation is not None:
            self._scheduler.speculation.observe(flying.step, seconds)
        self.isolation.succeeded()
        return self._scheduler.commit(flying.step, output)

    def _fail(self, step: Step, error: Exception) -> list[Emission]:
        """A step failed: what is in flight behind it builds upon what was not computed, and is dropped too."""
        log.error("a step of %d sequences failed", len(step.planned), exc_info=error)
        step.release()
        while self._flying:
            later = self._flying.popleft()
            if not isinstance(later.handle, _Refused):
                with suppress(Exception):
                    self._executor.collect(later.handle)
            later.step.release()
        return self.isolation.failed(step)
