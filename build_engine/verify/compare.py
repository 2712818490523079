"""Measures a built engine against a float32 reference of the checkpoint it was built from."""

from __future__ import annotations

import os
from importlib.resources import files
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from build_engine.checkpoint import Checkpoint
from build_engine.errors import BuildError
from build_engine.graph import Progress
from build_engine.verify.divergence import Divergence
from build_engine.verify.schedule import blocks_of, forced_steps
from build_engine.verify.score_errors import ScoreErrors
from runtime.bundle.architecture import Architecture
from runtime.bundle.manifest import ScoreVerification, Verification
from runtime.executors import StepInputs
from runtime.executors.host import HostModel
from runtime.executors.ort import OrtModel
from runtime.executors.ort_slots import OrtSlotRunner
from runtime.executors.slot_model import SlotModel
from runtime.native import NativeLibraryError, active_isa
from runtime.reference.decoder import ReferenceDecoder

_CHUNK = 48
_DECODED = 12
_SEPARATOR = "\n----\n"


def verification_texts() -> list[str]:
    """The checked-in texts: prose, dialogue, code, numbers, a list."""
    text = files("build_engine.data").joinpath("verify.txt").read_text(encoding="utf-8")
    return [part.strip("\n") for part in text.split(_SEPARATOR)]


def verify_bundle(
    bundle_dir: Path,
    checkpoint: Checkpoint,
    block_size: int,
    progress: Progress | None = None,
    *,
    kind: Literal["paged", "linear"] = "paged",
) -> Verification | ScoreVerification:
    """Runs engine and reference over the same text, teacher-forced, and compares every position.

    Of a reward model these are the scores after each token.

    All texts run together, first in prefill chunks and then in single-token steps, so that both shapes of a step
    are covered. The reference holds the whole model in memory (4 bytes a parameter).

    Args:
        bundle_dir: Holds ``model.onnx`` and its weight file; the manifest is not read.
        checkpoint: What the bundle was built from.
        block_size: Tokens in one of the engine's KV blocks, or in a linear slot.
        progress: Called as ``("verify", tokens_done, tokens)``.
        kind: Of the engine's KV cache.

    Raises:
        BuildError: The native operators are missing or cannot run here, or an output is not finite.
    """
    texts = _encode(checkpoint, block_size - 1 if kind == "linear" else checkpoint.architecture.context_length)
    blocks = blocks_of(texts, block_size)
    open_engine = _paged_engine if kind == "paged" else _slot_engine
    engine = open_engine(bundle_dir, blocks, len(texts) * _CHUNK)
    architecture = checkpoint.architecture
    reference = ReferenceDecoder(architecture, {name: tensor.float32() for name, tensor in checkpoint.tensors.items()})
    keys, values = (_pools(architecture, blocks, block_size) for _ in range(2))
    measure: Divergence | ScoreErrors = Divergence() if architecture.score_head is None else ScoreErrors()
    done = 0
    for step in forced_steps(texts, block_size, _CHUNK, _DECODED):
        rows = np.arange(len(step.token_ids))
        inputs = (step.token_ids, step.cu_seqlens, step.past_lens, step.block_table, rows)
        actual = engine.forward(StepInputs(*inputs))
        expected = reference.step(*inputs, keys, values)
        if isinstance(measure, Divergence):
            measure.add(expected, actual, step.next_ids)
        else:
            measure.add(expected, actual)
        done += len(rows)
        if progress is not None:
            progress("verify", done, sum(len(text) for text in texts))
    engine.close()
    return measure.result()


def _paged_engine(bundle_dir: Path, blocks: int, rows: int) -> HostModel:
    try:
        active_isa()
    except NativeLibraryError as error:
        raise BuildError(str(error)) from None
    # NOTE: threads that spin between steps would take the cores from the reference's matrix products.
    threads = len(os.sched_getaffinity(0))
    return OrtModel(bundle_dir, num_blocks=blocks, max_logit_rows=rows, threads=threads, spinning=False)


def _slot_engine(bundle_dir: Path, slots: int, rows: int) -> HostModel:
    threads = len(os.sched_getaffinity(0))
    return SlotModel(OrtSlotRunner(bundle_dir, slots=slots, chunk=_CHUNK, threads=threads, spinning=False), rows)


def _pools(architecture: Architecture, blocks: int, block_size: int) -> list[npt.NDArray[np.float32]]:
    """One pool a layer."""
    shape = (blocks, architecture.num_kv_heads, block_size, architecture.head_dim)
    return [np.zeros(shape, np.float32) for _ in range(architecture.num_layers)]


def _encode(checkpoint: Checkpoint, longest: int) -> list[list[int]]:
    """The texts as token ids, as far as the model's context and ``longest`` go."""
    tokenizer = Tokenizer.from_str(checkpoint.tokenizer_json.decode("utf-8"))
    encoded = [tokenizer.encode(text).ids for text in verification_texts()]
    return [ids[: min(checkpoint.architecture.context_length, longest)] for ids in encoded]
