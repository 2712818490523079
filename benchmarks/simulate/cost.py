"""How long a step takes on a machine: fitted to steps that were measured there."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

KNOTS = (1, 2, 4, 8, 16, 32, 64, 128, 256)
"""Token counts between which the time of a layer's products is a straight line; beyond the last it is proportional."""


class Load(msgspec.Struct, frozen=True, kw_only=True):
    """What a step does.

    Attributes:
        tokens: Run through the layers.
        keys: Read from the KV cache by sequences that decode.
        products: Pairs of a prompt's token and a key that it sees.
        outputs: Tokens sampled: rows of the output head.
    """

    tokens: int
    keys: int
    products: int
    outputs: int


class CostModel(msgspec.Struct, frozen=True, kw_only=True):
    """Seconds of a step: a curve over its tokens, and a constant for each key, product and output.

    Attributes:
        curve: Seconds at ``KNOTS``; with few tokens it is the time to read the weights.
        head: Seconds for reading the output head, in steps that sample.
        key: Seconds a key that is read.
        product: Seconds a product of a prompt.
        output: Seconds a sampled token in the engine.
        delivery: Seconds of the step that bringing a token to its client takes, where HTTP shares the engine's cores.
        door: Seconds that a request takes from its client to the queue.
        error: Mean relative error of the fit to an engine's steps.
        machine: Where it was measured.
    """

    curve: list[float]
    key: float
    product: float
    output: float
    head: float = 0.0
    delivery: float = 0.0
    door: float = 0.0
    error: float = 0.0
    machine: str = ""

    def slower(self, factor: float) -> CostModel:
        """Steps that all take ``factor`` times as long."""
        return msgspec.structs.replace(
            self,
            curve=[factor * seconds for seconds in self.curve],
            key=factor * self.key,
            product=factor * self.product,
            output=factor * self.output,
            head=factor * self.head,
        )

    def seconds(self, load: Load) -> float:
        """Of one step."""
        seconds = _along(self.curve, load.tokens) + load.keys * self.key + load.products * self.product
        if load.outputs:
            seconds += self.head + load.outputs * (self.output + self.delivery)
        return seconds


def read_model(path: Path) -> CostModel:
    """A model that was stored as JSON.

    Raises:
        ValueError: It cannot be read, or is none.
    """
    try:
        model = msgspec.json.decode(path.read_bytes(), type=CostModel)
    except (OSError, msgspec.MsgspecError) as error:
        message = f"{path} is no cost model: {error}"
        raise ValueError(message) from None
    if len(model.curve) != len(KNOTS):
        message = f"{path} is no cost model: its curve has {len(model.curve)} values and not {len(KNOTS)}"
        raise ValueError(message)
    return model


def fit(loads: Sequence[Load], seconds: Sequence[float], machine: str = "") -> CostModel:
    """The model with the least relative squared error; none of its constants is negative."""
    rows = np.array(
        [[*_weights(load.tokens), load.outputs > 0, load.keys, load.products, load.outputs] for load in loads], float
    )
    taken = np.array(seconds)
    constants = _non_negative(rows / taken[:, None], np.ones(len(taken)))
    count = len(KNOTS)
    head, key, product, output = constants[count:].tolist()
    curve = np.maximum.accumulate(constants[:count]).tolist()
    model = CostModel(curve=curve, head=head, key=key, product=product, output=output, machine=machine)
    return msgspec.structs.replace(model, error=error_of(model, loads, seconds))


def error_of(model: CostModel, loads: Sequence[Load], seconds: Sequence[float]) -> float:
    """Mean relative error of a model."""
    return float(np.mean([abs(model.seconds(load) / taken - 1) for load, taken in zip(loads, seconds, strict=True)]))


def _along(curve: Sequence[float], tokens: int) -> float:
    if tokens >= KNOTS[-1]:
        return curve[-1] * tokens / KNOTS[-1]
    index = bisect_right(KNOTS, tokens)
    below, above = KNOTS[index - 1], KNOTS[index]
    return curve[index - 1] + (curve[index] - curve[index - 1]) * (tokens - below) / (above - below)


def _weights(tokens: int) -> list[float]:
    """How much of each knot's value a step of ``tokens`` has."""
    return [_along(unit, tokens) for unit in np.eye(len(KNOTS)).tolist()]


def _non_negative(rows: npt.NDArray[np.float64], wanted: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Least squares under bounds, one coordinate after the other until nothing moves."""
    scale = np.linalg.norm(rows, axis=0)
    used = scale > 0
    unit = rows[:, used] / scale[used]
    found = np.zeros(unit.shape[1])
    rest = wanted.copy()
    for _ in range(5_000):
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
