"""What an engine can take, as it tells every HTTP worker."""

from __future__ import annotations

import msgspec


class EngineLimits(msgspec.Struct, frozen=True, kw_only=True):
    """Limits and model facts of a loaded engine.

    Attributes:
        max_request_tokens: Prompt plus new tokens of one request (LightLLM's ``max_req_total_len``).
        max_total_tokens: KV-cache capacity in tokens (LightLLM's ``max_total_token_num``).
        max_running: Samples that can be in flight at once.
        max_queued: Requests that may wait.
        max_step_tokens: Tokens computed in one step.
        block_size: Tokens in a KV block.
        vocab_size: Token ids are below this.
        eos_token_ids: Ids that end a sample.
        kv_bytes_per_token: Bytes of KV cache a token takes over all layers.
        host_logits: Tokens are drawn in host memory, so that ``top_logprobs`` and ``logit_bias`` can be had.
        constraints: Output can be constrained to a language.
        scores: The model gives a score of each prompt, and no tokens; sampling parameters are not read.
        max_queue_seconds: How long a request may wait for its turn; ``None`` for any time.
        max_queued_tokens: Prompt tokens of the requests that may wait; ``None`` for any number.
    """

    max_request_tokens: int
    max_total_tokens: int
    max_running: int
    max_queued: int
    max_step_tokens: int
    block_size: int
    vocab_size: int
    eos_token_ids: tuple[int, ...]
    kv_bytes_per_token: int = 0
    scores: bool = False
    host_logits: bool = True
    constraints: bool = False
    max_queued_tokens: int | None = None
    max_queue_seconds: float | None = None
