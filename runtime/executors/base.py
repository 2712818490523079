"""What runs a step: the interface that the engine loop drives, whatever the device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from runtime.scheduler.plan import StepOutput, StepPlan


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What plans an executor accepts.

    Attributes:
        num_blocks: KV blocks in its pool.
        block_size: Tokens in a block.
        max_rows: Rows it keeps.
        max_step_tokens: Tokens in one step.
        max_logit_rows: Rows of logits in one step.
        prefix_sharing: Rows may share blocks.
        drafts: Work may end with a draft; needs a ``depth`` of 1.
        depth: Steps to keep submitted and not collected: 1 where ``submit`` does all the work, 2 where a device works
            on one while the next is being planned.
    """

    num_blocks: int
    block_size: int
    max_rows: int
    max_step_tokens: int
    max_logit_rows: int
    prefix_sharing: bool = True
    drafts: bool = False
    depth: int = 1


class StepHandle(Protocol):
    """A submitted step; only its executor looks inside."""


class Executor(Protocol):
    """Runs plans in the order they are submitted.

    A plan may be submitted before the one ahead of it has been collected: rows decode from the tokens that the
    executor itself sampled, so a device never waits for the scheduler.
    """

    capabilities: Capabilities

    def submit(self, plan: StepPlan) -> StepHandle:
        """Start a step. Raises whatever the device raises; all rows are then ended and started anew before the next."""
        ...

    def collect(self, handle: StepHandle) -> StepOutput:
        """Wait for a submitted step and return what it produced."""
        ...

    def close(self) -> None:
        """Give back memory and threads."""
        ...
