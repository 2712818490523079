"""The step contract between scheduler and executor, in plain Python.

A plan is a *delta* against the rows that the executor keeps: rows that start, rows that end, and for each
scheduled row how many of its next tokens to run. The executor holds every row's tokens, so that a plan never
carries the token that the step before it sampled.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import IntEnum

from runtime.request import SamplingParams, TopLogprobs


class Logits(IntEnum):
    """Which of a row's new tokens need logits."""

    NONE = 0
    """A prompt chunk that is not the last."""
    LAST = 1
    """Sample a token after the last one, and after each token of a draft."""
    ALL = 2
    """A prompt chunk whose tokens' log-probabilities are wanted; samples only if it ends the known tokens."""


@dataclass(slots=True)
class RowStart:
    """A sequence enters row ``row`` of the executor, whole.

    Attributes:
        tokens: Prompt and, after a preemption, what was generated before it.
        prompt_length: How many of ``tokens`` are prompt.
        computed: Leading tokens whose KV is already in ``blocks``.
        blocks: KV blocks of those tokens, in order.
        sample: Index of the sample in its request; part of the key of its random draws.
        grammar: The constraint of ``params``, compiled (``runtime.constraints.Grammar``); ``None`` without one.
    """

    row: int
    tokens: list[int]
    prompt_length: int
    computed: int
    blocks: list[int]
    params: SamplingParams
    sample: int = 0
    grammar: object = None


@dataclass(slots=True)
class RowWork:
    """Run the next ``count`` tokens of row ``row``; ``new_blocks`` extend its block table first.

    Attributes:
        draft: The last of those tokens, where they are guessed. A token is sampled after the known ones and after each
            guess, up to the first guess that is not what was sampled before it. From there on the guesses never were:
            the row goes on from the last sampled token, and blocks that only they needed are no longer the row's.
    """

    row: int
    count: int
    new_blocks: list[int]
    logits: Logits
    samples: bool
    draft: tuple[int, ...] = ()

    @property
    def logit_rows(self) -> int:
        """Rows of logits that it takes."""
        if self.logits is Logits.LAST:
            return 1 + len(self.draft)
        return self.count if self.logits is Logits.ALL else 0


@dataclass(slots=True)
class StepPlan:
    """One step. Applied in this order: ``ends``, ``starts``, ``block_copies``, then ``work`` in one graph run."""

    ends: list[int] = field(default_factory=list)
    starts: list[RowStart] = field(default_factory=list)
    block_copies: list[tuple[int, int]] = field(default_factory=list)
    work: list[RowWork] = field(default_factory=list)

    @property
    def tokens(self) -> int:
        """Tokens that the step computes."""
        return sum(item.count for item in self.work)


@dataclass(slots=True)
class StepOutput:
    """What a step produced.

    Attributes:
        tokens: Row -> sampled token ids, for each work item with ``samples``: one, and one for each accepted guess.
        logprobs: Row -> natural log-probabilities of those tokens.
        prompt_logprobs: Row -> log-probabilities of the tokens that follow each of the chunk's tokens in the prompt.
        top_logprobs: Row -> the likeliest tokens in each one's place, where the request wants them.
        prompt_top_logprobs: Row -> the same for each of ``prompt_logprobs``.
        scores: Row -> score of its tokens, for each work item with ``samples`` of a reward model; no token then.
        errors: Row -> why this row alone failed (for instance NaN logits), after its tokens if there are any.
    """

    tokens: dict[int, list[int]] = field(default_factory=dict)
    logprobs: dict[int, list[float]] = field(default_factory=dict)
    prompt_logprobs: dict[int, list[float]] = field(default_factory=dict)
    top_logprobs: dict[int, list[TopLogprobs]] = field(default_factory=dict)
    prompt_top_logprobs: dict[int, list[TopLogprobs]] = field(default_factory=dict)
    scores: dict[int, float] = field(default_factory=dict)
    errors: dict[int, str] = field(default_factory=dict)
