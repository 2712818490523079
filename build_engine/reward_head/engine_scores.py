"""Scores from a built bundle."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from build_engine.errors import BuildError
from build_engine.progress import Progress
from build_engine.reward_head.features import encode_groups
from build_engine.reward_head.steps import blocks_of_groups, last_token_steps
from runtime.bundle.bundle import TOKENIZER_FILE, open_bundle
from runtime.executors.ort import OrtModel
from runtime.native import NativeLibraryError, active_isa


def engine_scores(directory: Path, groups: Sequence[Sequence[str]], progress: Progress) -> npt.NDArray[np.float32]:
    """Scores of all texts by the engine in ``directory``, float32 ``[texts]``.

    Args:
        directory: A bundle of a reward model for the CPU.
        groups: Texts; the whole KV blocks that those of a group begin with in common are computed once.
        progress: Called as ``("scores", texts_done, texts)``.

    Raises:
        BuildError: The bundle is not of a reward model, a text is longer than its context, or the native operators
            cannot run here.
        BundleError: There is no intact bundle.
    """
    bundle = open_bundle(directory)
    architecture = bundle.manifest.architecture
    if architecture.score_head is None:
        raise BuildError(f"{directory}: is a generation model; only a reward model gives scores")
    try:
        active_isa()
    except NativeLibraryError as error:
        raise BuildError(str(error)) from None
    block_size = bundle.manifest.kv.block_size
    encoded = encode_groups((directory / TOKENIZER_FILE).read_bytes(), groups)
    longest = max((len(text) for group in encoded for text in group), default=0)
    if longest > architecture.context_length:
        raise BuildError(f"{directory}: has a context of {architecture.context_length} tokens; a text has {longest}")
    engine = OrtModel(
        directory,
        num_blocks=blocks_of_groups(encoded, block_size),
        max_logit_rows=max(map(len, groups), default=0),
        threads=len(os.sched_getaffinity(0)),
        spinning=False,
    )
    scores: list[npt.NDArray[np.float32]] = []
    done, total = 0, sum(map(len, groups))
    for step in last_token_steps(encoded, block_size):
        scores.append(engine.forward(step).copy())  # the engine's own memory, good until the next step
        done += len(scores[-1])
        progress("scores", done, total)
    engine.close()
    return np.concatenate(scores)
