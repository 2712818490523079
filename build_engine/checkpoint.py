"""What every checkpoint reader gives the rest of the build, whatever the file format."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from runtime.bundle.architecture import Architecture
from runtime.bundle.manifest import Source


class CheckpointTensor(Protocol):
    """One weight, not read before it is asked for.

    ``encoding`` is one of ``f32 f16 bf16 q4_0 q4_1 q8_0 q4_k q5_k q6_k iq4_nl``. Rows are output features, as
    in Hugging Face checkpoints.
    """

    name: str
    shape: tuple[int, ...]
    encoding: str

    def float32(self) -> npt.NDArray[np.float32]:
        """The values, dequantised where need be."""
        ...

    def blocks(self) -> QuantBlocks:
        """The quantised blocks as stored; raises ``CheckpointError`` when ``encoding`` is a float type."""
        ...


@dataclass(frozen=True, slots=True)
class QuantBlocks:
    """A matrix in blocks of 32 along its columns: ``w = scale * q + offset``.

    Attributes:
        values: int16 ``[rows, columns / 32, 32]``: the stored integers (0..15 for Q4_1 and Q4_K, 0..31 for Q5_K, -8..7
            for Q4_0, -127..127 for Q8_0 and IQ4_NL; for Q6_K times their part's scale).
        scales: float32 ``[rows, columns / 32]``.
        offsets: float32 ``[rows, columns / 32]``, or ``None`` where the format has none.
    """

    values: npt.NDArray[np.int16]
    scales: npt.NDArray[np.float32]
    offsets: npt.NDArray[np.float32] | None


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """An opened checkpoint.

    Attributes:
        source: Kind, path and digest.
        architecture: Dimensions and options, read from the checkpoint's configuration.
        tensors: Name -> tensor, under Hugging Face's Llama names (``model.layers.0.self_attn.q_proj.weight``, ...);
            Q and K rows are in Hugging Face's (half-split) rotary order whatever the file had. Packed projections are
            taken apart, norm weights are what they multiply by, and every score head goes by ``score``.
        tokenizer_json: A complete ``tokenizer.json``.
        chat_template: Jinja source, or ``None``.
        generation_config: Contents of ``generation_config.json``; empty where there is none.
        eos_token_ids: Ids that end a sample.
        bos_token_id: Beginning-of-sequence id, or -1.
        special_tokens: As in the manifest.
    """

    source: Source
    architecture: Architecture
    tensors: Mapping[str, CheckpointTensor]
    tokenizer_json: bytes
    chat_template: str | None
    eos_token_ids: tuple[int, ...]
    bos_token_id: int = -1
    generation_config: dict[str, Any] = field(default_factory=dict)
    special_tokens: dict[str, str] = field(default_factory=dict)
