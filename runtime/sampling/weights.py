"""Softmax weights in an arithmetic that every sampler reproduces bit for bit, so that all of them draw the same tokens.

A weight is ``exp(z - max z)``: a power of two times a polynomial, each product and sum rounded to float32 on its own,
within 4e-7 relatively. It is then rounded to a multiple of 2**-35. Sums of weights in float64 are therefore exact for
up to 2**18 of them: they do not depend on order, vector length or the number of threads.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

_LOG2_E = np.float32(1.44269504088896341)
_SMALLEST = np.float32(-40.0)
"""A power of two that the grid rounds to nothing."""
_COEFFICIENTS = tuple(
    np.float32(float.fromhex(number))
    for number in ("0x1.5bba14p-10", "0x1.3cea88p-7", "0x1.c6b752p-5", "0x1.ebf9bcp-3", "0x1.62e42ap-1", "0x1p0")
)
"""Of 2**f for ``|f| <= 1/2``, falling powers: the minimax polynomial of degree 5 that is 1 at 0."""
_COARSE = np.float32(-12.0)
_GRID = np.float32(2.0**-12)
_BIAS, _MANTISSA_BITS = np.int32(127), np.int32(23)


def weights_below(distances: Floats) -> Floats:
    """``exp(distances)`` on the grid.

    Args:
        distances: float32 ``[...]``, ``z - max z``: at most 0. NaN gives NaN.
    """
    t = np.maximum(distances * _LOG2_E, _SMALLEST)
    n = np.rint(t)
    f = t - n
    p: Floats = f * _COEFFICIENTS[0]
    for coefficient in _COEFFICIENTS[1:-1]:
        p += coefficient
        p *= f
    p += _COEFFICIENTS[-1]
    p *= ((n.astype(np.int32) + _BIAS) << _MANTISSA_BITS).view(np.float32)
    # A float below 2**-12 loses what is finer than the grid when 2**-12 is added; one that is not has nothing finer.
    grid = (t < _COARSE) * _GRID
    p += grid
    p -= grid
    return p
