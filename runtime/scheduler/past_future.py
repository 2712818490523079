"""Admission by what outputs have been and by what the batch will need: the Past-Future policy."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.request import FinishReason
from runtime.scheduler.admission import Forecast, FuturePeak, Load, known_tokens, peak_blocks
from runtime.scheduler.kv_cache import blocks_for
from runtime.scheduler.length_history import LengthHistory
from runtime.scheduler.sequence import Group
from runtime.scheduler.sequence import Sequence as Sample

RESERVE = 0.05
"""Share of the KV cache that forecasts may not fill: they are wrong at times."""

TENANTS = 256
"""Tenants with a history of their own; others share everybody's."""

_WORST = FuturePeak()
_GOLDEN = 0.6180339887498949


class PastFuture:
    """Admit while the peak of the batch fits, with each output as long as the past makes it.

    It never admits less than ``FuturePeak``. Every sample stands for a share of the outputs of the past, a number that
    its request's name gives it, and is expected to become as long as they, given what it has reached: together the
    samples of a batch are spread like the past, and an expectation changes only with what is known. The shares are a
    golden-ratio sequence, which covers the distribution more evenly than the random draws of the paper.

    Args:
        reserve: Share of the KV cache that forecasts may not fill.
    """

    def __init__(self, reserve: float = RESERVE) -> None:
        self._reserve = reserve
        self._everybody = LengthHistory()
        self._tenants: dict[str, LengthHistory] = {}

    def observe(self, sample: Sample) -> None:
        """A sample has ended."""
        if sample.finish is FinishReason.ERROR or not sample.generated:
            return
        cut = sample.finish is FinishReason.LENGTH
        for history in (self._everybody, self._own(sample.group.tenant)):
            if history is not None:
                history.add(sample.generated, cut=cut)

    def peak(self, samples: Sequence[Sample], load: Load) -> int:
        """See ``AdmissionPolicy``.

        A block that several samples hold counts once, with the one that keeps it longest.
        """
        ranked = sorted(((self._growth(sample), sample) for sample in samples), key=_lifetime, reverse=True)
        shared = sum(len(sample.blocks) for sample in samples) > load.referenced
        counted: set[int] = set()
        decoding = []
        whole = 0
        for growth, sample in ranked:
            known = known_tokens(sample)
            if shared:
                known -= sum(block in counted for block in sample.blocks) * load.block_size
                counted.update(sample.blocks)
            if sample.decoding:
                decoding.append(Forecast(known, growth))
            else:
                whole += blocks_for(known + growth, load.block_size)
        return whole + peak_blocks(decoding, load.block_size)

    def admits(self, running: Sequence[Sample], candidate: Group, load: Load) -> bool:
        """See ``AdmissionPolicy``."""
        if not running:
            return True
        room = load.capacity * (1.0 - self._reserve) - self.peak([*running, *candidate.live()], load)
        if room >= 0 or room + load.shareable(candidate.live()[0]) >= 0:
            return True
        # NOTE: the reserve is for forecasts that may be wrong, and the longest that all can become is none.
        return _WORST.admits(running, candidate, load)

    def _growth(self, sample: Sample) -> int:
        """Tokens that the sample is expected to add to those it is known to hold."""
        params, generated = sample.group.params, sample.generated + sample.pending
        length = params.max_new_tokens
        if not params.ignore_eos:
            share = (sample.group.key[1] + sample.sample) * _GOLDEN % 1.0
            own = self._tenants.get(sample.group.tenant)
            expected = own.foretell(generated, share) if own is not None else None
            if expected is None:
                expected = self._everybody.foretell(generated, share)
            if expected is not None:
                length = min(length, expected)
        return max(0, length - generated - 1)

    def _own(self, tenant: str) -> LengthHistory | None:
        own = self._tenants.get(tenant)
        if own is None and len(self._tenants) < TENANTS:
            own = self._tenants[tenant] = LengthHistory()
        return own


def _lifetime(ranked: tuple[int, Sample]) -> tuple[bool, int]:
    """Samples that do not decode yet count at every moment."""
    growth, sample = ranked
    return not sample.decoding, growth
