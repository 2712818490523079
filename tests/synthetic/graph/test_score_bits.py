"""A score's bits depend on its own sequence alone, whatever the width of the head."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from paged import BLOCK_SIZE, PagedSequences, Step, engine_step, forward
from tiny import VOCAB_SIZE, tiny_checkpoint

from build_engine.targets.cpu import CpuOptions, compile_cpu
from runtime.bundle.architecture import ScoreHead

ROWS = 70
TOKENS = np.random.RandomState(3).randint(0, VOCAB_SIZE, ROWS).tolist()
HEADS = {
    "64": (64, ScoreHead()),
    "576": (576, ScoreHead()),
    "2048": (2048, ScoreHead()),
    "576-to-100": (576, ScoreHead(hidden_size=100, bias=True)),
    "2048-to-2048": (2048, ScoreHead(hidden_size=2048, bias=True)),
}


@pytest.fixture(scope="module", params=HEADS, ids=str)
def directory(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    width, head = HEADS[request.param]
    path = tmp_path_factory.mktemp(f"head-{request.param}")
    checkpoint = tiny_checkpoint(hidden_size=width, num_layers=1, intermediate_size=64, score_head=head)
    compile_cpu(checkpoint, path, CpuOptions(precision="int8", block_size=BLOCK_SIZE), lambda *_: None)
    return path


def _scores_of_first(step: Step, rows: int) -> np.ndarray:
    """Scores of the first tokens of one whole sequence."""
    table = np.arange(-(-ROWS // BLOCK_SIZE), dtype=np.int32)[None]
    lengths = (np.array([0, ROWS], np.int32), np.zeros(1, np.int32))
    return step(np.array(TOKENS), *lengths, table, np.arange(rows, dtype=np.int64))


@pytest.mark.parametrize("threads", [1, 2, 3])
def test_any_number_of_wanted_rows_gives_a_row_the_same_bits(directory: Path, threads: int) -> None:
    whole = forward(engine_step(directory), TOKENS)
    step = engine_step(directory, threads=threads)
    different = [rows for rows in range(1, ROWS + 1) if (_scores_of_first(step, rows) != whole[:rows]).any()]
    assert not different
    assert len(np.unique(whole)) > ROWS - 10


def test_single_tokens_and_neighbours_give_the_bits_of_the_whole(directory: Path) -> None:
    step = engine_step(directory)
    whole = forward(step, TOKENS)
    alone, among = PagedSequences(step), PagedSequences(step)
    one_by_one = [alone.feed({"only": [token]})["only"][0] for token in TOKENS]
    np.testing.assert_array_equal(np.array(one_by_one), whole)
    neighbours = [
        among.feed({"before": [5, 6, 7], "only": TOKENS[start : start + 14], "after": [9]})["only"]
        for start in range(0, ROWS, 14)
    ]
    np.testing.assert_array_equal(np.concatenate(neighbours), whole)
