"""Whether one more request fits: the future-peak estimate and the policies built on it.

The peak is the "future" half of *Past-Future Scheduler for LLM Serving under SLA Guarantees* (ASPLOS'25): a
batch needs the most memory at one of the moments just before a request ends, so it is enough to look there.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from runtime.scheduler.kv_cache import blocks_for
from runtime.scheduler.sequence import Group
from runtime.scheduler.sequence import Sequence as Sample


class Forecast(NamedTuple):
    """What one sample is expected to need.

    Attributes:
        held: Tokens it holds once its prompt is in, the next one included.
        growth: Tokens still to come after that.
        delay: Steps before it begins to grow (prompt chunks still to run).
    """

    held: int
    growth: int
    delay: int = 0


def peak_blocks(forecasts: Iterable[Forecast], block_size: int) -> int:
    """The most KV blocks that the samples will ever hold together, growing one token a step until each ends.

    With blocks of one token and no delays this is LightLLM's ``max over k of (sum of a_j for j <= k) + k * b_k``,
    over samples sorted by falling remaining length ``b``.
    """
    order = sorted(forecasts, key=lambda f: f.delay + f.growth, reverse=True)
    peak = 0
    for alive, last in enumerate(order, start=1):
        moment = last.delay + last.growth
        held = 0
        for other in order[:alive]:
            grown = min(other.growth, max(0, moment - other.delay))
            held += blocks_for(other.held + grown, block_size)
        peak = max(peak, held)
    return peak


@dataclass(frozen=True, slots=True)
class Load:
    """The KV cache as the policy sees it, in blocks."""

    capacity: int
    referenced: int
    block_size: int


class AdmissionPolicy(Protocol):
    """Decides strictly in arrival order: when the head of the queue is refused, everybody waits."""

    def forecast(self, sample: Sample, load: Load) -> Forecast:
        """What ``sample`` is expected to need."""
        ...

    def admits(self, running: Sequence[Sample], candidate: Group, load: Load) -> bool:
        """Whether ``candidate`` may run beside ``running``."""
        ...


@dataclass(frozen=True, slots=True)
class FuturePeak:
    """Admit while the estimated future peak fits.

    Args:
        token_ratio: KV load from which the server is busy and everybody is reserved ``max_new_tokens``; 0 is
            always busy: fully conservative, nothing is ever preempted.
        assumed_new_tokens: Output length assumed of a request while the server is not busy.
        chunk: Prompt tokens that a step can take.
    """

    token_ratio: float = 0.0
    assumed_new_tokens: int = 1024
    chunk: int = 256

    def forecast(self, sample: Sample, load: Load) -> Forecast:
        """Contract of LightLLM's router: ``ignore_eos`` and a busy server count the full length."""
        params = sample.group.params
        generated = sample.generated + sample.pending
        limit = params.max_new_tokens
        if not params.ignore_eos and load.referenced < self.token_ratio * load.capacity:
            limit = min(limit, max(generated * 11 // 10, self.assumed_new_tokens))
        to_run = max(0, sample.remaining - 1)
        return Forecast(
            held=len(sample.tokens) + sample.pending + 1,
            growth=max(0, limit - generated - 1),
            delay=blocks_for(to_run, self.chunk),
        )

    def admits(self, running: Sequence[Sample], candidate: Group, load: Load) -> bool:
        """See ``AdmissionPolicy``."""
        samples = [*running, *candidate.live()]
        return peak_blocks((self.forecast(s, load) for s in samples), load.block_size) <= load.capacity


@dataclass(frozen=True, slots=True)
class Aggressive:
    """Admit while the known tokens fit now; preemption pays for what grows beyond that."""

    def forecast(self, sample: Sample, load: Load) -> Forecast:  # noqa: ARG002
        """Only what is known."""
        return Forecast(held=len(sample.tokens) + sample.pending + 1, growth=0)

    def admits(self, running: Sequence[Sample], candidate: Group, load: Load) -> bool:  # noqa: ARG002
        """See ``AdmissionPolicy``."""
        needed = sum(blocks_for(len(s.tokens) + 1, load.block_size) for s in candidate.live())
        return load.referenced + needed <= load.capacity
