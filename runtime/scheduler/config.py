"""The scheduler's limits."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class SchedulerConfig:
    """Limits of a step, from the executor's capabilities and the operator's flags.

    Attributes:
        max_rows: Sequences in flight.
        max_step_tokens: Tokens computed in one step; at least ``max_rows``, so that every decode fits.
        max_logit_rows: Rows of logits in one step; more than ``max_rows``, since each sequence may sample and what is
            beyond that serves prompt log-probabilities and drafts.
        eos_token_ids: Ids that end a sample.
    """

    max_rows: int
    max_step_tokens: int
    max_logit_rows: int
    eos_token_ids: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.max_rows < 1 or self.max_step_tokens < self.max_rows or self.max_logit_rows <= self.max_rows:
            message = f"max_step_tokens or max_logit_rows is too small for max_rows: {self}"
            raise ValueError(message)
