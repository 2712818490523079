"""Scheduler and executor as one: requests in, a step at a time, token outputs out. Knows no sockets."""

from __future__ import annotations

import logging
import time
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass

from runtime.constraints.compiler import GrammarCompiler
from runtime.engine.admission import Admission, Shed, group_of
from runtime.engine.deadlines import Deadlines
from runtime.engine.grammars import GrammarQueue
from runtime.executors.base import Executor, StepHandle
from runtime.limits import EngineLimits
from runtime.messages import TIME_IS_UP, AddRequest, Rejected, RejectReason, TokenOutput
from runtime.request import FinishReason
from runtime.scheduler import (
    Aggressive,
    Emission,
    FuturePeak,
    Group,
    KvCache,
    Scheduler,
    SchedulerConfig,
    Share,
    Speculation,
    Step,
    WaitingQueue,
    check_invariants,
)
from runtime.scheduler.sequence import RequestKey
from runtime.stats import EngineStats
from runtime.tenants import TenantLimits

log = logging.getLogger(__name__)

STEP_FAILED = "the engine failed while it computed this request"
_FAILURES_IN_A_ROW = 3

Client = bytes
Outputs = dict[Client, list[TokenOutput]]


class EngineFailedError(Exception):
    """Step after step fails: the process should end and be started anew."""


@dataclass(frozen=True, slots=True)
class _Flying:
    """A step that was submitted and not yet collected."""

    step: Step
    handle: StepHandle
    began: float


