"""How an output may begin: what each of its first tokens has to be one of, until it is free."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime.request import Opening, OpeningState
from runtime.sampling.row_sampler import RowSampler

Words = npt.NDArray[np.uint32]


@dataclass(slots=True)
class _Row:
    opening: Opening
    state: int | None
    masked: bool = False


class Openings:
    """The rows whose next token is limited. What limits it depends on the output so far alone.

    Args:
        sampler: Draws the rows' tokens.
    """

    def __init__(self, sampler: RowSampler) -> None:
        self._sampler = sampler
        self._rows: dict[int, _Row] = {}

    def start(self, row: int, opening: Opening, output: list[int]) -> None:
        """A sequence enters a row.

        Args:
            row: One that its sampler has started.
            opening: The request's; empty for one that begins as it likes.
            output: Tokens generated before.
        """
        self.end(row)
        state: int | None = 0 if opening else None
        for token in output:
            if state is None:
                break
            state = _after(opening[state], token)
        if state is not None:
            self._rows[row] = _Row(opening, state)

    def end(self, row: int) -> None:
        """Forget a row; a free one is nothing to forget."""
        self._rows.pop(row, None)

    def limit(self, rows: list[int], vocab_size: int) -> None:
        """Hand the sampler the masks that have changed since the rows' last tokens."""
        if self._rows:
            for row in self._rows.keys() & rows:
                self._mask(row, self._rows[row], vocab_size)

    def accept(self, rows: list[int], tokens: list[int]) -> None:
        """What rows have drawn, limited or not."""
        if self._rows:
            for row, token in zip(rows, tokens, strict=True):
                limited = self._rows.get(row)
                if limited is not None and limited.state is not None:
                    limited.state = _after(limited.opening[limited.state], token)
                    limited.masked = False

    def _mask(self, row: int, limited: _Row, vocab_size: int) -> None:
        if limited.state is None:
            self._sampler.constrain(row, np.full(-(-vocab_size // 32), 2**32 - 1, dtype=np.uint32))
            del self._rows[row]
        elif not limited.masked:
            self._sampler.constrain(row, mask_of(limited.opening[limited.state], vocab_size))
            limited.masked = True


def mask_of(state: OpeningState, vocab_size: int) -> Words:
    """What a state allows, as uint32 ``[ceil(V / 32)]``, the lowest bit first."""
    allowed = np.zeros(-(-vocab_size // 32) * 32, dtype=np.bool_)
    allowed[_ids(state)] = True
    return np.packbits(allowed, bitorder="little").view("<u4").astype(np.uint32, copy=False)


def well_formed(opening: Opening, vocab_size: int) -> bool:
    """Whether every state allows a token, tokens are in the vocabulary, and states that follow are there."""
    return all(_well_formed(state, len(opening), vocab_size) for state in opening)


def _well_formed(state: OpeningState, states: int, vocab_size: int) -> bool:
    if not state.allowed or len(state.allowed) % 4:
        return False
    ids = _ids(state)
    following = (after for _, after in state.following)
    return bool(ids.min() >= 0 and ids.max() < vocab_size) and all(0 <= after < states for after in following)


def _ids(state: OpeningState) -> npt.NDArray[np.int32]:
    return np.frombuffer(state.allowed, dtype="<i4")


def _after(state: OpeningState, token: int) -> int | None:
    return dict(state.following).get(token)
