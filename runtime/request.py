"""What one generation request asks for, after validation: plain data, standard library only."""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from enum import IntEnum

TopLogprobs = list[tuple[int, float]]
"""Token ids and their natural log-probabilities, the likeliest first."""


class FinishReason(IntEnum):
    """Why a sample ended; an int so that it is compact on the wire."""

    NONE = 0
    STOP = 1
    LENGTH = 2
    ABORT = 3
    ERROR = 4


class ConstraintKind(IntEnum):
    """What a constraint's text is written in."""

    JSON_SCHEMA = 1
    REGEX = 2
    LARK = 3


@dataclass(frozen=True, slots=True)
class Constraint:
    """The language that an output has to be a word of; ``runtime.constraints`` makes and compiles them."""

    kind: ConstraintKind
    text: str


@dataclass(frozen=True, slots=True)
class OpeningState:
    """What one of an output's first tokens may be.

    Attributes:
        allowed: Token ids, at least one, as little-endian int32.
        following: Those of them after which the output is limited still: ids and numbers of states. After any other
            it goes on as it likes.
    """

    allowed: bytes
    following: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of(cls, ids: Sequence[int], following: Iterable[tuple[int, int]] = ()) -> OpeningState:
        """The state that allows ``ids``."""
        return cls(struct.pack(f"<{len(ids)}i", *ids), tuple(following))


Opening = tuple[OpeningState, ...]
"""How an output may begin: in state 0; or as it likes, without states."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingParams:
    """Sampling parameters of one request, already in range.

    Whoever builds one has checked it: ``server.validation`` at the door for what clients send. Greedy decoding
    is ``top_k == 1``. Field meanings and the order in which they apply are those of LightLLM's pipeline, which
    ``runtime.sampling.reference`` spells out.

    Attributes:
        temperature: Divides the logits; greater than 0.
        top_p: Nucleus mass in (0, 1].
        top_k: Ranks kept; -1 keeps the whole vocabulary.
        presence_penalty: Subtracted once from each token already counted; negative is a bonus.
        frequency_penalty: Subtracted once per occurrence of a counted token; may be negative too.
        repetition_penalty: Divides positive and multiplies negative logits of counted tokens; at least 1.
        decay_start: Generated tokens after which EOS starts to grow more likely.
        decay_factor: Growth per token of the EOS logit beyond ``decay_start``; 1.0 is off.
        input_penalty: Whether prompt tokens count for the three penalties too.
        max_new_tokens: Upper bound on generated tokens; at least 1.
        min_new_tokens: EOS is masked until this token may be it; at least 1.
        ignore_eos: EOS does not end the request; with a constraint, it does once nothing else can follow.
        stop_sequences: Token-id sequences that end the output when they are its suffix.
        allowed_token_ids: When not empty, only these ids can be drawn.
        seed: Key of the counter-based random draws, in [0, 2**64).
        prompt_logprobs: Report the log-probability of each prompt token; skips the prefix-cache lookup.
        top_logprobs: Report so many of the likeliest tokens beside each log-probability.
        logit_bias: Token ids, each once, and what is added to their logits before anything else.
        constraint: What the output has to be; ends it too.
        opening: How the output may begin; not together with ``constraint``.
    """

    temperature: float = 1.0
    top_p: float = 1.0
    top_k: int = 1
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    repetition_penalty: float = 1.0
    decay_start: int = 1
    decay_factor: float = 1.0
    input_penalty: bool = False
    max_new_tokens: int = 16
    min_new_tokens: int = 1
    ignore_eos: bool = False
    stop_sequences: tuple[tuple[int, ...], ...] = field(default=())
    allowed_token_ids: tuple[int, ...] = field(default=())
    seed: int = 0
    prompt_logprobs: bool = False
    top_logprobs: int = 0
    logit_bias: tuple[tuple[int, float], ...] = field(default=())
    constraint: Constraint | None = None
    opening: Opening = field(default=())

    @property
    def penalised(self) -> bool:
        """Whether any of the three count-based penalties is on."""
        return self.presence_penalty != 0.0 or self.frequency_penalty != 0.0 or self.repetition_penalty != 1.0

    @property
    def constrained(self) -> bool:
        """Whether a grammar has to read each token before the next one can be drawn: none are guessed ahead."""
        return self.constraint is not None
