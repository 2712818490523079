"""Sampling as an executor uses it: rows are started once, then named step by step."""

from __future__ import annotations

from typing import Protocol

import numpy as np
import numpy.typing as npt

from runtime.request import SamplingParams
from runtime.sampling.batch import BatchSampler
from runtime.sampling.row_state import RowState

Logits = npt.NDArray[np.float32]


class RowSampler(Protocol):
    """Remembers of each row what its next draw depends on."""

    def start(self, row: int, params: SamplingParams, sample: int, prompt: list[int], output: list[int]) -> None:
        """A sequence enters a row; whatever the row held before is gone.

        Args:
            row: Below the executor's number of rows.
            params: The request's.
            sample: Index of the sample in its request.
            prompt: Prompt tokens.
            output: Tokens generated before (not empty when the row resumes after a preemption).
        """
        ...

    def constrain(self, row: int, mask: npt.NDArray[np.uint32]) -> None:
        """From now on the row draws only what ``mask`` allows at the time.

        Args:
            row: A row that has been started.
            mask: uint32 ``[ceil(V / 32)]``, C-contiguous; bit ``i % 32`` of word ``i // 32`` allows token ``i``. Kept,
                and read anew for each draw.
        """
        ...

    def end(self, row: int) -> None:
        """Forget a row; one that is not in use is nothing to forget."""
        ...

    def sample(self, rows: list[int], logits: Logits, places: list[int]) -> tuple[list[int], list[float]]:
        """Draw the next token of each row, and count it as generated.

        Args:
            rows: Different rows that have been started.
            logits: float32 ``[R, V]``, C-contiguous; what lies at ``places`` becomes what tokens are drawn from:
                penalised, and divided by the temperature.
            places: Which of the ``R`` rows of logits is each one's.

        Returns:
            Tokens, and their natural log-probabilities; -1 and 0.0 where the logits are not finite.
        """
        ...

    def likeliest(self, logits: Logits) -> tuple[list[int], list[float]]:
        """The likeliest token for each row of logits as the model gave them, whoever's they are.

        Args:
            logits: float32 ``[N, V]``, C-contiguous; not modified.

        Returns:
            As ``sample``.
        """
        ...


class NumpySampler:
    """A ``RowSampler`` without native code.

    Args:
        eos_token_ids: Ids that ``min_new_tokens`` masks and the length decay raises.
    """

    def __init__(self, eos_token_ids: frozenset[int]) -> None:
        self._states: dict[int, RowState] = {}
        self._sampler = BatchSampler(eos_token_ids)

    def start(self, row: int, params: SamplingParams, sample: int, prompt: list[int], output: list[int]) -> None:
        """See ``RowSampler``."""
        self._states[row] = RowState(params, sample, prompt, output)

    def constrain(self, row: int, mask: npt.NDArray[np.uint32]) -> None:
        """See ``RowSampler``."""
        self._states[row].mask = mask

    def end(self, row: int) -> None:
        """See ``RowSampler``."""
        self._states.pop(row, None)

    def sample(self, rows: list[int], logits: Logits, places: list[int]) -> tuple[list[int], list[float]]:
        """See ``RowSampler``."""
        states = [self._states[row] for row in rows]
        wanted = logits if len(places) == len(logits) else logits[places]
        drawn = self._sampler.sample(wanted, states)
        if wanted is not logits:
            logits[places] = wanted
        for state, (token, _) in zip(states, drawn, strict=True):
            if token >= 0:
                state.accept(token)
        return [token for token, _ in drawn], [logprob for _, logprob in drawn]

    def likeliest(self, logits: Logits) -> tuple[list[int], list[float]]:
        """See ``RowSampler``."""
        drawn = self._sampler.sample(logits.copy(), [RowState(SamplingParams(), 0, [], [])] * len(logits))
        return [token for token, _ in drawn], [logprob for _, logprob in drawn]
