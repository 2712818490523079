"""Outputs that begin as they must: the bits of a run alone under preemption, with drafts, for several samples."""

from __future__ import annotations

import random

import numpy as np
import pytest
from draft_sources import Reader
from harness import Harness

from runtime.executors.scripted import Script
from runtime.request import Opening, OpeningState
from runtime.scheduler import FixedSpeculation, Speculation

LOOSE = Script(vocab_size=40, eos_token_ids=(0,), eos_period=9, block_size=4, max_sequence_tokens=200)
MADE = [
    {
        "prompt": [number + 1] * (number + 3),
        "max_new_tokens": 14,
        "top_k": -1,
        "temperature": 5.0,
        "seed": number,
        "ignore_eos": True,
        "samples": 1 + number % 2,
    }
    for number in range(6)
]


def maze(rng: random.Random) -> Opening:
    """Up to four tokens of a few each; wherever one leads, it is forwards."""

    def state(number: int) -> OpeningState:
        ids = rng.sample(range(1, 40), 5)
        following = tuple((token, number + 1) for token in ids[:3]) if number < 3 else ()
        return OpeningState.of(ids, following)

    return tuple(state(number) for number in range(4))


OPENINGS = [maze(random.Random(number)) for number in range(6)]


def run(numbers: list[int], num_blocks: int, speculation: Speculation | None) -> Harness:
    harness = Harness(
        script=LOOSE, num_blocks=num_blocks, max_rows=8, max_step_tokens=24, spare_logit_rows=9, speculation=speculation
    )
    for number in numbers:
        harness.add(number, opening=OPENINGS[number], **MADE[number])
    harness.run()
    return harness


@pytest.fixture(scope="module")
def alone() -> dict[tuple[int, int], tuple[list[int], list[float]]]:
    found = {}
    for number in range(6):
        harness = run([number], 64, None)
        found |= {key: (tokens, harness.logprobs[key]) for key, tokens in harness.outputs.items()}
    return found


def test_an_output_begins_as_it_must(alone: dict[tuple[int, int], tuple[list[int], list[float]]]) -> None:
    for (number, _), (tokens, _) in alone.items():
        at: int | None = 0
        for token in tokens:
            if at is None:
                break
            state = OPENINGS[number][at]
            assert token in np.frombuffer(state.allowed, "<i4")
            at = dict(state.following).get(token)


@pytest.mark.parametrize("skill", [None, 0.0, 0.7, 1.0])
@pytest.mark.parametrize("num_blocks", [14, 128])
def test_neighbours_preemptions_and_drafts_change_nothing(
    alone: dict[tuple[int, int], tuple[list[int], list[float]]], num_blocks: int, skill: float | None
) -> None:
    texts = {key: tokens for key, (tokens, _) in alone.items()}
    speculation = None if skill is None else FixedSpeculation(Reader(texts, skill, 3), 3)
    harness = run(list(range(6)), num_blocks, speculation)
    assert {key: (tokens, harness.logprobs[key]) for key, tokens in harness.outputs.items()} == alone
    counters = harness.scheduler.counters
    assert (counters.preemptions > 0) == (num_blocks == 14)
    assert (counters.accepted_tokens > 0) == bool(skill)
