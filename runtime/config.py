"""How an engine process is to run; the supervisor writes it as JSON to the process's standard input."""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from runtime.logs import LogFormat
from runtime.tenants import TenantLimits

Count = Annotated[int, msgspec.Meta(ge=1)]

TOKENS_A_REQUEST = 1024
"""What a place in the queue stands for: more than ordinary prompts have, and a bound on the memory of a full queue."""


class EngineConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Configuration of one engine process. ``None`` means: choose from the model and the machine.

    Attributes:
        bundle: Path of the engine bundle.
        socket: Filesystem path of the ZMQ ``ipc://`` endpoint to bind, in a private directory.
        executor: ``auto`` takes the bundle's target; ``scripted`` runs no model (tests).
        max_total_tokens: KV-cache capacity in tokens.
        max_request_tokens: Prompt plus new tokens of one request.
        max_running: Samples in flight at once.
        max_queued: Requests that may wait before new ones are refused.
        max_queue_seconds: A request that would wait longer for its turn is refused; ``None`` for any time.
        max_queued_tokens: Prompt tokens that they may have; ``None`` takes `TOKENS_A_REQUEST` for each of them.
        max_step_tokens: Tokens computed in one step; prompts are cut into chunks to fit.
        threads: Compute threads; ``None`` uses every core the process may run on.
        spinning: Let idle compute threads spin between two operators.
        admission: Admission policy: ``future_peak`` (LightLLM's rule), ``past_future`` or ``aggressive``.
        token_ratio: LightLLM's ``router_token_ratio``: KV load from which the server counts as busy and reserves
            ``max_new_tokens`` for everybody; 0 is always busy, so nothing is ever preempted.
        router_max_new_tokens: Output length assumed of a request while the server is not busy.
        prefix_cache: Keep the KV blocks of past prompts for reuse.
        drain_seconds: How long running requests may go on once draining has begun.
        eos_token_ids: Replaces the bundle's EOS ids.
        memory_fraction: Share of the available memory that the KV cache takes; ``None`` takes what the longest
            request needs, and at least 256 MB. Linear slots take a quarter of it then, or 0.9 of what a GPU has left
            beside the engine, unless they are fewer.
        step_timeout: Seconds until an engine that shows no sign of life counts as hung; 0 for never. Steps that are
            known to be slow get more.
        verify_bundle: Check every file of the bundle against its digest before loading.
        tenants: Whose shares differ from everybody's.
        speculation: ``prompt_lookup`` guesses tokens from a request's own text where that pays; ``off`` does not.
        log_format: How the engine's log looks.
        restarts: Engines that were started in place of dead ones, this one among them.
    """

    bundle: str
    socket: str
    executor: Literal["auto", "scripted"] = "auto"
    max_total_tokens: Count | None = None
    max_request_tokens: Count | None = None
    max_running: Count | None = None
    max_queued: Annotated[int, msgspec.Meta(ge=0)] = 1000
    max_queued_tokens: Count | None = None
    max_queue_seconds: Annotated[float, msgspec.Meta(gt=0)] | None = None
    max_step_tokens: Count | None = None
    threads: Count | None = None
    spinning: bool = True
    admission: Literal["future_peak", "past_future", "aggressive"] = "past_future"
    token_ratio: float = 0.0
    router_max_new_tokens: Count = 1024
    prefix_cache: bool = True
    drain_seconds: float = 50.0
    eos_token_ids: tuple[int, ...] | None = None
    memory_fraction: float | None = None
    step_timeout: float = 60.0
    verify_bundle: bool = False
    tenants: tuple[TenantLimits, ...] = ()
    speculation: Literal["prompt_lookup", "off"] = "prompt_lookup"
    log_format: LogFormat = "text"
    restarts: Annotated[int, msgspec.Meta(ge=0)] = 0

    @property
    def queued_tokens(self) -> int:
        """Prompt tokens that may wait."""
        return self.max_queued_tokens or TOKENS_A_REQUEST * self.max_queued
