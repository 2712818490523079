"""Records as figures."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

import msgspec

from benchmarks.load.record import Record
from benchmarks.load.slo import Slo


class Spread(msgspec.Struct, frozen=True):
    """Percentiles of a latency, in seconds."""

    p50: float
    p90: float
    p95: float
    p99: float
    max: float


class Summary(msgspec.Struct, frozen=True, kw_only=True):
    """One run.

    Latencies are those of whole answers alone; ``good_share`` is of all requests, so that refusing some makes no run
    look better.

    Attributes:
        requests: Requests sent, whatever came of them.
        whole: Those answered to the end.
        errors: The others by cause: an HTTP status, or words.
        seconds: From the start to the end of the last answer.
        drain_seconds: What of that came after the last request: long where requests arrive faster than they leave.
        gap: Between neighbouring tokens, all requests together.
        tpot: Means of the requests.
        lag: How late the client sent; latencies include it.
        good_share: Share of requests that met the objective; ``None`` without one.
        good_per_s: Their rate.
    """

    requests: int
    whole: int
    errors: dict[str, int]
    seconds: float
    drain_seconds: float
    requests_per_s: float
    prompt_tokens_per_s: float
    output_tokens_per_s: float
    ttft: Spread | None
    gap: Spread | None
    tpot: Spread | None
    e2e: Spread | None
    lag: Spread | None
    good_share: float | None
    good_per_s: float | None


def percentile(ordered: Sequence[float], share: float) -> float:
    """Linear interpolation between the two nearest of ``ordered`` values (NumPy's default method)."""
    position = share * (len(ordered) - 1)
    below = math.floor(position)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (position - below) * (ordered[above] - ordered[below])


def spread(values: Sequence[float]) -> Spread | None:
    """Percentiles; ``None`` of nothing."""
    if not values:
        return None
    ordered = sorted(values)
    return Spread(*(percentile(ordered, share) for share in (0.5, 0.9, 0.95, 0.99, 1.0)))


def cause(record: Record) -> str:
    """What to count a request under that was not answered to the end: the status of a refusal, or words."""
    return str(record.status) if record.status not in (0, 200) else record.error.partition(":")[0]


def summarize(records: Sequence[Record], seconds: float, slo: Slo | None) -> Summary:
    """Figures of one run of ``seconds``."""
    whole = [record for record in records if record.whole]
    good = None if slo is None else sum(slo.met(record) for record in records)
    last = max((record.arrival for record in records), default=0.0)
    return Summary(
        requests=len(records),
        whole=len(whole),
        errors=dict(Counter(cause(record) for record in records if not record.whole)),
        seconds=seconds,
        drain_seconds=seconds - last,
        requests_per_s=len(whole) / seconds,
        prompt_tokens_per_s=sum(record.prompt_tokens for record in whole) / seconds,
        output_tokens_per_s=sum(len(record.token_times) for record in records) / seconds,
        ttft=spread([record.ttft for record in whole]),
        gap=spread([gap for record in whole for gap in record.gaps]),
        tpot=spread([record.tpot for record in whole if record.tpot is not None]),
        e2e=spread([record.e2e for record in whole]),
        lag=spread([record.lag for record in records]),
        good_share=None if good is None else good / max(1, len(records)),
        good_per_s=None if good is None else good / seconds,
    )
