"""How long a step takes on a machine: fitted to steps that were measured there."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt

KNOTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Token counts between which the time of the linear layers is a straight line; beyond the last it is proportional."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a step does.

    Attributes:
        tokens: Run through the model.
        keys: Read from the KV cache, of all sequences.
        products: Pairs of a prompt's token and a key that it sees.
        outputs: Tokens sampled.
    """

    tokens: int
    keys: int
    products: int
    outputs: int


class CostModel(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a step: a curve over its tokens, and a constant for each key, product and output.

    Attributes:
        curve: Seconds at ``KNOTS``.
        key: Seconds a key that is read.
        product: Seconds a product of a prompt.
        output: Seconds a sampled token in the engine.
        delivery: Seconds of the step that bringing a token to its client costs, where workers share the engine's cores.
        error: Mean relative error of the fit.
        machine: Where it was measured.
    """

    curve: list[float]
    key: float
    product: float
    output: float
    delivery: float = 0.0
    error: float = 0.0
    machine: str = ""

    def seconds(self, load: Load) -> float:
        """Of one step."""
        linear = float(np.interp(load.tokens, KNOTS, self.curve))
        if load.tokens > KNOTS[-1]:
            linear *= load.tokens / KNOTS[-1]
        rest = load.keys * self.key + load.products * self.product
        return linear + rest + load.outputs * (self.output + self.delivery)


def fit(loads: Sequence[Load], seconds: Sequence[float], machine: str = "") -> CostModel:
    """The model with the least relative squared error; none of its constants is negative."""
    rows = np.array([[*_weights(load.tokens), load.keys, load.products, load.outputs] for load in loads])
    taken = np.array(seconds)
    constants = _non_negative(rows / taken[:, None], np.ones(len(taken)))
    error = float(np.mean(np.abs(rows @ constants / taken - 1.0)))
    count = len(KNOTS)
    curve = np.maximum.accumulate(constants[:count])
    key, product, output = constants[count:]
    return CostModel(
        curve=curve.tolist(), key=float(key), product=float(product), output=float(output), error=error, machine=machine
    )


def _weights(tokens: int) -> npt.NDArray[np.float64]:
    """How much of each knot's value a step of ``tokens`` has."""
    return np.array([np.interp(tokens, KNOTS, unit) for unit in np.eye(len(KNOTS))])


def _non_negative(rows: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Least squares under bounds, one coordinate after the other until nothing moves."""
    scale = np.linalg.norm(rows, axis=0)
    used = scale > 0
    unit = rows[:, used] / scale[used]
    found = np.zeros(unit.shape[1])
    rest = wanted.copy()
    for _ in range(20_000):
        moved = 0.0
        for column in range(unit.shape[1]):
            step = max(float(unit[:, column] @ rest), -found[column])
            if step:
                found[column] += step
                rest -= step * unit[:, column]
                moved = max(moved, abs(step))
        if moved < 1e-9:
            break
    result = np.zeros(rows.shape[1])
    result[used] = found / scale[used]
    return result
