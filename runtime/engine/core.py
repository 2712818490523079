"""Scheduler and executor as one: requests in, a step at a time, token outputs out. Knows no sockets."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Sequence

from runtime.constraints.compiler import GrammarCompiler
from runtime.engine.admission import Admission, Shed, group_of
from runtime.engine.deadlines import Deadlines
from runtime.engine.grammars import GrammarQueue
from runtime.engine.step_runner import StepRunner
from runtime.executors.base import Executor
from runtime.limits import EngineLimits
from runtime.messages import TIME_IS_UP, AddRequest, Rejected, RejectReason, TokenOutput
from runtime.quarantine import Quarantine, fingerprint
from runtime.request import FinishReason
from runtime.scheduler import (
    AdmissionPolicy,
    Emission,
    Group,
    KvCache,
    Scheduler,
    SchedulerConfig,
    Share,
    Speculation,
    WaitingQueue,
    check_invariants,
)
from runtime.scheduler.prefix_digest import cached_digests
from runtime.scheduler.sequence import RequestKey
from runtime.stats import EngineStats
from runtime.tenants import TenantLimits

log = logging.getLogger(__name__)

QUARANTINED = "a request like this made the engine fail: it is not taken again for some minutes"

Client = bytes
Outputs = dict[Client, list[TokenOutput]]


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
        policy: AdmissionPolicy,
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
        self.quarantine = Quarantine()
        self.draining = False
        self.admission = Admission(limits, self.scheduler, self.grammars, tenants)
        self.deadlines = Deadlines(lambda: self._groups().values())
        self.runner = StepRunner(self.scheduler, executor)
        self.runner.isolation.on_culprit = lambda group: self.quarantine.add(group.fingerprint)
        self._quarantined = 0

    @property
    def has_work(self) -> bool:
        """Whether a step would have something to do."""
        return self.runner.has_work or self.scheduler.has_work

    @property
    def clients(self) -> set[Client]:
        """Whose requests are here."""
        return {client for client, _ in self._groups()}

    def add(self, client: Client, request: AddRequest) -> Rejected | None:
        """Queue a request, or say why not."""
        known = self._knows((client, request.request_id))
        rejected = self.admission.refusal(request, known=known, draining=self.draining)
        if rejected is not None:
            return rejected
        group = group_of(client, request, self.limits, time.perf_counter())
        group.fingerprint = fingerprint(group.prompt, group.params, group.samples)
        if group.fingerprint in self.quarantine:
            self._quarantined += 1
            return Rejected(request.request_id, RejectReason.QUARANTINED, QUARANTINED)
        self.deadlines.add(group)
        if not self.grammars.add(group):
            self.scheduler.add(group)
        return None

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
            What came of the steps that were collected, by client; nothing where none was.

        Raises:
            EngineFailedError: The executor failed several steps in a row.
        """
        outputs: Outputs = defaultdict(list)
        for emissions in self.runner.step():
            self._send(emissions, outputs)
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

    def prefix_digests(self, limit: int) -> bytes:
        """Digests of the ``limit`` cached blocks that were used last, one after the other."""
        return b"".join(cached_digests(self.scheduler.kv.tree, limit))

    def stats(self) -> EngineStats:
        """A snapshot of the moment."""
        scheduler, counters = self.scheduler, self.scheduler.counters
        kv, shed = scheduler.kv, self.admission.shed
        return EngineStats(
            running=len(scheduler.running),
            waiting=len(scheduler.waiting) + len(scheduler.withheld) + len(self.grammars),
            paused=len(scheduler.waiting.resuming) + len(scheduler.withheld),
            used_tokens=kv.referenced * kv.block_size,
            cached_tokens=kv.tree.unreferenced * kv.block_size,
            capacity_tokens=kv.pool.num_blocks * kv.block_size,
            peak_tokens=scheduler.peak_tokens(),
            steps_total=self.runner.steps,
            prompt_tokens_total=counters.prompt_tokens,
            computed_tokens_total=counters.computed_tokens,
            generated_tokens_total=counters.generated_tokens,
            preemptions_total=counters.preemptions,
            prefix_queries_total=counters.prefix_queries,
            prefix_hits_total=counters.prefix_hits,
            step_seconds_total=self.runner.seconds,
            drafted_tokens_total=counters.drafted_tokens,
            accepted_tokens_total=counters.accepted_tokens,
            seconds_since_step=self.runner.seconds_since_step,
            queued_tokens=self.admission.queued_tokens,
            expired_total=self.deadlines.expired,
            shed_queue_total=shed[Shed.QUEUE],
            shed_tokens_total=shed[Shed.TOKENS],
            shed_tenant_total=shed[Shed.TENANT],
            shed_draining_total=shed[Shed.DRAINING],
            shed_wait_total=shed[Shed.WAIT],
            failed_steps_total=self.runner.isolation.failures,
            isolated_requests_total=self.runner.isolation.culprits,
            quarantined_requests_total=self._quarantined,
        )

    def _groups(self) -> dict[RequestKey, Group]:
        """Every request, whatever it waits for."""
        return self.scheduler.groups | {group.key: group for group in self.grammars.groups}

    def _knows(self, key: RequestKey) -> bool:
        return key in self.scheduler.groups or key in self.grammars

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
