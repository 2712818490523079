"""What becomes of a step's results in host memory: tokens are sampled from logits, scores are read as they are."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Protocol

import numpy as np
import numpy.typing as npt

from runtime.executors.rows import RowTable
from runtime.sampling import BatchSampler
from runtime.sampling.row_state import RowState
from runtime.scheduler.plan import Logits, RowStart, RowWork, StepOutput

NOT_FINITE = "the model produced logits that are not finite"
SCORE_NOT_FINITE = "the model produced a score that is not finite"

Floats = npt.NDArray[np.float32]


class Finisher(Protocol):
    """Turns what the model returned into a step's output; remembers of the rows what that takes."""

    def start(self, start: RowStart) -> None:
        """A sequence enters a row; whatever the row held before is gone."""
        ...

    def end(self, row: int) -> None:
        """Forget a row; one that is not in use is nothing to forget."""
        ...

    def finish(self, work: list[RowWork], results: Floats) -> StepOutput:
        """The output of a step that has run ``work``.

        Args:
            work: The plan's.
            results: float32 ``[R, ...]``, as ``HostModel.forward`` returned them; modified.
        """
        ...


class TokenSampler:
    """Samples each row's next token, and reads the log-probabilities of prompts.

    Args:
        rows: The executor's; what is sampled is appended.
        eos_token_ids: Ids that end a sample.
    """

    def __init__(self, rows: RowTable, eos_token_ids: frozenset[int]) -> None:
        self._rows = rows
        self._states: dict[int, RowState] = {}
        self._sampler = BatchSampler(eos_token_ids)

    def start(self, start: RowStart) -> None:
        """See ``Finisher``."""
        prompt, output = start.tokens[: start.prompt_length], start.tokens[start.prompt_length :]
        self._states[start.row] = RowState(start.params, start.sample, prompt, output)

    def end(self, row: int) -> None:
        """See ``Finisher``."""
        self._states.pop(row, None)

    def finish(self, work: list[RowWork], results: Floats) -> StepOutput:
        """See ``Finisher``; ``results`` are logits ``[R, V]``."""
        output = StepOutput()
        sampling: list[RowWork] = []
        places: list[int] = []
        for item, rows in with_results(work):
            if item.logits is Logits.ALL:
                self._prompt_logprobs(item, results[rows], output)
            if item.samples:
                sampling.append(item)
                places.append(rows.stop - 1)
        if sampling:
            wanted = results if len(places) == len(results) else results[places]
            self._sample(sampling, wanted, output)
        return output

    def _sample(self, work: list[RowWork], logits: Floats, output: StepOutput) -> None:
        states = [self._states[item.row] for item in work]
        for item, state, drawn in zip(work, states, self._sampler.sample(logits, states), strict=True):
            if drawn.token < 0:
                output.errors[item.row] = NOT_FINITE
                continue
            self._rows.append(item.row, drawn.token)
            state.accept(drawn.token)
            output.tokens[item.row] = drawn.token
            output.logprobs[item.row] = drawn.logprob

    def _prompt_logprobs(self, item: RowWork, logits: Floats, output: StepOutput) -> None:
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


class ScoreReader:
    """Reads the score of each prompt that is through; a row has nothing else to remember."""

    def start(self, start: RowStart) -> None:
        """See ``Finisher``."""

    def end(self, row: int) -> None:
        """See ``Finisher``."""

    def finish(self, work: list[RowWork], results: Floats) -> StepOutput:
        """See ``Finisher``; ``results`` are scores ``[R]``."""
        output = StepOutput()
        for item, rows in with_results(work):
            if not item.samples:
                continue
            score = float(results[rows.stop - 1])
            if math.isfinite(score):
                output.scores[item.row] = score
            else:
                output.errors[item.row] = SCORE_NOT_FINITE
        return output


def with_results(work: list[RowWork]) -> Iterator[tuple[RowWork, slice]]:
    """Each work item with its own part of the results."""
    place = 0
    for item in work:
        count = {Logits.NONE: 0, Logits.LAST: 1, Logits.ALL: item.count}[item.logits]
        yield item, slice(place, place + count)
        place += count
