"""An executor whose logits come to host memory: rows and sampling here, the model behind a small interface."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from runtime.executors.base import Capabilities, StepHandle
from runtime.executors.rows import RowTable, StepInputs
from runtime.sampling import BatchSampler
from runtime.sampling.row_state import RowState
from runtime.scheduler.plan import Logits, RowWork, StepOutput, StepPlan

NOT_FINITE = "the model produced logits that are not finite"


class HostModel(Protocol):
    """A model with its own KV pool."""

    vocab_size: int
    num_blocks: int
    block_size: int

    def forward(self, inputs: StepInputs) -> npt.NDArray[np.float32]:
        """Run one step; returns logits float32 ``[R, V]`` that the caller may modify until the next call."""
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
    ) -> None:
        self.model = model
        self.capabilities = Capabilities(
            num_blocks=model.num_blocks,
            block_size=model.block_size,
            max_rows=max_rows,
            max_step_tokens=max_step_tokens,
            max_logit_rows=max_logit_rows,
        )
        self._rows = RowTable(max_rows, max_sequence_tokens, model.block_size)
        self._states: dict[int, RowState] = {}
        self._sampler = BatchSampler(eos_token_ids)

    def submit(self, plan: StepPlan) -> StepHandle:
        """See ``Executor``."""
        for row in plan.ends:
            self._states.pop(row, None)
        for start in plan.starts:
            self._rows.start(start)
            prompt, output = start.tokens[: start.prompt_length], start.tokens[start.prompt_length :]
            self._states[start.row] = RowState(start.params, start.sample, prompt, output)
        if plan.block_copies:
            self.model.copy_blocks(plan.block_copies)
        for item in plan.work:
            self._rows.extend(item.row, item.new_blocks)
        logits = self.model.forward(self._rows.pack(plan))
        self._rows.advance(plan.work)
        return _Done(self._finish(plan.work, logits))

    def collect(self, handle: StepHandle) -> StepOutput:
        """See ``Executor``."""
        return cast("_Done", handle).output

    def close(self) -> None:
        """See ``Executor``."""
        self.model.close()

    def _finish(self, work: list[RowWork], logits: npt.NDArray[np.float32]) -> StepOutput:
        output = StepOutput()
        sampling: list[RowWork] = []
        places: list[int] = []
        place = 0
        for item in work:
            if item.logits is Logits.ALL:
                self._prompt_logprobs(item, logits[place : place + item.count], output)
            place += {Logits.NONE: 0, Logits.LAST: 1, Logits.ALL: item.count}[item.logits]
            if item.samples:
                sampling.append(item)
                places.append(place - 1)
        if sampling:
            wanted = logits if len(places) == len(logits) else logits[places]
            self._sample(sampling, wanted, output)
        return output

    def _sample(self, work: list[RowWork], logits: npt.NDArray[np.float32], output: StepOutput) -> None:
        states = [self._states[item.row] for item in work]
        for item, state, drawn in zip(work, states, self._sampler.sample(logits, states), strict=True):
            if drawn.token < 0:
                output.errors[item.row] = NOT_FINITE
                continue
            self._rows.append(item.row, drawn.token)
            state.accept(drawn.token)
            output.tokens[item.row] = drawn.token
            output.logprobs[item.row] = drawn.logprob

    def _prompt_logprobs(self, item: RowWork, logits: npt.NDArray[np.float32], output: StepOutput) -> None:
        """Log-softmax of each next prompt token; the chunk's last token may have none."""
        row = item.row
        end = int(self._rows.computed[row])
        start = end - item.count
        following = self._rows.tokens[row, start + 1 : min(end + 1, int(self._rows.lengths[row]))]
        z = logits[: len(following)].astype(np.float64)
        if not np.isfinite(z).all():
            output.errors[row] = NOT_FINITE
            return
        z -= z.max(axis=1, keepdims=True)
        chosen = np.take_along_axis(z, following[:, None], axis=1)[:, 0]
        output.prompt_logprobs[row] = (chosen - np.log(np.exp(z).sum(axis=1))).tolist()
