"""Texts for a model, and the many ways to cut each of them into steps."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import chain

from tokenizers import Tokenizer

from build_engine.reward_head.questions import read_questions
from build_engine.verify.compare import verification_texts
from runtime.executors.host import HostModel
from runtime.executors.rows import RowTable
from runtime.request import SamplingParams
from runtime.scheduler.plan import Logits, RowStart, RowWork, StepPlan

MOST_TOKENS = 300
STEP_TOKENS = 384
"""Of one step; more rows of logits than this are never wanted at once."""
STEMS = 5


def texts_of(tokenizer: Tokenizer, count: int) -> list[list[int]]:
    """Stretches of the checked-in texts, of 1 to ``MOST_TOKENS`` tokens; every other one begins as more do."""
    rng = random.Random(2)
    written = [*verification_texts(), *(f"{each.question} {each.answer}" for each in read_questions())]
    tokens = list(chain.from_iterable(tokenizer.encode(text).ids for text in written))

    def stretch(length: int) -> list[int]:
        start = rng.randrange(len(tokens) - length)
        return tokens[start : start + length]

    stems = [stretch(rng.randrange(20, 100)) for _ in range(STEMS)]
    lengths = [1, 2, 15, 16, 17, 64, 65, 257, MOST_TOKENS]
    lengths += [min(MOST_TOKENS, int(rng.lognormvariate(3.5, 0.9)) + 1) for _ in range(count - len(lengths))]
    return [stretch(n) if i % 2 else (rng.choice(stems) + stretch(n))[:MOST_TOKENS] for i, n in enumerate(lengths)]


Cut = Callable[[int, random.Random], list[int]]
"""Sizes of the steps in which a text of so many tokens is computed."""


def chunks(size: int) -> Cut:
    """Equal steps."""
    return lambda length, rng: [min(size, length - start) for start in range(0, length, size)]


def odd(length: int, rng: random.Random) -> list[int]:
    """Steps of all sizes."""
    cuts = sorted(rng.sample(range(1, length), min(length - 1, rng.randrange(1, 7))))
    return [end - start for start, end in zip([0, *cuts], [*cuts, length], strict=True)]


def decode(length: int, rng: random.Random) -> list[int]:
    """A prompt, then token by token."""
    generated = min(length - 1, rng.randrange(4, 12))
    return [length - generated, *[1] * generated]


def drafts(length: int, rng: random.Random) -> list[int]:
    """A prompt, then steps of a token and up to eight more that somebody guessed."""
    sizes = [length - min(length - 1, rng.randrange(8, 40))]
    while (left := length - sum(sizes)) > 0:
        sizes.append(min(left, rng.randrange(1, 10)))
    return sizes


CUTS: dict[str, Cut] = {
    "whole": chunks(STEP_TOKENS),
    "chunks of 1": chunks(1),
    "chunks of 7": chunks(7),
    "chunks of 64": chunks(64),
    "chunks of 256": chunks(256),
    "odd chunks": odd,
    "decode": decode,
    "drafts": drafts,
}


@dataclass
class Job:
    """A text and the sizes of its steps that are still to come."""

    text: list[int]
    sizes: list[int]


def compute(model: HostModel, jobs: Sequence[Job], rng: random.Random) -> None:
    """Computes texts together, in scattered blocks, with logits for each token.

    Every step takes the next size of as many jobs as fit into it, another one first each time.
    """
    table = RowTable(len(jobs), STEP_TOKENS, model.block_size)
    free = rng.sample(range(model.num_blocks), model.num_blocks)
    for row, job in enumerate(jobs):
        blocks = [free.pop() for _ in range(-(-len(job.text) // model.block_size))]
        table.start(RowStart(row, job.text, len(job.text), 0, blocks, SamplingParams()))
    sizes = [list(job.sizes) for job in jobs]
    waiting = [row for row, _ in enumerate(jobs)]
    while waiting:
        work: list[RowWork] = []
        for row in waiting:
            size = sizes[row][0]
            if size + sum(item.count for item in work) <= STEP_TOKENS:
                work.append(RowWork(row, size, [], Logits.LAST if size == 1 else Logits.ALL, samples=False))
        model.forward(table.pack(StepPlan(work=work)))
        table.advance(work)
        for item in work:
            del sizes[item.row][0]
        waiting = [row for row in [*waiting[1:], waiting[0]] if sizes[row]]
