"""Counter-based random numbers: a draw depends on the request's seed and the position, on nothing else.

Philox4x32-10 of Salmon, Moraes, Dror, Shaw, *Parallel Random Numbers: As Easy as 1, 2, 3* (SC'11).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

_WORD = np.uint64(0xFFFFFFFF)
_SHIFT = np.uint64(32)
_MULTIPLIER_0, _MULTIPLIER_1 = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL_0, _WEYL_1 = np.uint64(0x9E3779B9), np.uint64(0xBB67AE85)
_ROUNDS = 10

Words = npt.NDArray[np.uint64]


def philox4x32(
    counter: tuple[Words, Words, Words, Words], key: tuple[Words, Words]
) -> tuple[Words, Words, Words, Words]:
    """Ten rounds over arrays of 32-bit words held in uint64.

    Args:
        counter: Four arrays ``[N]``, each value below 2**32.
        key: Two such arrays.

    Returns:
        Four arrays ``[N]`` of random 32-bit words.
    """
    c0, c1, c2, c3 = counter
    k0, k1 = key
    for _ in range(_ROUNDS):
        p0, p1 = _MULTIPLIER_0 * c0, _MULTIPLIER_1 * c2
        c0, c1, c2, c3 = (p1 >> _SHIFT) ^ c1 ^ k0, p1 & _WORD, (p0 >> _SHIFT) ^ c3 ^ k1, p0 & _WORD
        k0, k1 = (k0 + _WEYL_0) & _WORD, (k1 + _WEYL_1) & _WORD
    return c0, c1, c2, c3


def uniforms(
    seeds: npt.NDArray[np.uint64], samples: npt.NDArray[np.uint64], positions: npt.NDArray[np.uint64]
) -> npt.NDArray[np.float64]:
    """One number in [0, 1) with 53 random bits for each (seed, sample index, position of the output token)."""
    zeros = np.zeros_like(positions)
    high, low, _, _ = philox4x32((positions, samples, zeros, zeros), (seeds & _WORD, seeds >> _SHIFT))
    bits = (high << np.uint64(21)) | (low >> np.uint64(11))
    return np.asarray(bits, dtype=np.float64) * 2.0**-53
