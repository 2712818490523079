"""An executor whose results come to host memory: rows here, the model and what its results mean behind interfaces."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from runtime.executors.base import Capabilities, StepHandle
from runtime.executors.finishers import Finisher, ScoreReader, TokenSampler
from runtime.executors.rows import RowTable, StepInputs
from runtime.sampling import NumpySampler, RowSampler
from runtime.scheduler.plan import StepOutput, StepPlan


class HostModel(Protocol):
    """A model with its own KV pool.

    Attributes:
        num_blocks: KV blocks in the pool.
        block_size: Tokens in a block.
        scores: It is a reward model.
    """

    num_blocks: int
    block_size: int
    scores: bool

    def forward(self, inputs: StepInputs) -> npt.NDArray[np.float32]:
        """Run one step.

        Returns:
            Logits float32 ``[R, V]``, or a reward model's scores float32 ``[R]``; the caller may modify them until the
            next call.
        """
        ...

    def copy_blocks(self, copies: list[tuple[int, int]]) -> None:
        """Copy KV blocks over all layers, in order."""
        ...

    def close(self) -> None:
        """Give back memory and threads."""
        ...


@dataclass(slots=True)
class _Done:
    output: StepOutput


class HostExecutor:
    """Runs each step to its end in ``submit``.

    Args:
        model: The model.
        eos_token_ids: Ids that end a sample.
        max_rows: Rows to keep.
        max_step_tokens: Tokens accepted in one step.
        max_logit_rows: Rows of logits that the model can return from one step.
        max_sequence_tokens: Tokens of one row.
        prefix_sharing: Rows may share blocks of the model's pool.
        sampler: Draws the tokens; ``None`` draws them with NumPy.
    """

    def __init__(
        self,
        model: HostModel,
        *,
        eos_token_ids: frozenset[int],
        max_rows: int,
        max_step_tokens: int,
        max_logit_rows: int,
        max_sequence_tokens: int,
        prefix_sharing: bool = True,
        sampler: RowSampler | None = None,
    ) -> None:
        self.model = model
        self.capabilities = Capabilities(
            num_blocks=model.num_blocks,
            block_size=model.block_size,
            max_rows=max_rows,
            max_step_tokens=max_step_tokens,
            max_logit_rows=max_logit_rows,
            prefix_sharing=prefix_sharing,
            # NOTE: a model with linear slots runs a row of several tokens apart from the others.
            drafts=prefix_sharing and not model.scores,
        )
        self._rows = RowTable(max_rows, max_sequence_tokens, model.block_size)
        self._finisher: Finisher = (
            ScoreReader()
            if model.scores
            else TokenSampler(self._rows, sampler or NumpySampler(eos_token_ids), eos_token_ids)
        )

    def submit(self, plan: StepPlan) -> StepHandle:
        """See ``Executor``."""
        for row in plan.ends:
            self._finisher.end(row)
        for start in plan.starts:
            self._rows.start(start)
            self._finisher.start(start)
        if plan.block_copies:
            self.model.copy_blocks(plan.block_copies)
        for item in plan.work:
            if item.new_blocks:
                self._rows.extend(item.row, item.new_blocks)
            if item.draft:
                self._rows.draft(item.row, item.draft)
        self._finisher.begin(plan.work)
        results = self.model.forward(self._rows.pack(plan))
        self._rows.advance(plan.work)
        return _Done(self._finisher.finish(plan.work, results))

    def collect(self, handle: StepHandle) -> StepOutput:
        """See ``Executor``."""
        return cast("_Done", handle).output

    def close(self) -> None:
        """See ``Executor``."""
        self.model.close()
