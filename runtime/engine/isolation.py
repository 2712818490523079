"""Finds the request that makes steps fail, so that it ends alone and everybody else gets their answer.

The groups of a failed step are suspects. Everything that ran is taken out of its rows, which puts the executor into a
known state; then the suspects run again, one half at a time and nobody beside them. A half whose steps succeed until
all of it is past where it failed is cleared; one that fails is halved again; a request that fails again and alone is
the culprit. Halves are tried breadth first, so that one culprit's failures come in twos at most: a device that is lost
is told from a poisoned request after `FAILURES_IN_A_ROW` steps.

Tokens are a function of request and position, so computing anew brings the same ones.
"""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from runtime.scheduler import Emission, Group, Scheduler, Step
from runtime.scheduler.sequence import Sequence
from runtime.scheduler.withholding import let, withhold

log = logging.getLogger(__name__)

FAILURES_IN_A_ROW = 8
"""So many failed steps without one that succeeds are not a request's doing."""

CULPRITS_IN_A_ROW = 3
"""So many requests that fail alone, without a step that succeeds, are not at fault."""

STEP_FAILED = "the engine failed while it computed this request"


class EngineFailedError(Exception):
    """Step after step fails: the process should end and be started anew."""


class Isolation:
    """Decides who may run after a step has failed.

    Args:
        scheduler: Withholds those who may not.

    Attributes:
        failures: Steps that failed since the start.
        culprits: Requests that were found to be the reason since the start.
        on_culprit: Told of each.
    """

    def __init__(self, scheduler: Scheduler) -> None:
        self._scheduler = scheduler
        self._halves: deque[list[Group]] = deque()
        self._on_trial: list[Group] = []
        self._reach: dict[Sequence, int] = {}
        self._failures_in_a_row = 0
        self._culprits_in_a_row = 0
        self.failures = 0
        self.culprits = 0
        self.on_culprit: Callable[[Group], None] = lambda _: None

    @property
    def active(self) -> bool:
        """Whether suspects run apart: steps are then to be collected one by one."""
        return not self._scheduler.admitting

    def failed(self, step: Step) -> list[Emission]:
        """A step has failed, and none is in flight: end the request that is the reason, or decide who runs next.

        Raises:
            EngineFailedError: It is no request's doing.
        """
        self.failures += 1
        self._failures_in_a_row += 1
        if self._failures_in_a_row >= FAILURES_IN_A_ROW:
            raise EngineFailedError
        suspects = list(dict.fromkeys(sequence.group for sequence, _, _ in step.planned if not sequence.finished))
        again = any(sequence in self._reach for group in suspects for sequence in group.live())
        for group in suspects:
            for sequence in group.live():
                self._reach[sequence] = max(sequence.computed, self._reach.get(sequence, 0))
        withhold(self._scheduler)
        emissions: list[Emission] = []
        if len(suspects) > 1:
            middle = (len(suspects) + 1) // 2
            self._halves += [suspects[:middle], suspects[middle:]]
        elif again:
            emissions = self._convict(suspects[0])
        else:
            self._halves.append(suspects)
        self._next_trial()
        return emissions

    def succeeded(self) -> None:
        """A step has been committed."""
        self._failures_in_a_row = self._culprits_in_a_row = 0

    def advance(self) -> None:
        """Go on to the next half as soon as the one on trial is cleared or gone; between any two steps."""
        if self.active and all(self._is_past(group) for group in self._on_trial):
            withhold(self._scheduler)
            self._next_trial()

    def _convict(self, group: Group) -> list[Emission]:
        self._culprits_in_a_row += 1
        if self._culprits_in_a_row >= CULPRITS_IN_A_ROW:
            raise EngineFailedError
        self.culprits += 1
        log.error("request %d made its steps fail, and ends", group.key[1])
        self.on_culprit(group)
        return self._scheduler.fail(group, STEP_FAILED)

    def _next_trial(self) -> None:
        """Let the next half run or, when all have been tried, everybody."""
        withheld = self._scheduler.withheld
        self._on_trial = []
        while self._halves and not self._on_trial:
            self._on_trial = [group for group in self._halves.popleft() if group in withheld]
        self._scheduler.admitting = not self._on_trial
        let(self._scheduler, self._on_trial or [*withheld])
        if self._scheduler.admitting:
            self._reach.clear()

    def _is_past(self, group: Group) -> bool:
        """Whether a suspect has run further than where its step failed, or is in no row any more."""
        running = [sequence for sequence in group.live() if sequence in self._scheduler.running]
        return all(sequence.committed >= self._reach.get(sequence, 0) for sequence in running)
