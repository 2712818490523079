"""Fixed orthogonal matrices of any order that mix every coordinate with every other."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

LARGEST_REMAINDER = 4096
"""Odd part of an order, whose factor is dense and takes cubic time to make."""

_LARGEST_HADAMARD = 64
_ROWS_AT_ONCE = 256

Floats = npt.NDArray[np.float32]
Doubles = npt.NDArray[np.float64]


class Orthogonal:
    """``R = diag(signs) (F_1 x F_2 x ...)``: random signs times a Kronecker product of small orthogonal factors.

    The factors are Hadamard matrices for the power of two in ``order`` and one random orthogonal matrix for the rest,
    so that a product with a row costs the sum of their orders for each coordinate, not ``order``.

    Args:
        order: Rows and columns.
        seed: Chooses signs and remainder; equal arguments give equal matrices.

    Raises:
        ValueError: The odd part of ``order`` is above `LARGEST_REMAINDER`.
    """

    def __init__(self, order: int, seed: int) -> None:
        # NOTE: the legacy generator: its streams are frozen, whatever the version of NumPy.
        draws = np.random.RandomState(seed)
        self.order = order
        self._signs = draws.choice([-1.0, 1.0], order)
        self._factors = _factors(order, draws)

    def after(self, rows: Floats) -> Floats:
        """``rows @ R``: float32 ``[n, order]`` in and out, float64 between."""
        out = np.empty(rows.shape, np.float32)
        for start in range(0, len(rows), _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            out[part] = self._product(rows[part] * self._signs)
        return out

    def before(self, columns: Floats) -> Floats:
        """``R.T @ columns``: float32 ``[order, n]`` in and out, float64 between."""
        out = np.empty(columns.shape, np.float32)
        for start in range(0, columns.shape[1], _ROWS_AT_ONCE):
            part = slice(start, start + _ROWS_AT_ONCE)
            out[:, part] = self._product(columns[:, part].T * self._signs).T
        return out

    def _product(self, rows: Doubles) -> Doubles:
        """``rows @ (F_1 x F_2 x ...)``, a factor at a time along its own axis."""
        inner = self.order
        for factor in self._factors:
            inner //= len(factor)
            rows = np.matmul(factor.T, rows.reshape(-1, len(factor), inner))
        return rows.reshape(-1, self.order)


def odd_part(order: int) -> int:
    """``order`` without its power of two."""
    return order // (order & -order)


def _factors(order: int, draws: np.random.RandomState) -> list[Doubles]:
    remainder = odd_part(order)
    if remainder > LARGEST_REMAINDER:
        raise ValueError(f"{order} = {remainder} x {order // remainder}: the odd part is above {LARGEST_REMAINDER}")
    factors = [_random_orthogonal(remainder, draws)] if remainder > 1 else []
    power = order // remainder
    while power > 1:
        size = min(power, _LARGEST_HADAMARD)
        factors.append(_hadamard(size))
        power //= size
    return factors


def _hadamard(order: int) -> Doubles:
    """Sylvester's construction, scaled to be orthogonal."""
    matrix = np.ones((1, 1))
    while len(matrix) < order:
        matrix = np.block([[matrix, matrix], [matrix, -matrix]])
    scaled: Doubles = matrix / np.sqrt(order)
    return scaled


def _random_orthogonal(order: int, draws: np.random.RandomState) -> Doubles:
    """Uniformly distributed: Mezzadri, How to generate random matrices from the classical compact groups, 2007."""
    basis, triangle = np.linalg.qr(draws.standard_normal((order, order)))
    unique: Doubles = basis * np.sign(np.diagonal(triangle))
    return unique
