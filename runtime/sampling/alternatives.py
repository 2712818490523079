"""The likeliest tokens of a row of logits, and their log-probabilities."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from runtime.request import TopLogprobs

Logits = npt.NDArray[np.float32]

_REACHES = (1.0, 2.0, 4.0, 8.0, 16.0)
"""How far below the largest logit candidates are sought, until there are enough."""


def most_likely(z: Logits, count: int) -> npt.NDArray[np.int64]:
    """Ids of the ``count`` largest logits, or of all there are: by falling logit, equal logits by rising id.

    Args:
        z: float32 ``[V]``, finite.
        count: At least 1.
    """
    best = z.max()
    for reach in _REACHES:
        candidates = np.flatnonzero(z >= best - np.float32(reach))
        if len(candidates) >= count:
            break
    else:
        candidates = np.arange(len(z))
    order = np.argsort(-z[candidates], kind="stable")[:count]
    ranked: npt.NDArray[np.int64] = candidates[order]
    return ranked


def alternatives(z: Logits, count: int, token: int, logprob: float) -> TopLogprobs:
    """The ``count`` likeliest tokens beside one that was drawn, or as many as a grammar allows.

    Log-probabilities differ as logits do: the drawn token's own comes out as ``logprob``, to the bit.

    Args:
        z: float32 ``[V]``, the logits that ``token`` was drawn from: penalised, and divided by the temperature.
        count: At least 1.
        token: Any token.
        logprob: Its natural log-probability.
    """
    ids = most_likely(z, count)
    ids = ids[np.isfinite(z[ids])]
    logprobs = logprob + (z[ids].astype(np.float64) - np.float64(z[token]))
    return list(zip(ids.tolist(), logprobs.tolist(), strict=True))
