"""What becomes of a step's results in host memory: tokens are sampled from logits, scores are read as they are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from itertools import compress
from typing import Protocol

import numpy as np
import numpy.typing as npt

from runtime.executors.rows import RowTable
from runtime.sampling import RowSampler
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
        sampler: Draws the tokens.
    """

    def __init__(self, rows: RowTable, sampler: RowSampler) -> None:
        self._rows = rows
        self._sampler = sampler

    def start(self, start: RowStart) -> None:
        """See ``Finisher``."""
        prompt, output = start.tokens[: start.prompt_length], start.tokens[start.prompt_length :]
        self._sampler.start(start.row, start.params, start.sample, prompt, output)

    def end(self, row: int) -> None:
        """See ``Finisher``."""
        self._sampler.end(row)

    def finish(self, work: list[RowWork], results: Floats) -> StepOutput:
        """See ``Finisher``; ``results`` are logits ``[R, V]``."""
        output = StepOutput()
        rows: list[int] = []
        places: list[int] = []
        drafts: dict[int, tuple[int, ...]] = {}
        end = 0
        for item in work:
            end += item.logit_rows
            if item.logits is Logits.ALL:
                self._prompt_logprobs(item, results[end - item.count : end], output)
            if item.samples:
                rows.append(item.row)
                places.append(end - 1 - len(item.draft))
                if item.draft:
                    drafts[item.row] = item.draft
        if rows:
            self._sample(rows, results, places, drafts, output)
        return output

    def _sample(
        self, rows: list[int], logits: Floats, places: list[int], drafts: dict[int, tuple[int, ...]], output: StepOutput
    ) -> None:
        """Sample a token for each row, then one more for those whose draft had foretold it, until none has.

        One position after the other, so that each token is drawn knowing all before it, penalties included.
        """
        for depth in itertools.count():
            tokens, logprobs = self._sampler.sample(rows, logits, places)
            if min(tokens) < 0:
                output.errors |= {row: NOT_FINITE for row, token in zip(rows, tokens, strict=True) if token < 0}
                drawn = [token >= 0 for token in tokens]
                rows, tokens, places = (list(compress(those, drawn)) for those in (rows, tokens, places))
                logprobs = list(compress(logprobs, drawn))
            self._rows.append(rows, tokens)
            for row, token, logprob in zip(rows, tokens, logprobs, strict=True):
                output.tokens.setdefault(row, []).append(token)
                output.logprobs.setdefault(row, []).append(logprob)
            if not drafts:
                return
            right = [
                drafts.get(row, ())[depth : depth + 1] == (token,) for row, token in zip(rows, tokens, strict=True)
            ]
            if not any(right):
                break
            rows = list(compress(rows, right))
            places = [place + 1 for place in compress(places, right)]
            self._rows.accept(rows)
        for row in drafts:
            self._rows.trim(row)

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
        yield item, slice(place, place + item.logit_rows)
        place += item.logit_rows