class EngineCore:
    """One model replica.

    Args:
        executor: Runs the steps.
        limits: What is accepted; ``limits.max_total_tokens`` is the executor's pool.
        policy: Admission policy.
        prefix_cache: Keep the blocks of past prompts for reuse.
        speculation: What is drafted, by an executor that can run drafts.
        compiler: Compiles constraints; ``None`` where ``limits`` have none.
        tenants: Whose shares differ from everybody's.
    """

    def __init__(
        self,
        executor: Executor,
        limits: EngineLimits,
        policy: FuturePeak | Aggressive,
        *,
        prefix_cache: bool = True,
        speculation: Speculation | None = None,
        compiler: GrammarCompiler | None = None,
        tenants: Sequence[TenantLimits] = (),
    ) -> None:
        self.executor = executor
        self.limits = limits
        capabilities = executor.capabilities
        self.scheduler = Scheduler(
            SchedulerConfig(
                max_rows=limits.max_running,
                max_step_tokens=limits.max_step_tokens,
                max_logit_rows=capabilities.max_logit_rows,
                eos_token_ids=frozenset(limits.eos_token_ids),
            ),
            KvCache(
                capabilities.num_blocks,
                capabilities.block_size,
                sharing=capabilities.prefix_sharing,
                prefix_cache=prefix_cache,
            ),
            policy,
            speculation if capabilities.drafts else None,
            WaitingQueue({t.name: Share(t.weight, t.max_running) for t in tenants}),
        )
        self.grammars = GrammarQueue(compiler)
        self.draining = False
        self.admission = Admission(limits, self.scheduler, self.grammars, tenants)
        self.deadlines = Deadlines(lambda: self._groups().values())
        self._flying: deque[_Flying] = deque()
        self._failures = 0
        self._steps = 0
        self._step_seconds = 0.0
        self._collected = time.perf_counter()

    @property
    def has_work(self) -> bool:
        """Whether a step would have something to do."""
        return bool(self._flying) or self.scheduler.has_work

    @property
    def clients(self) -> set[Client]:
        """Whose requests are here."""
        return {client for client, _ in self._groups()}

    def add(self, client: Client, request: AddRequest) -> Rejected | None:
        """Queue a request, or say why not."""
        known = self._knows((client, request.request_id))
        rejected = self.admission.refusal(request, known=known, draining=self.draining)
        if rejected is None:
            group = group_of(client, request, self.limits, time.perf_counter())
            self.deadlines.add(group)
            if not self.grammars.add(group):
                self.scheduler.add(group)
        return rejected

    def admit_compiled(self) -> list[tuple[Client, Rejected]]:
        """Queue the requests whose grammars have become ready, and refuse those whose constraints cannot be had."""
        ready, refused = self.grammars.take()
        for group in ready:
            self.scheduler.add(group)
        return [(group.key[0], Rejected(group.key[1], RejectReason.CONSTRAINT, problem)) for group, problem in refused]

    def turn_away(self) -> list[tuple[Client, Rejected]]:
        """Drop the requests whose time is up, whatever they wait for; to be called before each step.

        Returns:
            What their clients are to be told, and those of requests that had to make room for others.
        """
        late = self.deadlines.take(time.perf_counter())
        for group in late:
            self.abort(*group.key)
        displaced, self.admission.displaced = self.admission.displaced, []
        return displaced + [(g.key[0], Rejected(g.key[1], RejectReason.EXPIRED, TIME_IS_UP)) for g in late]

    def abort(self, client: Client, request_id: int, sample: int = -1) -> None:
        """Free a request or one of its samples; unknown ones have ended already."""
        self.grammars.abort((client, request_id), sample)
        self.scheduler.abort((client, request_id), sample)

    def abort_client(self, client: Client) -> None:
        """The worker is gone: free everything that was its."""
        for key in [key for key in self._groups() if key[0] == client]:
            self.abort(*key)

    def step(self) -> Outputs:
        """Submit the next step, and collect the oldest one as soon as ``depth`` of them are on their way.

        Returns:
            What came of the one that was collected, by client; nothing where none was.

        Raises:
            EngineFailedError: The executor failed several steps in a row.
        """
        outputs: Outputs = defaultdict(list)
        submitted = self._submit(outputs)
        if self._flying and (not submitted or len(self._flying) >= self.executor.capabilities.depth):
            self._collect(outputs)
        self.admission.observe()
        return outputs

    def fail_all(self, error: str) -> Outputs:
        """End every request with ``error``."""
        outputs: Outputs = defaultdict(list)
        for key, group in self._groups().items():
            client, request_id = key
            for sequence in group.live():
                ended = TokenOutput(request_id, sequence.sample, -1, 0.0, finish=FinishReason.ERROR, error=error)
                outputs[client].append(ended)
            self.abort(*key)
        return outputs

    def check(self) -> list[str]:
        """Violated invariants of the books, logged; for when the loop goes idle."""
        violations = check_invariants(self.scheduler)
        for violation in violations:
            log.error("scheduler invariant violated: %s", violation)
        return violations

    def stats(self) -> EngineStats:
        """A snapshot of the moment."""
        scheduler, counters = self.scheduler, self.scheduler.counters
        kv, shed = scheduler.kv, self.admission.shed
        return EngineStats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting) + len(self.grammars),
            paused=len(scheduler.waiting.resuming),
            used_tokens=kv.referenced * kv.block_size,
            cached_tokens=kv.tree.unreferenced * kv.block_size,
            capacity_tokens=kv.pool.num_blocks * kv.block_size,
            peak_tokens=scheduler.peak_tokens(),
            steps_total=self._steps,
            prompt_tokens_total=counters.prompt_tokens,
            computed_tokens_total=counters.computed_tokens,
            generated_tokens_total=counters.generated_tokens,
            preemptions_total=counters.preemptions,
            prefix_queries_total=counters.prefix_queries,
            prefix_hits_total=counters.prefix_hits,
            step_seconds_total=self._step_seconds,
            drafted_tokens_total=counters.drafted_tokens,
            accepted_tokens_total=counters.accepted_tokens,
            seconds_since_step=time.perf_counter() - self._collected,
            queued_tokens=self.admission.queued_tokens,
            expired_total=self.deadlines.expired,
            shed_queue_total=shed[Shed.QUEUE],
            shed_tokens_total=shed[Shed.TOKENS],
            shed_tenant_total=shed[Shed.TENANT],
            shed_draining_total=shed[Shed.DRAINING],
        )

    def _groups(self) -> dict[RequestKey, Group]:
        """Every request, whatever it waits for."""
        return self.scheduler.groups | {group.key: group for group in self.grammars.groups}

    def _knows(self, key: RequestKey) -> bool:
        return key in self.scheduler.groups or key in self.grammars

    def _submit(self, outputs: Outputs) -> bool:
        """Plan and submit a step; returns whether there was one to be submitted, and it was."""
        step = self.scheduler.plan()
        if step is None:
            return False
        began = time.perf_counter()
        for item in step.planned:
            group = item.sequence.group
            if group.queue_seconds < 0:
                group.queue_seconds = began - group.arrived
        try:
            handle = self.executor.submit(step.plan)
        except Exception as error:
            # NOTE: what the steps ahead of it bring comes first: tokens are never sent after their sequence's end.
            while self._flying:
                self._collect(outputs)
            self._fail(step, error, outputs)
            return False
        self._flying.append(_Flying(step, handle, began))
        return True

    def _collect(self, outputs: Outputs) -> None:
        """Wait for the oldest step on its way, and commit what it brings."""
        flying = self._flying.popleft()
        try:
            output = self.executor.collect(flying.handle)
        except Exception as error:
            self._fail(flying.step, error, outputs)
            return
        now = time.perf_counter()
        self._failures = 0
        self._steps += 1
        seconds = now - max(flying.began, self._collected)
        self._step_seconds += seconds
        self._collected = now
        if self.scheduler.speculation is not None:
            self.scheduler.speculation.observe(flying.step, seconds)
        self._send(self.scheduler.commit(flying.step, output), outputs)

    def _fail(self, step: Step, error: Exception, outputs: Outputs) -> None:
        """End the sequences of a step that failed; a step after it that has some of them too drops what is theirs."""
        log.error("a step of %d sequences failed", len(step.planned), exc_info=error)
        self._failures += 1
        if self._failures >= _FAILURES_IN_A_ROW:
            raise EngineFailedError from error
        self._send(self.scheduler.release(step, STEP_FAILED), outputs)

    @staticmethod
    def _send(emissions: list[Emission], outputs: Outputs) -> None:
        for sequence, token, logprob, finish, error, score, top in emissions:
            client, request_id = sequence.group.key
            first = sequence.generated == 1 or score is not None
            output = TokenOutput(
                request_id,
                sequence.sample,
                token,
                logprob,
                finish,
                cached_tokens=sequence.cached if first else 0,
                prompt_logprobs=sequence.prompt_logprobs if first and sequence.prompt_logprobs else None,
                error=error,
                queue_seconds=sequence.group.queue_seconds if first else 0.0,
                score=score,
                top_logprobs=top,
                prompt_top_logprobs=sequence.prompt_top_logprobs if first and sequence.prompt_top_logprobs else None,
            )
            outputs[client].append(output)
