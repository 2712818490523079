"""A request's own preferences: numbers added to the logits of some tokens before anything else."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


class LogitBias:
    """A sparse vector.

    Args:
        bias: Token ids, each once, and what is added to their logits.
    """

    __slots__ = ("_ids", "_values")

    def __init__(self, bias: Sequence[tuple[int, float]]) -> None:
        self._ids = np.array([token for token, _ in bias], dtype=np.int64)
        self._values = np.array([value for _, value in bias], dtype=np.float32)

    def add_to(self, z: npt.NDArray[np.float32]) -> None:
        """Add it to float32 ``[V]``, in place."""
        z[self._ids] += self._values
