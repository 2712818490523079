"""A row's bits depend on its own sequence alone: not on the rows beside it, nor on how its prompt was cut."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from paged import BLOCK_SIZE, PagedSequences, Step, engine_step, forward, reference_step
from tiny import VOCAB_SIZE, tiny_checkpoint

from build_engine.checkpoint import Checkpoint
from build_engine.targets.cpu import CpuOptions, compile_cpu
from runtime.bundle.architecture import ScoreHead

TOKENS = np.random.RandomState(11).randint(0, VOCAB_SIZE, 70).tolist()

# widths that fill no whole vector register but whole groups, biases, head norms, windows, softcaps, both bit widths
MODELS = {
    "q4_1-import": ("import", tiny_checkpoint(encoding="q4_1", intermediate_size=160)),
    "q4_0-import": ("import", tiny_checkpoint("mistral", encoding="q4_0")),
    "int8": ("int8", tiny_checkpoint("qwen2", num_kv_heads=1)),
    "int4": ("int4", tiny_checkpoint("qwen3", intermediate_size=224)),
    "fp32": ("fp32", tiny_checkpoint(intermediate_size=160)),
    "gelu": ("int8", tiny_checkpoint(activation="gelu_tanh")),
    "gemma2": ("int8", tiny_checkpoint("gemma2", vocab_size=263, intermediate_size=160)),
    "reward": ("int8", tiny_checkpoint("internlm2", score_head=ScoreHead())),
    "reward-layers": ("int8", tiny_checkpoint("qwen2", score_head=ScoreHead(hidden_size=72, bias=True))),
}


@pytest.fixture(scope="module", params=MODELS, ids=str)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    precision, checkpoint = MODELS[request.param]
    path = tmp_path_factory.mktemp(request.param)
    compile_cpu(checkpoint, path, CpuOptions(precision=precision, block_size=BLOCK_SIZE), lambda *_: None)
    return path


@pytest.fixture(scope="module")
def step(directory: Path) -> Step:
    return engine_step(directory)


@pytest.fixture(scope="module")
def whole(step: Step) -> npt.NDArray[np.float32]:
    return forward(step, TOKENS)


def test_any_number_of_rows_gives_a_row_the_same_bits(step: Step, whole: npt.NDArray[np.float32]) -> None:
    different = [count for count in range(1, 71) if not np.array_equal(forward(step, TOKENS[:count]), whole[:count])]
    assert not different


def test_decoding_gives_the_bits_of_prefill(step: Step, whole: npt.NDArray[np.float32]) -> None:
    sequences = PagedSequences(step)
    rows = [sequences.feed({"only": [token]})["only"] for token in TOKENS]
    np.testing.assert_array_equal(np.concatenate(rows), whole)


def test_neighbours_and_chunking_change_no_bit(step: Step, whole: npt.NDArray[np.float32]) -> None:
    draws = np.random.RandomState(5)
    sequences, rows, done = PagedSequences(step), [], 0
    while done < len(TOKENS):
        chunk = TOKENS[done : done + draws.randint(1, 12)]
        others = {name: draws.randint(0, VOCAB_SIZE, draws.randint(1, 9)).tolist() for name in ("before", "after")}
        fed = {"before": others["before"], "only": chunk, "after": others["after"]}
        rows.append(sequences.feed(fed)["only"])
        done += len(chunk)
    np.testing.assert_array_equal(np.concatenate(rows), whole)


def test_the_number_of_threads_changes_no_bit(directory: Path, whole: npt.NDArray[np.float32]) -> None:
    np.testing.assert_array_equal(forward(engine_step(directory, threads=1), TOKENS), whole)


def test_asking_for_fewer_logits_changes_no_bit(step: Step, whole: npt.NDArray[np.float32]) -> None:
    table = np.arange(-(-len(TOKENS) // BLOCK_SIZE), dtype=np.int32)[None]
    inputs = (np.array(TOKENS), np.array([0, len(TOKENS)], np.int32), np.zeros(1, np.int32), table)
    for rows in ([69], [3, 40], []):
        wanted = np.array(rows, np.int64)
        np.testing.assert_array_equal(step(*inputs, wanted), whole[wanted])


@pytest.mark.parametrize("checkpoint", [model for _, model in MODELS.values()], ids=list(MODELS))
def test_the_rowwise_reference_is_invariant_too(checkpoint: Checkpoint) -> None:
    tokens = TOKENS[:24]
    expected = forward(reference_step(checkpoint, rowwise=True), tokens)
    sequences = PagedSequences(reference_step(checkpoint, rowwise=True))
    rows = [sequences.feed({"other": [7, 8], "only": tokens[start : start + 5]})["only"] for start in range(0, 24, 5)]
    np.testing.assert_array_equal(np.concatenate(rows), expected)
