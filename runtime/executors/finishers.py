"""What becomes of a step's results in host memory: tokens are sampled from logits, scores are read as they are."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from itertools import compress
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from runtime.constraints.compiled_grammar import Grammar
from runtime.constraints.masks import MaskRows
from runtime.executors.rows import RowTable
from runtime.sampling import LogitBias, Openings, RowSampler, alternatives
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

    def begin(self, work: list[RowWork]) -> None:
        """Begin what can be done for a step while the model runs it."""
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
        eos_token_ids: Ids that end a sample.
    """

    def __init__(self, rows: RowTable, sampler: RowSampler, eos_token_ids: frozenset[int]) -> None:
        self._rows = rows
        self._sampler = sampler
        self._masks = MaskRows(len(rows.lengths), tuple(eos_token_ids))
        self._openings = Openings(sampler)
        self._biases: dict[int, LogitBias] = {}
        self._alternatives: dict[int, int] = {}

    def start(self, start: RowStart) -> None:
        """See ``Finisher``."""
        prompt, output = start.tokens[: start.prompt_length], start.tokens[start.prompt_length :]
        self._sampler.start(start.row, start.params, start.sample, prompt, output)
        self._openings.start(start.row, start.params.opening, output)
        self._biases.pop(start.row, None)
        self._alternatives.pop(start.row, None)
        if start.params.logit_bias:
            self._biases[start.row] = LogitBias(start.params.logit_bias)
        if start.params.top_logprobs:
            self._alternatives[start.row] = start.params.top_logprobs
        self._masks.end(start.row)
        if start.grammar is not None:
            grammar, keep_going = cast("Grammar", start.grammar), start.params.ignore_eos
            self._sampler.constrain(start.row, self._masks.start(start.row, grammar, output, keep_going=keep_going))

    def end(self, row: int) -> None:
        """See ``Finisher``."""
        self._sampler.end(row)
        self._masks.end(row)
        self._openings.end(row)
        self._biases.pop(row, None)
        self._alternatives.pop(row, None)

    def begin(self, work: list[RowWork]) -> None:
        """See ``Finisher``; computes the masks of rows that are constrained."""
        if self._masks:
            self._masks.begin([item.row for item in work if item.samples])

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
        lost = self._masks.finish(results.shape[1])
        if lost:
            output.errors |= {row: f"the constraint cannot be kept up: {error}" for row, error in lost.items()}
            kept = [row not in lost for row in rows]
            rows, places = list(compress(rows, kept)), list(compress(places, kept))
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
            self._add_biases(rows, logits, places)
            self._openings.limit(rows, logits.shape[1])
            tokens, logprobs = self._sampler.sample(rows, logits, places)
            self._openings.accept(rows, tokens)
            self._note_alternatives(rows, logits, places, tokens, logprobs, output)
            if min(tokens) < 0:
                output.errors |= {row: NOT_FINITE for row, token in zip(rows, tokens, strict=True) if token < 0}
                drawn = [token >= 0 for token in tokens]
                rows, tokens, places = (list(compress(those, drawn)) for those in (rows, tokens, places))
                logprobs = list(compress(logprobs, drawn))
            self._rows.append(rows, tokens)
            if self._masks:
                self._masks.accept(rows, tokens)
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

    def _add_biases(self, rows: list[int], logits: Floats, places: list[int]) -> None:
        if self._biases:
            for row, place in zip(rows, places, strict=True):
                if row in self._biases:
                    self._biases[row].add_to(logits[place])

    def _note_alternatives(
        self,
        rows: list[int],
        logits: Floats,
        places: list[int],
        tokens: list[int],
        logprobs: list[float],
        output: StepOutput,
    ) -> None:
        if self._alternatives:
            for row, place, token, logprob in zip(rows, places, tokens, logprobs, strict=True):
                if row in self._alternatives and token >= 0:
                    found = alternatives(logits[place], self._alternatives[row], token, logprob)
                    output.top_logprobs.setdefault(row, []).append(found)

    def _prompt_logprobs(self, item: RowWork, logits: Floats, output: StepOutput) -> None:
        """Log-softmax of each next prompt token; the chunk's last token may have none."""
        row = item.row
        end = int(self._rows.computed[row])
        start = end - item.count
        following = self._rows.tokens[row, start + 1 : min(end + 1, int(self._rows.lengths[row]))]
        z = logits[: len(following)]
        tokens, logprobs = self._sampler.likeliest(z)
        if tokens and min(tokens) < 0:
            output.errors[row] = NOT_FINITE
            return
        chosen = z[np.arange(len(z)), following].astype(np.float64) - z[np.arange(len(z)), tokens]
        output.prompt_logprobs[row] = (chosen + logprobs).tolist()
        if row in self._alternatives:
            output.prompt_top_logprobs[row] = [
                alternatives(one, self._alternatives[row], token, logprob)
                for one, token, logprob in zip(z, tokens, logprobs, strict=True)
            ]


class ScoreReader:
    """Reads the score of each prompt that is through; a row has nothing else to remember."""

    def start(self, start: RowStart) -> None:
        """See ``Finisher``."""

    def end(self, row: int) -> None:
        """See ``Finisher``."""

    def begin(self, work: list[RowWork]) -> None:
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
