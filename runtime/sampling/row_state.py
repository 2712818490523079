"""What the sampler remembers of one row between steps."""

from __future__ import annotations

from collections import Counter

import numpy as np
import numpy.typing as npt

from runtime.request import SamplingParams


class TokenCounts:
    """Occurrences of each counted token, as arrays that penalties can be applied with at once."""

    def __init__(self, tokens: list[int]) -> None:
        counted = Counter(tokens)
        self._place = {token: place for place, token in enumerate(counted)}
        self._tokens = np.fromiter(counted, dtype=np.int64, count=len(counted))
        self._counts = np.fromiter(counted.values(), dtype=np.int64, count=len(counted))

    def __len__(self) -> int:
        return len(self._place)

    def add(self, token: int) -> bool:
        """Count one more occurrence; returns whether the arrays had to move to grow."""
        place = self._place.get(token)
        moved = False
        if place is None:
            place = self._place[token] = len(self._place)
            if place == len(self._tokens):
                grown = max(16, 2 * place)
                self._tokens = np.resize(self._tokens, grown)
                self._counts = np.resize(self._counts, grown)
                moved = True
            self._tokens[place] = token
            self._counts[place] = 0
        self._counts[place] += 1
        return moved

    @property
    def tokens(self) -> npt.NDArray[np.int64]:
        """Distinct counted tokens ``[C]``."""
        return self._tokens[: len(self._place)]

    @property
    def counts(self) -> npt.NDArray[np.int64]:
        """Occurrences ``[C]``."""
        return self._counts[: len(self._place)]


class RowState:
    """One row's parameters, counts and place in its random stream.

    Args:
        sample: Index of the sample in its request.
        prompt: Prompt tokens.
        output: Tokens generated before (not empty when the row resumes after a preemption).
    """

    def __init__(self, params: SamplingParams, sample: int, prompt: list[int], output: list[int]) -> None:
        self.params = params
        self.sample = sample
        self.generated = len(output)
        self.greedy = params.top_k == 1
        self.filtered = params.top_p < 1.0 or params.top_k > 0
        self.counts: TokenCounts | None = None
        if params.penalised:
            self.counts = TokenCounts(prompt + output if params.input_penalty else output)
        self.allowed = np.array(params.allowed_token_ids, dtype=np.int64)
        self.mask: npt.NDArray[np.uint32] | None = None

    def accept(self, token: int) -> None:
        """The row's next token is ``token``."""
        self.generated += 1
        if self.counts is not None:
            self.counts.add(token)
