"""The backbone's final hidden states, from the float32 reference."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from build_engine.checkpoint import Checkpoint
from build_engine.families.names import EMBEDDING, FINAL_NORM, HEAD
from build_engine.progress import Progress
from build_engine.reward_head.steps import blocks_of_groups, last_token_steps
from runtime.reference.decoder import ReferenceDecoder


def encode_groups(tokenizer_json: bytes, groups: Sequence[Sequence[str]]) -> list[list[list[int]]]:
    """Token ids of texts that hold all their special tokens already.

    Args:
        tokenizer_json: Contents of the file of that name.
        groups: Texts that belong together.
    """
    tokenizer = Tokenizer.from_str(tokenizer_json.decode("utf-8"))
    return [[tokenizer.encode(text, add_special_tokens=False).ids for text in group] for group in groups]


def last_hidden_states(
    checkpoint: Checkpoint, groups: Sequence[Sequence[str]], progress: Progress
) -> npt.NDArray[np.float32]:
    """The final norm's output at the last token of every text, float32 ``[texts, hidden_size]``.

    Args:
        checkpoint: The backbone; all its weights are held in memory as float32.
        groups: Texts; what those of a group begin with in common is computed once.
        progress: Called as ``("features", texts_done, texts)``.
    """
    encoded = encode_groups(checkpoint.tokenizer_json, groups)
    decoder = _without_head(checkpoint)
    architecture = checkpoint.architecture
    # NOTE: blocks of one token, so that texts share what they have in common to the last token.
    pool = (blocks_of_groups(encoded, 1), architecture.num_kv_heads, 1, architecture.head_dim)
    keys = [np.zeros(pool, np.float32) for _ in range(architecture.num_layers)]
    values = [np.zeros(pool, np.float32) for _ in range(architecture.num_layers)]
    states: list[npt.NDArray[np.float32]] = []
    done, total = 0, sum(map(len, groups))
    for step in last_token_steps(encoded, 1):
        inputs = (step.token_ids, step.cu_seqlens, step.past_lens, step.block_table, step.logits_rows)
        states.append(decoder.step(*inputs, keys, values))
        done += len(states[-1])
        progress("features", done, total)
    return np.concatenate(states)


def _without_head(checkpoint: Checkpoint) -> ReferenceDecoder:
    """The decoder with the identity for its output head: its logits are the final norm's output."""
    architecture = msgspec.structs.replace(
        checkpoint.architecture, tied_embeddings=False, logits_softcap=0.0, score_head=None
    )
    weights = {
        name: tensor.float32()
        for name, tensor in checkpoint.tensors.items()
        if name in (EMBEDDING, FINAL_NORM) or name.startswith("model.layers.")
    }
    weights[HEAD] = np.eye(architecture.hidden_size, dtype=np.float32)
    return ReferenceDecoder(architecture, weights)
