"""Messages the engine sends to an HTTP worker."""

from __future__ import annotations

from enum import IntEnum

import msgspec

from runtime.limits import EngineLimits
from runtime.request import FinishReason, TopLogprobs
from runtime.stats import EngineStats


class _Message(msgspec.Struct, array_like=True, omit_defaults=True, gc=False):
    pass


TIME_IS_UP = "the request was not answered within the time that it was given"
"""What a client is told whose deadline has passed, by whoever notices."""


class RejectReason(IntEnum):
    """Why a request was not taken."""

    INVALID = 1
    QUEUE_FULL = 2
    DRAINING = 3
    CONSTRAINT = 4
    EXPIRED = 5
    QUARANTINED = 6


class Welcome(_Message, tag=1):
    """Answer to ``Hello``.

    Attributes:
        boot_id: New for each engine process; a change means that every open request is lost.
        limits: What the engine can take.
    """

    boot_id: str
    limits: EngineLimits


class TokenOutput(_Message):
    """One sampled token of one sample, a score, or the end of a sample without either (``token_id == -1``).

    Attributes:
        request_id: As in ``AddRequest``.
        sample: Index of the sample, from 0.
        token_id: The token, or -1 when the sample ended without one (aborted or failed).
        logprob: Natural log-probability of the token after penalties and temperature, before top-p and top-k.
        finish: Why the sample ended with this token, or ``NONE``.
        cached_tokens: Prompt tokens served from the prefix cache; sent with the sample's first token.
        prompt_logprobs: Log-probability of each prompt token but the first; with the first token, when asked for.
        error: Text for the client when ``finish`` is ``ERROR``.
        queue_seconds: How long the request waited before it was first scheduled; sent with a sample's first token.
        score: Of the prompt, from a reward model: the request's only output, with ``finish`` ``STOP``.
        top_logprobs: The likeliest tokens in this one's place, when asked for, over the distribution of ``logprob``.
        prompt_top_logprobs: The same for each of ``prompt_logprobs``.
    """

    request_id: int
    sample: int
    token_id: int
    logprob: float
    finish: FinishReason = FinishReason.NONE
    cached_tokens: int = 0
    prompt_logprobs: list[float] | None = None
    error: str = ""
    queue_seconds: float = 0.0
    score: float | None = None
    top_logprobs: TopLogprobs | None = None
    prompt_top_logprobs: list[TopLogprobs] | None = None


class StepOutputs(_Message, tag=2):
    """Everything one step produced for one worker."""

    outputs: list[TokenOutput]


class Rejected(_Message, tag=3):
    """The request was not queued, or its time has run out: nothing more comes of it.

    Attributes:
        retry_after: Whole seconds after which trying again makes sense; 0 when it never does.
    """

    request_id: int
    reason: RejectReason
    message: str
    retry_after: int = 0


class StatsReply(_Message, tag=4):
    """Answer to ``StatsQuery``, computed when the query was read."""

    query_id: int
    stats: EngineStats


class PrefixReply(_Message, tag=5):
    """Answer to ``PrefixQuery``.

    Attributes:
        digests: ``runtime.scheduler.prefix_digest`` of the cached blocks that were used last, one after the other.
    """

    digests: bytes


ToWorker = Welcome | StepOutputs | Rejected | StatsReply | PrefixReply
