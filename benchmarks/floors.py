"""The least time that a step can take on a machine: its bytes have to be read and its products computed.

The larger of the two is the floor (the roofline model: Williams, Waterman, Patterson, 2009); activations, norms,
sampling and the loop around the model are left out.
"""

from __future__ import annotations

from dataclasses import dataclass

from runtime.bundle.architecture import Architecture


@dataclass(frozen=True)
class Ceilings:
    """What a machine does at best: bytes read a second, and multiply-adds a second of the linear kernel."""

    bandwidth: float
    multiply_adds: float


@dataclass(frozen=True)
class Work:
    """What a step cannot do without."""

    nbytes: float
    multiply_adds: float

    def floor(self, ceilings: Ceilings) -> float:
        """Seconds."""
        return max(self.nbytes / ceilings.bandwidth, self.multiply_adds / ceilings.multiply_adds)


@dataclass(frozen=True)
class Costs:
    """What a model's steps need.

    Attributes:
        architecture: The model.
        weight_bytes: Weights that every step reads whole.
        element_bytes: Of an element of the KV cache.
    """

    architecture: Architecture
    weight_bytes: int
    element_bytes: int

    def step(self, rows: int, new: int, past: int) -> Work:
        """A step of ``rows`` sequences with ``new`` tokens each behind ``past`` ones; logits for the last of each.

        The multiply-adds of attention count like those of linear layers, though its kernel is slower.
        """
        shape = self.architecture
        seen = [min(past + new, shape.window(layer) or past + new) for layer in range(shape.num_layers)]
        cache = rows * sum(seen) * 2 * shape.num_kv_heads * shape.head_dim * self.element_bytes
        width = shape.num_heads * shape.head_dim
        layer = shape.hidden_size * (2 * width + 2 * shape.num_kv_heads * shape.head_dim + 3 * shape.intermediate_size)
        linear = rows * (new * shape.num_layers * layer + shape.hidden_size * shape.vocab_size)
        # NOTE: the new tokens see half of each other on average.
        keys = sum(min(past + (new + 1) / 2, window) for window in seen)
        return Work(self.weight_bytes + cache, linear + rows * new * keys * 2 * width)
