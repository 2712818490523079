"""Whether one more request fits: the future-peak estimate and the policies built on it.

The peak is the "future" half of *Past-Future Scheduler for LLM Serving under SLA Guarantees* (ASPLOS'25): a
batch needs the most memory at one of the moments just before a request ends, so it is enough to look there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

from runtime.scheduler.kv_cache import blocks_for
from runtime.scheduler.sequence import Group
from runtime.scheduler.sequence import Sequence as Sample


class Forecast(NamedTuple):
    """What one decoding sample is expected to need: the tokens it holds, and those still to come."""

    held: int
    growth: int


def peak_blocks(forecasts: Iterable[Forecast], block_size: int) -> int:
    """At most how many KV blocks the samples will ever hold together, growing one token a step until each ends.

    This is LightLLM's ``max over k of (sum of a_j for j <= k) + k * b_k``, over samples sorted by falling remaining
    length ``b``, with each sample's last block counted as if it were just begun, and at most what all need at their
    full length: exact for blocks of one token, for one sample and for linear slots, never too low.
    """
    peak = held = whole = 0
    order = sorted(forecasts, key=lambda forecast: forecast.growth, reverse=True)
    for alive, last in enumerate(order, start=1):
        held += last.held
        whole += blocks_for(last.held + last.growth, block_size)
        peak = max(peak, (held + alive * (last.growth + block_size - 1)) // block_size)
    return min(peak, whole)


@dataclass(frozen=True, slots=True)
class Load:
    """The KV cache as the policy sees it, in blocks.

    Attributes:
        capacity: In all.
        referenced: Those that running samples hold.
        block_size: Tokens in one.
        shareable: Of ``referenced``, those that a sample without blocks would hold too.
    """

    capacity: int
    referenced: int
    block_size: int
    shareable: Callable[[Sample], int] = lambda _: 0


class AdmissionPolicy(Protocol):
    """Decides strictly in arrival order: when the head of the queue is refused, everybody waits."""

    def peak(self, samples: Sequence[Sample], load: Load) -> int:
        """Blocks that ``samples`` are expected to need together at their worst moment."""
        ...

    def admits(self, running: Sequence[Sample], candidate: Group, load: Load) -> bool:
        """Whether ``candidate`` may run beside ``running``."""
        ...

    def observe(self, sample: Sample) -> None:
        """A sample has ended."""
        ...


@dataclass(frozen=True, slots=True)
class FuturePeak:
    """Admit while the estimated future peak fits.

    Args:
        token_ratio: KV load from which the server is busy and everybody is reserved ``max_new_tokens``; 0 is
            always busy: fully conservative, nothing is ever preempted.
        assumed_new_tokens: Output length assumed of a request while the server is not busy.
    """

    token_ratio: float = 0.0
    assumed_new_tokens: int = 1024

    def peak(self, samples: Sequence[Sample], load: Load) -> int:
        """See ``AdmissionPolicy``.

        NOTE: when a prompt will be through depends on everybody's share of the steps, so a sample that does not
        decode yet counts with its whole length at every moment.
        """
        decoding = []
        whole = 0
        for sample in samples:
            generated = sample.generated + sample.pending
            known = known_tokens(sample)
            growth = max(0, self._length(sample, generated, load) - generated - 1)
            if sample.decoding:
                decoding.append(Forecast(known, growth))
            else:
                whole += blocks_for(known + growth, load.block_size)
        return whole + peak_blocks(decoding, load.block_size)

    def admits(self, running: Sequence[Sample], candidate: Group, load: Load) -> bool:
        """See ``AdmissionPolicy``."""
        return self.peak([*running, *candidate.live()], load) <= load.capacity

    def observe(self, sample: Sample) -> None:
        """See ``AdmissionPolicy``: nothing is learnt."""

    def _length(self, sample: Sample, generated: int, load: Load) -> int:
        """Expected output length; ``ignore_eos`` and a busy server count the full length, as in LightLLM's router."""
        params = sample.group.params
        if params.ignore_eos or load.referenced >= self.token_ratio * load.capacity:
            return params.max_new_tokens
        return min(params.max_new_tokens, max(generated * 11 // 10, self.assumed_new_tokens))


@dataclass(frozen=True, slots=True)
class Aggressive:
    """Admit while the known tokens fit; preemption pays for what grows beyond that."""

    def peak(self, samples: Sequence[Sample], load: Load) -> int:
        """See ``AdmissionPolicy``."""
        return sum(blocks_for(known_tokens(sample), load.block_size) for sample in samples)

    def admits(self, running: Sequence[Sample], candidate: Group, load: Load) -> bool:
        """See ``AdmissionPolicy``."""
        return self.peak([*running, *candidate.live()], load) <= load.capacity

    def observe(self, sample: Sample) -> None:
        """See ``AdmissionPolicy``: nothing is learnt."""


def known_tokens(sample: Sample) -> int:
    """Tokens that a sample will hold at least: those it has and the next one, if there is one still to come."""
    return min(len(sample.tokens) + sample.pending + 1, sample.prompt_length + sample.group.params.max_new_tokens)
