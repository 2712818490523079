"""Which requests are queued, and what those are told that are not."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterable
from enum import StrEnum

from runtime.engine.checks import effective_params, request_problem
from runtime.engine.drain_rate import DrainRate
from runtime.engine.grammars import GrammarQueue
from runtime.limits import EngineLimits
from runtime.messages import AddRequest, Rejected, RejectReason
from runtime.scheduler import Group, Scheduler
from runtime.tenants import TenantLimits

SHUTTING_DOWN = "the server is shutting down"
_RETRY_AFTER_SECONDS = 1


class Shed(StrEnum):
    """Why a request that could run was turned away."""

    QUEUE = "queue_full"
    TOKENS = "queued_tokens"
    TENANT = "tenant"
    DRAINING = "draining"
    WAIT = "queue_seconds"


class Admission:
    """The limits on what waits, in all and of each tenant.

    A limit on tokens never keeps out a request that would be the only one: its own size is limited elsewhere.

    Args:
        limits: What the engine takes.
        scheduler: Has the queue.
        grammars: Requests there wait too.
        tenants: Whose limits differ from everybody's.

    Attributes:
        shed: How many were turned away, and why.
        displaced: Requests that had been queued and had to go, and what their clients are to be told.
    """

    def __init__(
        self,
        limits: EngineLimits,
        scheduler: Scheduler,
        grammars: GrammarQueue,
        tenants: Iterable[TenantLimits] = (),
    ) -> None:
        self.shed: Counter[Shed] = Counter()
        self.displaced: list[tuple[bytes, Rejected]] = []
        self._limits = limits
        self._scheduler = scheduler
        self._grammars = grammars
        self._tenants = {tenant.name: tenant for tenant in tenants}
        self._rate = DrainRate()

    @property
    def queued_tokens(self) -> int:
        """Prompt tokens of the requests that have not run yet."""
        return self._scheduler.waiting.tokens + sum(group.prompt_length for group in self._grammars.groups)

    def observe(self) -> None:
        """Look at what has left the queue; to be called after each step."""
        counters = self._scheduler.counters
        waiting = len(self._scheduler.waiting) > 0
        self._rate.observe(time.perf_counter(), counters.admissions, counters.prompt_tokens, waiting=waiting)

    def refusal(self, request: AddRequest, *, known: bool, draining: bool) -> Rejected | None:
        """Why a request is not to be queued, or ``None``.

        Args:
            request: Has just come.
            known: Its id is in use.
            draining: Nothing is taken any more.
        """
        if draining:
            return self._shed(request, Shed.DRAINING, SHUTTING_DOWN)
        problem = "the request id is in use" if known else self._problem(request)
        if problem:
            return Rejected(request.request_id, RejectReason.INVALID, problem)
        if request.admitted:
            return None
        return self._tenant_is_full(request) or self._server_is_full(request) or self._waits_too_long(request)

    def _problem(self, request: AddRequest) -> str:
        """Why the request could not run on an idle engine either, or an empty string."""
        limits = self._limits
        if problem := request_problem(request, limits):
            return problem
        tokens = len(request.prompt) + effective_params(request, limits).max_new_tokens
        if not self._scheduler.can_ever_run(tokens, request.samples):
            return (
                f"{request.samples} samples of {tokens} tokens do not fit this server's {limits.max_total_tokens} "
                f"tokens of KV cache and {limits.max_running} samples in flight"
            )
        tenant = self._tenants.get(request.tenant)
        if tenant and tenant.max_running is not None and request.samples > tenant.max_running:
            return f"{request.samples} samples are more than the {tenant.max_running} that this key may have in flight"
        return ""

    def _server_is_full(self, request: AddRequest) -> Rejected | None:
        limits, prompt = self._limits, len(request.prompt)
        over = len(self._scheduler.waiting) + len(self._grammars) + 1 - limits.max_queued
        full = f"the queue of {limits.max_queued} requests is full"
        if over > 0 and not self._make_room(request.tenant, Shed.QUEUE, full, over, 1):
            return self._shed(request, Shed.QUEUE, full)
        over = _excess(self.queued_tokens, prompt, limits.max_queued_tokens)
        full = f"the queue has room for {limits.max_queued_tokens} prompt tokens"
        if over and not self._make_room(request.tenant, Shed.TOKENS, full, over, prompt):
            return self._shed(request, Shed.TOKENS, full, tokens=over)
        return None

    def _make_room(self, tenant: str, why: Shed, message: str, need: int, more: int) -> bool:
        """Have those go who have more than their part of the queue; returns whether there are any."""
        gone = self._scheduler.waiting.surplus(tenant, need, more, tokens=why is Shed.TOKENS)
        for group in gone:
            self._scheduler.abort(group.key)
            client, request_id = group.key
            self.displaced.append((client, self._rejected(request_id, group.tenant, why, message)))
        return bool(gone)

    def _waits_too_long(self, request: AddRequest) -> Rejected | None:
        """Whether it would wait longer than anybody shall, at the pace at which its tenant's requests are run."""
        longest = self._limits.max_queue_seconds
        if longest is None:
            return None
        queued, tokens = self._queued(request.tenant)
        wait = self._rate.wait(queued, tokens, self._scheduler.waiting.part(request.tenant))
        if wait is None or wait <= longest:
            return None
        return self._shed(request, Shed.WAIT, f"the queue takes longer than {longest:g} s")

    def _queued(self, name: str) -> tuple[int, int]:
        """Requests of a tenant that wait, and the tokens of their prompts."""
        books = self._scheduler.waiting.tenants.get(name)
        prompts = [group.prompt_length for group in self._grammars.groups if group.tenant == name]
        queued, tokens = len(prompts), sum(prompts)
        return (queued, tokens) if books is None else (queued + len(books.queue), tokens + books.queued_tokens)

    def _tenant_is_full(self, request: AddRequest) -> Rejected | None:
        limits = self._tenants.get(request.tenant)
        if limits is None:
            return None
        queued, tokens = self._queued(request.tenant)
        if limits.max_queued is not None and queued >= limits.max_queued:
            return self._shed(request, Shed.TENANT, f"this key's queue of {limits.max_queued} requests is full")
        over = _excess(tokens, len(request.prompt), limits.max_queued_tokens)
        if over:
            full = f"this key's queue has room for {limits.max_queued_tokens} prompt tokens"
            return self._shed(request, Shed.TENANT, full, tokens=over)
        return None

    def _shed(self, request: AddRequest, why: Shed, message: str, *, tokens: int = 0) -> Rejected:
        return self._rejected(request.request_id, request.tenant, why, message, tokens=tokens)

    def _rejected(self, request_id: int, tenant: str, why: Shed, message: str, *, tokens: int = 0) -> Rejected:
        self.shed[why] += 1
        if why is Shed.DRAINING:
            return Rejected(request_id, RejectReason.DRAINING, message, _RETRY_AFTER_SECONDS)
        part = self._scheduler.waiting.part(tenant)
        seconds = self._rate.retry_after(time.perf_counter(), tenant, part, tokens)
        return Rejected(request_id, RejectReason.QUEUE_FULL, message, seconds)


def group_of(client: bytes, request: AddRequest, limits: EngineLimits, now: float) -> Group:
    """What the scheduler gets for a request that has come now."""
    return Group(
        (client, request.request_id),
        request.prompt,
        effective_params(request, limits),
        salt=request.salt,
        samples=request.samples,
        arrived=now,
        tenant=request.tenant,
        priority=request.priority,
        deadline=now + request.seconds_left if request.seconds_left else math.inf,
    )


def _excess(queued: int, prompt: int, limit: int | None) -> int:
    """Tokens that have to leave the queue before ``prompt`` more fit; 0 if they do, or would be the only ones."""
    if limit is None or queued == 0:
        return 0
    return max(0, min(queued + prompt - limit, queued))
