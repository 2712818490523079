"""A snapshot of the engine's load and counters."""

from __future__ import annotations

import msgspec


class EngineStats(msgspec.Struct, frozen=True, kw_only=True, array_like=True):
    """Gauges are of the moment, ``*_total`` fields count since the engine started.

    Attributes:
        running: Samples in flight.
        waiting: Requests queued.
        paused: Of ``waiting``, those preempted.
        used_tokens: KV tokens referenced by running samples, in whole blocks.
        cached_tokens: KV tokens in the prefix cache that nothing references.
        capacity_tokens: KV tokens in all.
        peak_tokens: Estimated future maximum of KV tokens of the admitted batch.
        steps_total: Steps executed.
        prompt_tokens_total: Prompt tokens of admitted requests.
        computed_tokens_total: Tokens run through the model.
        generated_tokens_total: Tokens sampled and kept.
        preemptions_total: Samples preempted.
        prefix_queries_total: Prompt tokens looked up in the prefix cache.
        prefix_hits_total: Prompt tokens found there.
        step_seconds_total: Time spent in steps.
        drafted_tokens_total: Tokens that speculation guessed and ran.
        accepted_tokens_total: Those of them that were right.
        seconds_since_step: Since the last step ended, or since the start.
        pid: The engine's process.
        restarts_total: Engines that this one's supervisor has started in place of dead ones, this one among them.
        queued_tokens: Prompt tokens of the requests that have not run yet.
        expired_total: Requests dropped because their time was up.
        shed_queue_total: Requests turned away because so many waited.
        shed_tokens_total: Because those that waited had so many prompt tokens.
        shed_tenant_total: Because of their tenant's own limits.
        shed_draining_total: Because the engine was about to stop.
        failed_steps_total: Steps that failed as a whole.
        isolated_requests_total: Requests that were found to make their steps fail.
        quarantined_requests_total: Requests refused because their like made the engine fail.
        shed_wait_total: Requests turned away because they would have waited for too long.
    """

    running: int = 0
    waiting: int = 0
    paused: int = 0
    used_tokens: int = 0
    cached_tokens: int = 0
    capacity_tokens: int = 0
    peak_tokens: int = 0
    steps_total: int = 0
    prompt_tokens_total: int = 0
    computed_tokens_total: int = 0
    generated_tokens_total: int = 0
    preemptions_total: int = 0
    prefix_queries_total: int = 0
    prefix_hits_total: int = 0
    step_seconds_total: float = 0.0
    drafted_tokens_total: int = 0
    accepted_tokens_total: int = 0
    seconds_since_step: float = 0.0
    pid: int = 0
    restarts_total: int = 0
    queued_tokens: int = 0
    expired_total: int = 0
    shed_queue_total: int = 0
    shed_tokens_total: int = 0
    shed_tenant_total: int = 0
    shed_draining_total: int = 0
    failed_steps_total: int = 0
    isolated_requests_total: int = 0
    quarantined_requests_total: int = 0
    shed_wait_total: int = 0
