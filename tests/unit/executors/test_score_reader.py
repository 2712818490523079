"""The host executor on a scripted reward model: scores reach the right rows, and a bad one fails alone."""

from __future__ import annotations

import pytest

from runtime.executors.finishers import SCORE_NOT_FINITE
from runtime.executors.host import HostExecutor
from runtime.executors.scripted import Script, ScriptedModel, score_of
from runtime.request import SamplingParams
from runtime.scheduler import Logits, RowStart, RowWork, StepOutput, StepPlan

POISON = 42
SCRIPT = Script(vocab_size=50, block_size=4, max_sequence_tokens=32, nan_on_token=POISON, scores=True)
NONE, LAST, ALL = Logits
UNREAD = SamplingParams(temperature=-1.0, top_k=0, allowed_token_ids=(99,), frequency_penalty=float("nan"))


@pytest.fixture
def host() -> HostExecutor:
    limits = {"max_rows": 4, "max_step_tokens": 16, "max_logit_rows": 16, "max_sequence_tokens": 32}
    return HostExecutor(ScriptedModel(SCRIPT, 32), eos_token_ids=frozenset({0}), **limits)


def start(row: int, tokens: list[int]) -> RowStart:
    """A row whose blocks are its own eight."""
    return RowStart(row, tokens, len(tokens), 0, list(range(8 * row, 8 * row + 8)), UNREAD)


def run(host: HostExecutor, items: list[tuple[int, int, Logits, bool]], *starts: RowStart) -> StepOutput:
    work = [RowWork(row, count, [], logits, samples) for row, count, logits, samples in items]
    return host.collect(host.submit(StepPlan(ends=[0], starts=list(starts), work=work)))


def test_each_prompt_that_is_through_gets_its_own_score(host: HostExecutor) -> None:
    prompts = [[1, 2, 3, 4], [5, 6, 7], [9, 8, 7, 6, 5], [3, 3]]
    items = [(0, 4, LAST, True), (1, 3, ALL, True), (2, 3, NONE, False), (3, 2, LAST, True)]
    output = run(host, items, *(start(row, prompt) for row, prompt in enumerate(prompts)))
    assert output == StepOutput(scores={row: score_of(SCRIPT, prompts[row]) for row in (0, 1, 3)})
    assert run(host, [(2, 2, LAST, True)]) == StepOutput(scores={2: score_of(SCRIPT, prompts[2])})


def test_a_step_of_chunks_scores_nothing(host: HostExecutor) -> None:
    assert run(host, [(0, 2, NONE, False)], start(0, [1, 2, 3])) == StepOutput()


def test_a_score_that_is_not_finite_fails_its_row_alone(host: HostExecutor) -> None:
    output = run(host, [(0, 2, LAST, True), (1, 2, LAST, True)], start(0, [1, POISON]), start(1, [POISON, 2]))
    assert output == StepOutput(scores={1: score_of(SCRIPT, [POISON, 2])}, errors={0: SCORE_NOT_FINITE})


def test_a_row_that_starts_again_is_scored_anew(host: HostExecutor) -> None:
    for prompt in ([1, 2, 3, 4, 5], [8, 9]):
        output = run(host, [(0, len(prompt), LAST, True)], start(0, prompt))
        assert output.scores == {0: score_of(SCRIPT, prompt)}
