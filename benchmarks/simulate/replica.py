"""One engine of the simulation: the scheduler that serves, with a clock in place of a model."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field

from benchmarks.simulate.cost import CostModel, Load
from benchmarks.simulate.trace import END, Arrival, Segment
from runtime.request import FinishReason, SamplingParams
from runtime.scheduler import (
    AdmissionPolicy,
    Group,
    KvCache,
    Scheduler,
    SchedulerConfig,
    Step,
    StepOutput,
    check_invariants,
)
from runtime.scheduler.prefix_digest import cached_digests
from runtime.stats import EngineStats
from server.fleet.prefix_probe import MAX_DIGESTS
from server.fleet.report import Report, kv_load


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineSettings:
    """An engine's limits; see ``runtime.config.EngineConfig``."""

    kv_tokens: int = 32768
    block_size: int = 16
    max_running: int = 64
    max_step_tokens: int = 256
    max_queued: int = 1000
    prefix_cache: bool = True

    @property
    def longest(self) -> int:
        """Tokens that the traffic of such an engine has in a request: it keeps room for company."""
        return min(8192, self.kv_tokens // 2)


@dataclass(slots=True, eq=False)
class Served:
    """What became of a request.

    Attributes:
        arrival: The request.
        replica: Number of the engine that had it last.
        first: When its first token came; infinite without one.
        last: When its last token came.
        longest_gap: Between two of its tokens.
        tokens: Generated.
        cached: Prompt tokens from the prefix cache.
        finish: How it ended; ``NONE`` for one that was turned away or still runs.
        output: Token id that its output begins with.
    """

    arrival: Arrival
    replica: int = 0
    first: float = math.inf
    last: float = math.inf
    longest_gap: float = 0.0
    tokens: int = 0
    cached: int = 0
    finish: FinishReason = FinishReason.NONE
    output: int = 0

    @property
    def to_first(self) -> float:
        """Seconds to the first token."""
        return self.first - self.arrival.seconds

    @property
    def gap(self) -> float:
        """Mean seconds between tokens."""
        return (self.last - self.first) / (self.tokens - 1) if self.tokens > 1 else 0.0


@dataclass(slots=True)
class Sample:
    """The engine at the end of a step.

    Attributes:
        now: Seconds from the start of the trace.
        running: Samples in flight.
        waiting: Requests queued.
        used: Share of the KV cache that is referenced.
    """

    now: float
    running: int
    waiting: int
    used: float


@dataclass(slots=True)
class _Flying:
    step: Step
    output: StepOutput
    ends: float


@dataclass(eq=False)
class Replica:
    """An engine and its queue. Time passes as ``advance`` says.

    Args:
        number: Names it.
        cost: How long its steps take.
        settings: Its limits.
        policy: Makes its admission policy, its own.
        check: Verify the scheduler's books after every step.
        watch: Is told how full it is at the start of every step.
    """

    number: int
    cost: CostModel
    settings: EngineSettings
    policy: Callable[[], AdmissionPolicy]
    check: bool = False
    watch: Callable[[Sample], None] | None = None
    served: dict[int, Served] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._count = self._preemptions = self._reports = self.steps = 0
        self.now = 0.0
        self._boot()

    def _boot(self) -> None:
        settings = self.settings
        self.scheduler = Scheduler(
            SchedulerConfig(
                max_rows=settings.max_running,
                max_step_tokens=max(settings.max_step_tokens, settings.max_running),
                max_logit_rows=settings.max_running + 1,
                eos_token_ids=frozenset((END,)),
            ),
            KvCache(settings.kv_tokens // settings.block_size, settings.block_size, prefix_cache=settings.prefix_cache),
            self.policy(),
        )
        self._flying: _Flying | None = None

    @property
    def preemptions(self) -> int:
        """Samples that had to give way."""
        return self._preemptions + self.scheduler.counters.preemptions

    @property
    def next_event(self) -> float:
        """When the step in flight ends; infinite without one."""
        return self._flying.ends if self._flying is not None else math.inf

    @property
    def load(self) -> float:
        """As an engine says it to routers and the autoscaler."""
        scheduler = self.scheduler
        return kv_load(
            EngineStats(
                running=len(scheduler.running),
                waiting=len(scheduler.waiting),
                peak_tokens=scheduler.peak_tokens(),
                capacity_tokens=self.settings.kv_tokens,
            )
        )

    def report(self, prefixes: bool) -> Report:
        """What routers get to know, with digests of the cached prefixes if they look at them."""
        self._reports += 1
        digests = cached_digests(self.scheduler.kv.tree, MAX_DIGESTS) if prefixes else ()
        return Report(self._reports, self.load, self.settings.kv_tokens, frozenset(digests))

    def add(self, served: Served, now: float) -> bool:
        """A request comes; returns whether it was taken. It goes on from the tokens that it has already."""
        scheduler, arrival = self.scheduler, served.arrival
        if len(scheduler.waiting) >= self.settings.max_queued:
            return False
        if not scheduler.can_ever_run(arrival.prompt_tokens + arrival.limit, 1):
            return False
        self._count += 1
        served.replica = self.number
        served.output = Segment(arrival.name or f"output {self.number} {self._count}", 1).ids()[0]
        prompt = [*arrival.prompt_ids(), *range(served.output, served.output + served.tokens)]
        params = SamplingParams(max_new_tokens=arrival.limit - served.tokens)
        group = Group((b"", self._count), prompt, params, tenant=arrival.tenant)
        self.served[self._count] = served
        scheduler.add(group)
        if self._flying is None:
            self.now = now
            self._begin()
        return True

    def abort(self, served: Served, now: float) -> bool:
        """Its client hangs up; returns whether the request was here."""
        number = next((number for number, other in self.served.items() if other is served), None)
        if number is None:
            return False
        self.scheduler.abort((b"", number))
        served.finish = FinishReason.ABORT
        del self.served[number]
        if self._flying is None:  # whoever could not run beside it may run now
            self.now = now
            self._begin()
        return True

    def advance(self) -> list[Served]:
        """End the step in flight and begin the next one; returns what ended with it."""
        flying = self._flying
        if flying is None:
            raise RuntimeError("no step is in flight")
        self.now, self._flying = flying.ends, None
        ended = []
        for sequence, _, _, finish, _, _, _ in self.scheduler.commit(flying.step, flying.output):
            served = self.served[sequence.group.key[1]]
            if served.tokens:
                served.longest_gap = max(served.longest_gap, self.now - served.last)
            else:
                served.first, served.cached = self.now + self.cost.door, sequence.cached
            served.tokens += 1
            served.last = self.now
            if finish is not FinishReason.NONE:
                served.finish = finish
                ended.append(self.served.pop(sequence.group.key[1]))
        self._begin()
        return ended

    def lose(self) -> list[Served]:
        """The engine dies; returns what was in it."""
        lost = [*self.served.values()]
        self.served.clear()
        self._preemptions = self.preemptions
        self._boot()
        return lost

    def _audit(self) -> None:
        if self.check and (violations := check_invariants(self.scheduler)):
            raise AssertionError(violations)

    def _begin(self) -> None:
        self._audit()
        step = self.scheduler.plan()
        self._audit()
        if self.watch is not None:
            kv = self.scheduler.kv
            used = kv.referenced / kv.pool.num_blocks
            self.watch(Sample(self.now, len(self.scheduler.running), len(self.scheduler.waiting), used))
        if step is None:
            return
        self.steps += 1
        output, outputs, keys, products = StepOutput(), 0, 0, 0
        for sequence, _, work in step.planned:
            if work.count > 1:
                products += work.count * (sequence.computed - work.count // 2)
            else:
                keys += sequence.computed
            if work.samples:
                outputs += 1
                output.tokens[work.row] = [_next_token(self.served[sequence.group.key[1]])]
                output.logprobs[work.row] = [0.0]
        load = Load(tokens=step.plan.tokens, keys=keys, products=products, outputs=outputs)
        self._flying = _Flying(step, output, self.now + self.cost.seconds(load))


def _next_token(served: Served) -> int:
    arrival = served.arrival
    if served.tokens + 1 == arrival.output < arrival.limit:
        return END
    return served.output + served.tokens
