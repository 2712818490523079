"""Speculation: tokens that might come next are run as drafts behind the one that is known.

Each position is sampled with its own random number, and a draft counts if it is what was sampled: the output is the
same with and without, in fewer steps. So who decides how much to draft may go by the clock.
"""

from __future__ import annotations

from typing import Protocol

from runtime.scheduler.guesses import Guesses
from runtime.scheduler.kv_cache import KvCache, blocks_for
from runtime.scheduler.ngram_index import NgramIndex
from runtime.scheduler.sequence import Sequence
from runtime.scheduler.step_builder import Planned, Step, StepBuilder
from runtime.scheduler.step_time import StepTime

LONGEST_DRAFT = 15
_MARGIN = 1.15
"""By how much a guess has to beat the step as it stands: the estimates are not exact, and drafting has costs beside."""

Draft = list[int]


class DraftSource(Protocol):
    """Guesses what comes next."""

    def guess(self, sequence: Sequence, length: int) -> Draft:
        """At most ``length`` tokens that may follow the sequence's."""
        ...


class PromptLookup:
    """Guesses from the sequence's own text, prompt and output alike."""

    def guess(self, sequence: Sequence, length: int) -> Draft:
        """See ``DraftSource``."""
        if sequence.ngrams is None:
            sequence.ngrams = NgramIndex()
        return sequence.ngrams.continuation(sequence.tokens, length)


class Speculation(Protocol):
    """Decides what is drafted."""

    def drafts(self, sequences: list[Sequence], longest: list[int], room: int) -> list[Draft]:
        """A draft for each decoding sequence, empty where none pays.

        Args:
            sequences: Each runs one token in the step.
            longest: Most tokens of each one's draft.
            room: Most tokens of all drafts together.
        """
        ...

    def observe(self, step: Step, seconds: float) -> None:
        """A step has taken so long."""
        ...


class FixedSpeculation:
    """Drafts ``length`` tokens wherever there is a guess."""

    def __init__(self, source: DraftSource, length: int) -> None:
        self._source = source
        self._length = length

    def drafts(self, sequences: list[Sequence], longest: list[int], room: int) -> list[Draft]:
        """See ``Speculation``."""
        drafts = []
        for sequence, limit in zip(sequences, longest, strict=True):
            draft = self._source.guess(sequence, min(limit, room, self._length))
            room -= len(draft)
            drafts.append(draft)
        return drafts

    def observe(self, step: Step, seconds: float) -> None:
        """See ``Speculation``."""


class MeasuredSpeculation:
    """Drafts what is expected to raise the tokens that a second brings.

    A step of ``n`` tokens takes ``fixed + a_token * n`` seconds (`StepTime`). Guess ``i`` of a sequence whose guesses
    come true at rate ``r`` is accepted with probability ``r ** i``. While a guess brings more for its time than the
    step does as it stands, it is taken, the likeliest first: with a line for the time, that is the best choice. In a
    batch that fills the machine a step brings much for its time, so only what is nearly sure is drafted, or nothing.
    """

    def __init__(self, source: DraftSource) -> None:
        self.time = StepTime()
        self._source = source
        self._usual_rate = 0.5
        self._drafted = False

    def drafts(self, sequences: list[Sequence], longest: list[int], room: int) -> list[Draft]:
        """See ``Speculation``."""
        guesses = [self._guess(sequence, limit) for sequence, limit in zip(sequences, longest, strict=True)]
        if self._drafted and self.time.alike:
            # NOTE: where all steps have the same drafts, only one without tells what they cost.
            self._drafted = False
            return [[] for _ in guesses]
        tokens: float = len(sequences)
        seconds, price = self.time.of(tokens), self.time.a_token
        candidates: list[tuple[float, int]] = []
        for place, guess in enumerate(guesses):
            chance = 1.0
            for _ in guess.guess:
                chance *= guess.rate
                if chance * seconds <= _MARGIN * price * tokens:
                    break
                candidates.append((chance, place))
        candidates.sort(reverse=True)
        lengths = [0] * len(guesses)
        for chance, place in candidates[:room]:
            if chance * seconds <= _MARGIN * price * tokens:
                break
            lengths[place] += 1
            tokens += chance
            seconds += price
        self._drafted = any(lengths)
        return [guess.guess[:length] for guess, length in zip(guesses, lengths, strict=True)]

    def observe(self, step: Step, seconds: float) -> None:
        """See ``Speculation``; steps with prompts in them tell nothing about decodes."""
        if all(item.work.samples and item.work.count - len(item.work.draft) == 1 for item in step.planned):
            self.time.observe(step.plan.tokens, seconds)
        else:
            self._drafted = False

    def _guess(self, sequence: Sequence, limit: int) -> Guesses:
        guesses = sequence.guesses
        if guesses is None:
            guesses = sequence.guesses = Guesses(self._usual_rate)
        elif guesses.guess:
            guesses.judge(sequence)
            self._usual_rate += 0.02 * (guesses.rate - self._usual_rate)
        guesses.note(sequence, self._source.guess(sequence, min(limit, LONGEST_DRAFT)))
        return guesses


def add_drafts(builder: StepBuilder, speculation: Speculation, running: list[Sequence], kv: KvCache) -> None:
    """Let the decodes of a step that is planned otherwise run drafts, in what is left of its budgets.

    NOTE: with drafts some sequences grow faster than the admission policy foresaw. None is added while the running
    ones would not all fit at their full length: nobody is ever preempted, and nothing else put off, for a draft.
    """
    decodes = [item for item in builder.planned if _decodes(item)]
    full = sum(blocks_for(s.prompt_length + s.group.params.max_new_tokens, kv.block_size) for s in running)
    room = builder.draft_room
    if not decodes or room < 1 or full > kv.pool.num_blocks:
        return
    sequences = [item.sequence for item in decodes]
    # NOTE: one token less than may still come, since the position behind a draft is sampled too.
    longest = [s.group.params.max_new_tokens - s.generated - 1 for s in sequences]
    for item, draft in zip(decodes, speculation.drafts(sequences, longest, room), strict=True):
        if draft:
            added = kv.extend(item.sequence, item.sequence.computed + len(draft))
            assert added is not None, "there was room for the sequence at its full length"
            builder.add_draft(item.work, draft, added)


def _decodes(item: Planned) -> bool:
    """Whether a work item can be drafted for. A grammar's mask is made for one position, so its rows are not."""
    sequence = item.sequence
    decoding = item.work.samples and item.work.count == 1 and sequence.generated > 0
    return decoding and not sequence.group.params.constrained
