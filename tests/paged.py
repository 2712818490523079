"""Drives anything with the step contract: packs sequences, keeps their blocks and lengths."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tiny import tiny_weights

from build_engine.checkpoint import Checkpoint
from runtime.bundle.architecture import Architecture
from runtime.executors import StepInputs
from runtime.executors.ort import OrtModel
from runtime.reference.decoder import ReferenceDecoder

Logits = npt.NDArray[np.float32]
Step = Callable[..., Logits]

BLOCK_SIZE = 4
NUM_BLOCKS = 160


def reference_step(checkpoint: Checkpoint, *, rowwise: bool = False, kv_dtype: str = "float32") -> Step:
    """The NumPy decoder over pools of its own."""
    architecture = checkpoint.architecture
    decoder = ReferenceDecoder(architecture, tiny_weights(checkpoint), rowwise=rowwise)
    keys, values = (_pools(architecture, kv_dtype) for _ in range(2))
    return lambda *inputs: decoder.step(*inputs, keys, values)


def engine_step(directory: Path, threads: int = 2) -> Step:
    """A compiled engine over pools of its own."""
    model = OrtModel(directory, num_blocks=NUM_BLOCKS, max_logit_rows=512, threads=threads)
    return lambda *inputs: model.forward(StepInputs(*inputs)).copy()


def _pools(architecture: Architecture, dtype: str) -> list[npt.NDArray[np.float32]]:
    shape = (NUM_BLOCKS, architecture.num_kv_heads, BLOCK_SIZE, architecture.head_dim)
    return [np.zeros(shape, dtype) for _ in range(architecture.num_layers)]


class PagedSequences:
    """Sequences that grow step by step.

    Blocks are handed out from the end of the pool, alternating between sequences, so that no table is contiguous.
    """

    def __init__(self, step: Step) -> None:
        self._step = step
        self._free = list(range(NUM_BLOCKS))
        self._lengths: dict[str, int] = {}
        self._blocks: dict[str, list[int]] = {}

    def feed(self, tokens: Mapping[str, Sequence[int]]) -> dict[str, Logits]:
        """One step with new tokens for each named sequence; returns the logits ``[n, V]`` or scores ``[n]`` of each."""
        names = list(tokens)
        counts = [len(tokens[name]) for name in names]
        pasts = [self._lengths.get(name, 0) for name in names]
        for name, past, count in zip(names, pasts, counts, strict=True):
            self._grow(name, past + count)
        total = sum(counts)
        ends = np.cumsum([0, *counts])
        logits = self._step(
            np.concatenate([np.asarray(tokens[name], np.int64) for name in names]),
            ends.astype(np.int32),
            np.array(pasts, np.int32),
            self._table(names),
            np.arange(total, dtype=np.int64),
        )
        return {name: logits[ends[row] : ends[row + 1]] for row, name in enumerate(names)}

    def _grow(self, name: str, length: int) -> None:
        blocks = self._blocks.setdefault(name, [])
        while len(blocks) * BLOCK_SIZE < length:
            blocks.append(self._free.pop())
        self._lengths[name] = length

    def _table(self, names: list[str]) -> npt.NDArray[np.int32]:
        table = np.full((len(names), max(len(self._blocks[name]) for name in names)), -1, np.int32)
        for row, name in enumerate(names):
            table[row, : len(self._blocks[name])] = self._blocks[name]
        return table


def forward(step: Step, tokens: Sequence[int]) -> Logits:
    """Logits of one whole sequence, in one step."""
    return PagedSequences(step).feed({"only": tokens})["only"]


def feed_in_chunks(step: Step, tokens: Sequence[int], chunk: int) -> Logits:
    """Logits (or scores) of one whole sequence that is fed in chunks."""
    sequences = PagedSequences(step)
    return np.concatenate(
        [sequences.feed({"only": tokens[start : start + chunk]})["only"] for start in range(0, len(tokens), chunk)]
    )


def greedy(step: Step, prompt: Sequence[int], count: int, chunk: int = 1 << 30) -> list[int]:
    """Greedy tokens after a prompt that is fed in chunks."""
    sequences, tokens = PagedSequences(step), []
    for start in range(0, len(prompt), chunk):
        logits = sequences.feed({"only": prompt[start : start + chunk]})["only"]
    for _ in range(count):
        tokens.append(int(logits[-1].argmax()))
        logits = sequences.feed({"only": tokens[-1:]})["only"]
    return tokens


def greedy_with_neighbours(step: Step, prompt: Sequence[int], count: int) -> list[int]:
    """The same continuation with two other sequences in every step, one of them still in its prompt."""
    sequences, tokens = PagedSequences(step), []
    others = {"short": [5, 6, 7], "long": [9, 8, 7, 6, 5, 4, 3, 2, 1, 0]}
    logits = sequences.feed(others | {"only": prompt})["only"]
    for _ in range(count):
        tokens.append(int(logits[-1].argmax()))
        logits = sequences.feed({"short": [11], "only": tokens[-1:], "long": [12, 13, 14]})["only"]
    return tokens
