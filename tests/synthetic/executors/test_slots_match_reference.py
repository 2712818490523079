"""The linear-slot graph on real arithmetic: a crowded engine's text and scores are the reference's, each alone."""

from __future__ import annotations

import random
from collections.abc import Sequence as Many
from pathlib import Path

import numpy as np
import pytest
from slot_graph import write_slot_graph
from tiny import FloatTensor, tiny_checkpoint, tiny_weights

from build_engine.checkpoint import Checkpoint
from build_engine.families.names import EMBEDDING
from runtime.bundle.architecture import ScoreHead
from runtime.executors.finishers import NOT_FINITE
from runtime.executors.host import HostExecutor, HostModel
from runtime.executors.ort_slots import OrtSlotRunner
from runtime.executors.reference import ReferenceModel
from runtime.executors.slot_model import SlotModel
from runtime.request import SamplingParams
from runtime.scheduler import Aggressive, Emission, Group, KvCache, Scheduler, SchedulerConfig, Sequence
from runtime.scheduler.admission import Load

SLOTS, CAPACITY, CONTEXT, CHUNK, ROWS = 5, 65, 64, 12, 7
POISON = 259
Request = tuple[list[int], int, int]
Answers = dict[tuple[int, int], list[Emission]]


class Careless(Aggressive):
    """Lets everybody in, so that somebody has to give way."""

    def admits(self, running: Many[Sequence], candidate: Group, load: Load) -> bool:
        return True


def slot_model(checkpoint: Checkpoint, folder: Path) -> SlotModel:
    write_slot_graph(checkpoint, folder, CAPACITY)
    return SlotModel(OrtSlotRunner(folder, slots=SLOTS, chunk=CHUNK, threads=2), ROWS + 4)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> SlotModel:
    return slot_model(tiny_checkpoint("llama"), tmp_path_factory.mktemp("slots"))


@pytest.fixture(scope="module")
def reference() -> ReferenceModel:
    checkpoint = tiny_checkpoint("llama")
    return ReferenceModel(checkpoint.architecture, tiny_weights(checkpoint), num_blocks=64, block_size=4)


def run(model: HostModel, requests: dict[int, Request], rng: random.Random | None = None, **wishes: object) -> Answers:
    """All requests on one engine; with ``rng`` each comes at a random moment, and some of the others are aborted."""
    sharing = not isinstance(model, SlotModel)
    limits = {"max_rows": ROWS, "max_step_tokens": 30, "max_logit_rows": ROWS + 4}
    executor = HostExecutor(
        model, eos_token_ids=frozenset(), max_sequence_tokens=CONTEXT, prefix_sharing=sharing, **limits
    )
    kv = KvCache(model.num_blocks, model.block_size, sharing=sharing)
    scheduler = Scheduler(SchedulerConfig(**limits), kv, Careless())
    answers: Answers = {}
    todo = list(requests.items())
    while todo or scheduler.has_work:
        while todo and (rng is None or rng.random() < 0.4 or not scheduler.has_work):
            number, (prompt, count, samples) = todo.pop(0)
            params = SamplingParams(max_new_tokens=count, ignore_eos=True, **wishes)
            scheduler.add(Group((b"", number), list(prompt), params, samples=samples))
        if rng is not None and rng.random() < 0.05:
            scheduler.abort((b"", rng.choice(list(requests))))
        step = scheduler.plan()
        if step is None:
            continue
        for emission in scheduler.commit(step, executor.collect(executor.submit(step.plan))):
            answers.setdefault((emission.sequence.group.key[1], emission.sequence.sample), []).append(emission)
    if rng is not None:
        assert scheduler.counters.preemptions > 0
    return {key: found for key, found in answers.items() if found[-1].finish}


def text(answers: Answers) -> dict[tuple[int, int], list[int]]:
    return {key: [emission.token for emission in found] for key, found in answers.items()}


def random_requests(rng: random.Random, count: int) -> dict[int, Request]:
    def one() -> Request:
        length = rng.randrange(1, 40)
        return [rng.randrange(4, POISON) for _ in range(length)], rng.randrange(1, 22), rng.choice([1, 1, 2])

    return {number: one() for number in range(count)}


@pytest.mark.parametrize("seed", range(4))
def test_a_crowds_greedy_text_is_the_references(model: SlotModel, reference: ReferenceModel, seed: int) -> None:
    """Prompts in chunks beside decodes with holes; some are aborted, some preempted, samples copy a slot."""
    rng = random.Random(seed)
    requests = random_requests(rng, 16)
    answers = run(model, requests, rng)
    assert len(answers) > 8
    for number, request in requests.items():
        alone = text(run(reference, {number: request}))
        assert {key: tokens for key, tokens in text(answers).items() if key[0] == number}.items() <= alone.items()


def test_log_probabilities_are_close_to_the_references(model: SlotModel, reference: ReferenceModel) -> None:
    requests = random_requests(random.Random(9), 6)
    found, want = (run(each, requests, prompt_logprobs=True) for each in (model, reference))
    assert text(found) == text(want)
    for key, emissions in want.items():
        logprobs = [emission.logprob for emission in emissions]
        np.testing.assert_allclose([emission.logprob for emission in found[key]], logprobs, atol=1e-4)
        prompt = [found[key][0].sequence.prompt_logprobs, emissions[0].sequence.prompt_logprobs]
        np.testing.assert_allclose(*prompt, atol=1e-4)


def test_what_is_not_finite_fails_alone_and_does_not_spoil_the_slots_next_sequence(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("llama")
    table = checkpoint.tensors[EMBEDDING].float32().copy()
    table[POISON] = np.nan
    checkpoint.tensors[EMBEDDING] = FloatTensor(EMBEDDING, table)
    model = slot_model(checkpoint, tmp_path)
    healthy = {number: ([number + 4] * 9, 5, 1) for number in range(4)}
    poisoned = {number + 10: ([number + 4, POISON, *[7] * 20], 5, 1) for number in range(3)}
    want = text(run(model, healthy))
    mixed = run(model, poisoned | healthy | {number + 20: request for number, request in poisoned.items()})
    assert [found[0].error for (number, _), found in mixed.items() if number >= 10] == [NOT_FINITE] * 6
    assert {key: tokens for key, tokens in text(mixed).items() if key[0] < 10} == want


def test_scores_are_close_to_the_references(tmp_path: Path) -> None:
    checkpoint = tiny_checkpoint("llama", score_head=ScoreHead())
    reference = ReferenceModel(checkpoint.architecture, tiny_weights(checkpoint), num_blocks=64, block_size=4)
    model = slot_model(checkpoint, tmp_path)
    assert model.scores
    requests = {number: (prompt, 1, 1) for number, (prompt, _, _) in random_requests(random.Random(3), 12).items()}
    found, want = (run(each, requests) for each in (model, reference))
    scores = [[answers[key][0].score for key in sorted(want)] for answers in (found, want)]
    np.testing.assert_allclose(*scores, atol=1e-4)


def test_closing_it_lets_go_of_the_caches(tmp_path: Path) -> None:
    slot_model(tiny_checkpoint("llama"), tmp_path).close()
