"""Whether greedy tokens are those of the float32 reference, which is taken along the engine's own path."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from tokenizers import Tokenizer

from build_engine.checkpoint import Checkpoint
from build_engine.verify.compare import verification_texts
from runtime.reference.decoder import ReferenceDecoder

GAP = 0.5
"""Logits. A token that is not the reference's best is right as long as the two are closer than this."""


def prompts_of(checkpoint: Checkpoint, length: int) -> list[list[int]]:
    """The beginnings of the texts that builds are verified on."""
    tokenizer = Tokenizer.from_str(checkpoint.tokenizer_json.decode("utf-8"))
    return [tokenizer.encode(text).ids[:length] for text in verification_texts()]


def compare(
    checkpoint: Checkpoint, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]
) -> dict[str, float]:
    """Compare each token with the reference's best after the same tokens.

    Returns:
        ``tokens``, ``others`` that are not the reference's best, ``largest_gap`` between the two in logits.

    Raises:
        ArithmeticError: A gap is larger than the rounding of 16-bit engines explains.
    """
    gaps = _gaps(checkpoint, prompts, outputs)
    if not gaps.max() < GAP:
        raise ArithmeticError(f"a greedy token is {gaps.max():.3g} below the float32 reference's best logit")
    return {"tokens": len(gaps), "others": int((gaps > 0).sum()), "largest_gap": round(float(gaps.max()), 4)}


def _gaps(checkpoint: Checkpoint, prompts: Sequence[Sequence[int]], outputs: Sequence[Sequence[int]]) -> np.ndarray:
    """Distance of each output token's logit from the best one."""
    architecture = checkpoint.architecture
    reference = ReferenceDecoder(architecture, {name: tensor.float32() for name, tensor in checkpoint.tensors.items()})
    texts = [[*prompt, *output[:-1]] for prompt, output in zip(prompts, outputs, strict=True)]
    lengths = np.array([len(text) for text in texts])
    ends = np.cumsum(lengths)
    rows = [np.arange(end - len(output), end) for end, output in zip(ends, outputs, strict=True)]
    shape = (len(texts), architecture.num_kv_heads, int(lengths.max()), architecture.head_dim)
    pools = [[np.zeros(shape, np.float32) for _ in range(architecture.num_layers)] for _ in range(2)]
    logits = reference.step(
        np.concatenate(texts).astype(np.int64),
        np.array([0, *ends], dtype=np.int32),
        np.zeros(len(texts), dtype=np.int32),
        np.arange(len(texts), dtype=np.int32)[:, None],
        np.concatenate(rows),
        *pools,
    )
    tokens = np.concatenate([np.asarray(output, dtype=np.int64) for output in outputs])
    gaps: np.ndarray = logits.max(axis=1) - logits[np.arange(len(tokens)), tokens]
    return gaps
