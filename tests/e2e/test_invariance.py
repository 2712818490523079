"""A position's logits have the same bits however they come about: alone or in company, in any steps, on any threads.

Each row of logits is known by the tokens before it, and compared with the one after the same tokens in a run of the
text alone in one step. Every text meets some of the conditions, every condition meets many texts; ``make invariance``
runs them all against each other.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from pathlib import Path
from typing import cast

import numpy as np
import pytest
from cut_texts import CUTS, STEP_TOKENS, Job, compute, texts_of
from tokenizers import Tokenizer
from witness import Observations, Reference, Witness

from runtime.bundle.bundle import TOKENIZER_FILE
from runtime.executors import StepInputs
from runtime.executors.host import HostExecutor, HostModel
from runtime.executors.ort import OrtModel
from runtime.request import SamplingParams
from runtime.scheduler import Aggressive, Group, KvCache, Scheduler, SchedulerConfig

TEXTS = 200
LEAST = 20
"""Texts that meet a condition."""
THREADS = (1, 2)
COMPANIES = (1, 2, 7, 32)
NUM_BLOCKS = 700


@pytest.fixture(scope="module", params=THREADS)
def threads(request: pytest.FixtureRequest) -> int:
    return int(request.param)


@pytest.fixture(scope="module")
def witnesses(default_bundle: Path) -> Iterator[dict[int, Witness]]:
    """The default model for each number of threads."""
    limits = {"num_blocks": NUM_BLOCKS, "max_logit_rows": STEP_TOKENS, "spinning": False}
    opened = {threads: Witness(OrtModel(default_bundle, threads=threads, **limits)) for threads in THREADS}
    yield opened
    for witness in opened.values():
        witness.close()


@dataclass
class Crowd:
    """What came of prompts that were served together, with too little memory.

    Attributes:
        texts: Prompts with what was generated after them.
        resumed: Prompts that began to be computed again after they had been stopped.
        hits: Prompts that began on blocks which others had left.
    """

    texts: list[list[int]] = field(default_factory=list, repr=False)
    observed: Observations = field(default_factory=list, repr=False)
    resumed: set[tuple[int, ...]] = field(default_factory=set, repr=False)
    hits: set[tuple[int, ...]] = field(default_factory=set, repr=False)


def serve(witness: Witness, prompts: list[list[int]], *, prefix_cache: bool, seed: int) -> Crowd:
    """Prompts come at random moments to a scheduler with memory for a few of them."""
    rng, crowd = random.Random(seed), Crowd()
    limits = {"max_rows": 12, "max_step_tokens": rng.choice([90, 128]), "max_logit_rows": 32}
    executor = HostExecutor(witness, eos_token_ids=frozenset(), max_sequence_tokens=STEP_TOKENS, **limits)
    kv = KvCache(24, witness.block_size, prefix_cache=prefix_cache)
    scheduler = Scheduler(SchedulerConfig(**limits), kv, Aggressive())
    groups = [
        Group((b"", i), prompt, SamplingParams(max_new_tokens=rng.randrange(16, 40), top_k=1, ignore_eos=True))
        for i, prompt in enumerate(prompts)
    ]
    coming = list(groups)

    def run() -> None:
        while coming or scheduler.has_work:
            while coming and (rng.random() < 0.5 or not scheduler.has_work):
                scheduler.add(coming.pop(0))
            step = scheduler.plan()
            assert step is not None
            for start in step.plan.starts:
                prompt = tuple(start.tokens[: start.prompt_length])
                if start.computed:
                    crowd.hits.add(prompt)
                if len(start.tokens) > start.prompt_length:
                    crowd.resumed.add(prompt)
            scheduler.commit(step, executor.collect(executor.submit(step.plan)))

    crowd.observed = witness.watch(run)
    crowd.texts = [group.sequences[0].tokens[:-1] for group in groups]
    return crowd


@pytest.fixture(scope="module")
def prompts(default_bundle: Path) -> list[list[int]]:
    return texts_of(Tokenizer.from_file(str(default_bundle / TOKENIZER_FILE)), TEXTS)


@pytest.fixture(scope="module")
def crowds(witnesses: dict[int, Witness], prompts: list[list[int]]) -> list[Crowd]:
    """Half of the prompts with a prefix cache, half without, where everything that was dropped is computed again."""
    first, second = prompts[: TEXTS // 2], prompts[TEXTS // 2 :]
    return [
        serve(witnesses[2], first, prefix_cache=True, seed=0),
        serve(witnesses[2], second, prefix_cache=False, seed=1),
    ]


@pytest.fixture(scope="module")
def texts(crowds: list[Crowd]) -> list[list[int]]:
    """The prompts and what was generated."""
    return [text for crowd in crowds for text in crowd.texts]


@pytest.fixture(scope="module")
def reference(witnesses: dict[int, Witness], texts: list[list[int]]) -> Reference:
    rng, bits, places = random.Random(0), {}, {}
    for number, text in enumerate(texts):
        alone = [Job(text, [len(text)])]
        for position, (key, found) in enumerate(witnesses[1].watch(partial(compute, witnesses[1], alone, rng))):
            assert bits.setdefault(key, found) == found
            places.setdefault(key, (number, position))
    return Reference(bits, places)


def test_prefix_hits_and_recomputing_after_a_preemption(crowds: list[Crowd], reference: Reference) -> None:
    cached, uncached = crowds
    hits, resumed = len(cached.hits), len(cached.resumed | uncached.resumed)
    assert min(hits, resumed) >= LEAST
    for crowd in crowds:
        assert len(crowd.observed) > 10 * LEAST
        assert reference.differences(crowd.observed) == []


@dataclass(frozen=True)
class Cell:
    """Texts, by number, that are computed together, each with its way to be cut."""

    threads: int
    company: int
    texts: tuple[tuple[int, str], ...]


def covering(seed: int = 0) -> list[Cell]:
    """A design in which ways to cut, companies and numbers of threads meet each other, and each text meets several."""
    rng, cells, order, cuts = random.Random(seed), [], [], []
    for threads, company in product(THREADS, COMPANIES):
        for _ in range(-(-2 * LEAST // company)):
            members = []
            for _ in range(company):
                order = order or rng.sample(range(TEXTS), TEXTS)
                cuts = cuts or rng.sample(sorted(CUTS), len(CUTS))
                members.append((order.pop(), cuts.pop()))
            cells.append(Cell(threads, company, tuple(members)))
    return cells


def run_cell(witness: Witness, cell: Cell, texts: list[list[int]]) -> Observations:
    rng = random.Random(str(cell))
    jobs = [Job(texts[number], CUTS[cut](len(texts[number]), rng)) for number, cut in cell.texts]
    return witness.watch(lambda: compute(witness, jobs, rng))


def test_a_model_that_minds_its_neighbours_is_found_out() -> None:
    class Minding:
        num_blocks, block_size, scores = 12, 4, False

        def forward(self, inputs: StepInputs) -> np.ndarray:
            logits = np.zeros((len(inputs.logits_rows), 3), np.float32)
            return np.nextafter(logits, 1, dtype=np.float32) if len(inputs.past_lens) > 1 else logits

    witness = Witness(cast("HostModel", Minding()))
    rng, texts = random.Random(0), [[5, 6, 7, 8, 9], [1, 2]]
    alone = witness.watch(lambda: [compute(witness, [Job(text, [len(text)])], rng) for text in texts])
    reference = Reference(dict(alone), {key: (0, place) for place, (key, _) in enumerate(alone)})
    jobs = [Job(text, [1] * len(text)) for text in texts]
    assert reference.differences(witness.watch(lambda: compute(witness, jobs, rng))) == [
        (0, place) for place in (0, 1, 5, 6)
    ]


def test_every_condition_meets_enough_texts() -> None:
    met: Counter[object] = Counter()
    for cell in covering():
        for _, cut in cell.texts:
            met.update([("threads", cell.threads), ("company", cell.company), cut])
    assert set(CUTS) < set(met)
    assert min(met.values()) >= LEAST


@pytest.mark.parametrize("company", COMPANIES)
def test_any_steps_in_any_company(
    witnesses: dict[int, Witness], texts: list[list[int]], reference: Reference, threads: int, company: int
) -> None:
    for cell in covering():
        if (cell.threads, cell.company) == (threads, company):
            assert reference.differences(run_cell(witnesses[threads], cell, texts)) == [], cell


@pytest.mark.soak
@pytest.mark.parametrize("company", COMPANIES)
@pytest.mark.parametrize("cut", CUTS)
def test_every_text_in_these_steps_and_this_company(
    witnesses: dict[int, Witness], texts: list[list[int]], reference: Reference, threads: int, company: int, cut: str
) -> None:
    order = random.Random(f"{cut} {company}").sample(range(TEXTS), TEXTS)
    for first in range(0, TEXTS, company):
        cell = Cell(threads, company, tuple((number, cut) for number in order[first : first + company]))
        assert reference.differences(run_cell(witnesses[threads], cell, texts)) == [], cell
