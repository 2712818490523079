"""The float32 reference decoder as an executor's model: slow, and bit-exact whatever the batch."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import numpy.typing as npt

from runtime.bundle.architecture import Architecture
from runtime.executors.rows import StepInputs
from runtime.reference.decoder import ReferenceDecoder


class ReferenceModel:
    """A ``HostModel`` in NumPy, row by row.

    Args:
        architecture: Dimensions and options.
        weights: float32 arrays under Hugging Face's Llama names.
        num_blocks: KV blocks to allocate, float32.
        block_size: Tokens in a block.
    """

    def __init__(
        self,
        architecture: Architecture,
        weights: Mapping[str, npt.NDArray[np.float32]],
        *,
        num_blocks: int,
        block_size: int,
    ) -> None:
        self.scores = architecture.score_head is not None
        self.num_blocks = num_blocks
        self.block_size = block_size
        shape = (num_blocks, architecture.num_kv_heads, block_size, architecture.head_dim)
        self._keys = [np.zeros(shape, np.float32) for _ in range(architecture.num_layers)]
        self._values = [np.zeros(shape, np.float32) for _ in range(architecture.num_layers)]
        self._decoder = ReferenceDecoder(architecture, weights, rowwise=True)

    def forward(self, inputs: StepInputs) -> npt.NDArray[np.float32]:
        """See ``HostModel``."""
        return self._decoder.step(
            inputs.token_ids,
            inputs.cu_seqlens,
            inputs.past_lens,
            inputs.block_table,
            inputs.logits_rows,
            self._keys,
            self._values,
        )

    def copy_blocks(self, copies: list[tuple[int, int]]) -> None:
        """See ``HostModel``."""
        for pool in (*self._keys, *self._values):
            for source, target in copies:
                pool[target] = pool[source]

    def close(self) -> None:
        """See ``HostModel``."""
