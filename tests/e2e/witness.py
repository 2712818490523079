"""Watches a model: which tokens lie before each row of logits, and what bits it has."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from runtime.executors import StepInputs
from runtime.executors.host import HostModel

Observations = list[tuple[bytes, bytes]]
"""Of each row of logits: a digest of the tokens up to its position, and one of its bits."""


class Witness:
    """A ``HostModel`` that notes every row of logits which another one computes.

    A shadow of the KV pool holds the token of each slot, so that what is noted of a row is what its sequence really
    reads through its block table, whoever wrote it there and when.

    Args:
        model: Computes.
    """

    def __init__(self, model: HostModel) -> None:
        self._model = model
        self.num_blocks, self.block_size, self.scores = model.num_blocks, model.block_size, model.scores
        self._tokens = np.full((model.num_blocks, model.block_size), -1, np.int64)
        self._hashers = ThreadPoolExecutor(2)
        self.observed: Observations = []

    def forward(self, inputs: StepInputs) -> npt.NDArray[np.float32]:
        """See ``HostModel``."""
        results = self._model.forward(inputs)
        histories: dict[int, npt.NDArray[np.int64]] = {}
        for first, last, past, table in zip(
            inputs.cu_seqlens, inputs.cu_seqlens[1:], inputs.past_lens, inputs.block_table, strict=False
        ):
            positions = np.arange(past, past + last - first)
            self._tokens[table[positions // self.block_size], positions % self.block_size] = inputs.token_ids[
                first:last
            ]
            whole = self._tokens[table].reshape(-1)
            histories |= {int(first) + i: whole[: position + 1] for i, position in enumerate(positions)}
        keys = [digest(histories[int(row)]) for row in inputs.logits_rows]
        self.observed += zip(keys, self._hashers.map(digest, results), strict=True)
        return results

    def copy_blocks(self, copies: list[tuple[int, int]]) -> None:
        """See ``HostModel``."""
        self._model.copy_blocks(copies)
        for source, target in copies:
            self._tokens[target] = self._tokens[source]

    def close(self) -> None:
        """See ``HostModel``."""
        self._hashers.shutdown()
        self._model.close()

    def watch(self, work: Callable[[], object]) -> Observations:
        """What is observed while ``work`` runs."""
        self.observed = []
        work()
        return self.observed


def digest(values: npt.NDArray[np.generic]) -> bytes:
    """Of the bits of a contiguous array."""
    return hashlib.sha256(values).digest()  # type: ignore[arg-type]


@dataclass(frozen=True)
class Reference:
    """What each position's logits were when its text was computed alone, in one step.

    Attributes:
        bits: Digest of the tokens up to a position -> digest of its logits.
        places: The same -> a text that begins with these tokens, and the position.
    """

    bits: Mapping[bytes, bytes]
    places: Mapping[bytes, tuple[int, int]]

    def differences(self, observed: Observations) -> list[tuple[int, int]]:
        """Text and position of every row with other bits than the reference, in order.

        Raises:
            KeyError: There is no reference for a row.
        """
        return sorted(self.places[key] for key, bits in observed if self.bits[key] != bits)
