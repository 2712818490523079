"""One sample of a request, and the group of samples that share a prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from runtime.request import FinishReason, SamplingParams, TopLogprobs

if TYPE_CHECKING:
    from runtime.scheduler.guesses import Guesses
    from runtime.scheduler.ngram_index import NgramIndex

NO_ROW = -1

RequestKey = tuple[bytes, int]
"""Client connection and the request's number there."""


@dataclass(slots=True, eq=False)
class Sequence:
    """A sample: its tokens, and how far the KV cache has caught up with them.

    There is no prefill or decode phase: a sequence is run until ``computed`` has caught up with its tokens, and
    the run that catches up samples the next one, or scores them.

    Attributes:
        tokens: Prompt, then the committed output.
        computed: Leading tokens planned or already run.
        committed: Leading tokens known to be in the KV cache; behind ``computed`` while a step is in flight.
        pending: Sampled tokens (or the score) that an uncollected step still owes.
        blocks: Its KV blocks, in order.
        published: Leading blocks that are in the prefix tree as this sequence's own path.
        row: Its row in the executor, or ``NO_ROW`` while it waits.
        cached: Prompt tokens that came from the prefix cache.
        epoch: Counts preemptions, so that a commit can tell an old residence from the present one.
        started: The epoch in which it was last handed to the executor.
        prompt_logprobs: Collected so far, when asked for.
        ngrams: Prompt lookup's notes on its tokens.
        guesses: Speculation's notes on how well it can be foretold.
        prompt_top_logprobs: The likeliest tokens beside each of them, when asked for too.
    """

    group: Group
    sample: int
    tokens: list[int]
    computed: int = 0
    committed: int = 0
    pending: int = 0
    blocks: list[int] = field(default_factory=list)
    published: int = 0
    row: int = NO_ROW
    cached: int = 0
    epoch: int = 0
    started: int = -1
    finish: FinishReason = FinishReason.NONE
    prompt_logprobs: list[float] = field(default_factory=list)
    ngrams: NgramIndex | None = None
    guesses: Guesses | None = None
    prompt_top_logprobs: list[TopLogprobs] = field(default_factory=list)

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt."""
        return len(self.group.prompt)

    @property
    def generated(self) -> int:
        """Committed output tokens."""
        return len(self.tokens) - len(self.group.prompt)

    @property
    def remaining(self) -> int:
        """Tokens to run before the next one can be sampled."""
        return len(self.tokens) + self.pending - self.computed

    @property
    def decoding(self) -> bool:
        """Whether its prompt is through and only its newest token is to be run."""
        known = len(self.tokens) + self.pending
        return known - self.computed <= 1 and known > len(self.group.prompt)

    @property
    def waits_for_leader(self) -> bool:
        """Whether the group's first sample has yet to run their prompt, whose blocks this one will share."""
        leader = self.group.sequences[0]
        return self is not leader and not (self.generated or leader.generated or leader.finished)

    @property
    def wants_prompt_logprobs(self) -> bool:
        """Whether the tokens to be run next are of a prompt whose log-probabilities are asked for."""
        wanted = self.group.params.prompt_logprobs and not self.generated
        return wanted and self.computed < self.prompt_length - 1

    @property
    def finished(self) -> bool:
        """Whether the sample has ended."""
        return self.finish is not FinishReason.NONE


@dataclass(slots=True, eq=False)
class Group:
    """A request: one prompt and its samples. Admitted, and preempted, as a whole.

    Attributes:
        key: Names the request to whoever added it.
        salt: Prefix-cache tenant.
        preempted: It has run before and waits to resume.
        arrived: When its owner queued it, on the owner's clock.
        tenant: Who pays for it.
        priority: Larger ones go first.
        place: Among its tenant's waiting requests, given by the queue; smaller ones go first.
        deadline: When nobody wants its answer any more, on the owner's clock.
        grammar: The constraint of its parameters, compiled; for the executor.
        fingerprint: Names all requests that ask for the same.
        queue_seconds: How long it waited until it first ran, noted by its owner; negative before that.
    """

    key: RequestKey
    prompt: list[int]
    params: SamplingParams
    salt: str = ""
    samples: int = 1
    preempted: bool = False
    arrived: float = 0.0
    queue_seconds: float = -1.0
    tenant: str = ""
    priority: int = 0
    place: tuple[int, int] = (0, 0)
    deadline: float = math.inf
    grammar: object = None
    fingerprint: bytes = b""
    sequences: list[Sequence] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.sequences = [Sequence(self, sample, list(self.prompt)) for sample in range(self.samples)]

    @property
    def prompt_length(self) -> int:
        """Tokens of the prompt."""
        return len(self.prompt)

    def live(self) -> list[Sequence]:
        """Samples that have not ended."""
        return [sequence for sequence in self.sequences if not sequence.finished]
