"""A step while it is being planned: what is left of its budget, and what is in it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple

from runtime.scheduler.plan import Logits, RowStart, RowWork, StepPlan
from runtime.scheduler.sequence import Sequence


class Planned(NamedTuple):
    """A work item, with the sequence and the residence (epoch) it was planned for."""

    sequence: Sequence
    epoch: int
    work: RowWork


@dataclass(slots=True)
class Step:
    """A step in flight: what the executor gets, and what the commit needs to know."""

    plan: StepPlan
    planned: list[Planned]

    def release(self) -> None:
        """It failed as a whole, or the one before it did: nothing came of it. Its groups are to be withheld."""
        for sequence, _, work in self.planned:
            sequence.pending -= work.samples


def row_start(sequence: Sequence) -> RowStart:
    """How a sequence enters its row of the executor."""
    return RowStart(
        row=sequence.row,
        tokens=list(sequence.tokens),
        prompt_length=sequence.prompt_length,
        computed=sequence.computed,
        blocks=list(sequence.blocks),
        params=sequence.group.params,
        sample=sequence.sample,
        grammar=sequence.group.grammar,
    )


@dataclass(slots=True)
class StepBuilder:
    """The step under construction.

    Attributes:
        tokens_left: Tokens that still fit.
        spare_rows: Rows of logits left for prompts and drafts; one a sequence is set aside for sampling.
        preempted: A group had to give way, so nobody is admitted in this step.
    """

    tokens_left: int
    spare_rows: int
    preempted: bool = False
    planned: list[Planned] = field(default_factory=list)

    def cut(self, wanted: int, logits: Logits) -> int:
        """How many of ``wanted`` tokens fit."""
        fits = min(wanted, self.tokens_left)
        return min(fits, self.spare_rows) if logits is Logits.ALL else fits

    def add(self, sequence: Sequence, added: list[int], count: int, logits: Logits) -> None:
        """Plan the sequence's next ``count`` tokens; they sample if they are its last."""
        samples = count == sequence.remaining
        if logits is Logits.LAST and not samples:
            logits = Logits.NONE
        work = RowWork(sequence.row, count, added, logits, samples)
        self.planned.append(Planned(sequence, sequence.epoch, work))
        self.tokens_left -= count
        if logits is Logits.ALL:
            self.spare_rows -= count
        sequence.computed += count
        sequence.pending += samples

    @property
    def may_admit(self) -> bool:
        """Whether somebody new may come in."""
        return self.tokens_left > 0 and not self.preempted

    @property
    def draft_room(self) -> int:
        """Tokens that fit, each with its logits."""
        return min(self.tokens_left, self.spare_rows)

    def add_draft(self, work: RowWork, draft: list[int], added: list[int]) -> None:
        """Let planned work run a draft too."""
        work.draft = tuple(draft)
        work.count += len(draft)
        work.new_blocks += added
        self.tokens_left -= len(draft)
        self.spare_rows -= len(draft)

    def drop(self, sequence: Sequence) -> None:
        """Take back what was planned for a sequence that is being preempted."""
        for item in self.planned:
            if item.sequence is sequence:
                sequence.pending -= item.work.samples
                self.tokens_left += item.work.count
        self.planned = [item for item in self.planned if item.sequence is not sequence]
