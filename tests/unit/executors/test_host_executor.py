"""The host executor on a scripted model: logits reach the right rows, and a bad row fails alone."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt
import pytest

from runtime.executors.finishers import NOT_FINITE
from runtime.executors.host import HostExecutor
from runtime.executors.rows import StepInputs
from runtime.executors.scripted import Script, ScriptedModel, next_token
from runtime.request import SamplingParams
from runtime.scheduler import Logits, RowStart, RowWork, StepOutput, StepPlan

POISON = 42
SCRIPT = Script(vocab_size=50, block_size=4, max_sequence_tokens=32, nan_on_token=POISON)
NONE, LAST, ALL = Logits
GREEDY = SamplingParams()
RANDOM = SamplingParams(top_k=-1, temperature=9.0, seed=5)


class Model(ScriptedModel):
    """Remembers whether it was closed, and the last inputs."""

    closed = False

    def forward(self, inputs: StepInputs) -> npt.NDArray[np.float32]:
        self.inputs = inputs
        return super().forward(inputs)

    def close(self) -> None:
        self.closed = True


def executor(rows: int = 4) -> HostExecutor:
    return HostExecutor(
        Model(SCRIPT, 32),
        eos_token_ids=frozenset({0}),
        max_rows=rows,
        max_step_tokens=16,
        max_logit_rows=16,
        max_sequence_tokens=32,
    )


def start(
    row: int, tokens: list[int], params: SamplingParams = GREEDY, prompt_length: int = 0, sample: int = 0
) -> RowStart:
    """A row whose blocks are its own eight."""
    return RowStart(row, tokens, prompt_length or len(tokens), 0, list(range(8 * row, 8 * row + 8)), params, sample)


def work(row: int, count: int, logits: Logits = LAST, *, samples: bool | None = None) -> RowWork:
    return RowWork(row, count, [], logits, logits is LAST if samples is None else samples)


def run(host: HostExecutor, items: list[RowWork], *starts: RowStart, ends: list[int] | None = None) -> StepOutput:
    return host.collect(host.submit(StepPlan(ends=ends or [], starts=list(starts), work=items)))


def logprobs(prompt: list[int], begin: int, end: int) -> list[float]:
    """Of the prompt's tokens ``begin`` to ``end``: the script says 8 for one token and 0 for the 49 others."""
    total = math.log(math.exp(8) + 49)
    return [8 * (next_token(SCRIPT, prompt[:place]) == prompt[place]) - total for place in range(begin, end)]


def scripted(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(SCRIPT, tokens))
    return tokens


def test_rows_that_want_all_the_last_or_no_logits_share_a_step() -> None:
    host = executor()
    prompts = [[1, 2, 3, 4], scripted([5], 3), [9, 8, 7, 6, 5], scripted([6], 4)]
    items = [work(0, 4), work(1, 4, ALL, samples=True), work(2, 3, NONE), work(3, 3, ALL)]
    output = run(host, items, *(start(row, prompt) for row, prompt in enumerate(prompts)))
    assert output.tokens == {0: [next_token(SCRIPT, prompts[0])], 1: [next_token(SCRIPT, prompts[1])]}
    assert all(output.logprobs[row] == pytest.approx([8 - math.log(math.exp(8) + 49)], abs=1e-6) for row in (0, 1))
    assert output.prompt_logprobs[1] == pytest.approx(logprobs(prompts[1], 1, 4))
    assert output.prompt_logprobs[3] == pytest.approx(logprobs(prompts[3], 1, 4))
    assert set(output.prompt_logprobs) == {1, 3}
    assert not output.errors


def test_a_chunks_last_token_is_judged_by_the_next_chunks_first() -> None:
    host = executor()
    prompt = [4, 9, *scripted([4, 9], 3)[2:], 11]
    first = run(host, [work(0, 2, ALL)], start(0, prompt))
    second = run(host, [work(0, 3, ALL)])
    third = run(host, [work(0, 1, ALL, samples=True)])
    chunks = [output.prompt_logprobs[0] for output in (first, second, third)]
    assert chunks == [pytest.approx(logprobs(prompt, *ends)) for ends in [(1, 3), (3, 6), (6, 6)]]
    assert third.tokens == {0: [next_token(SCRIPT, prompt)]}


def test_a_step_without_logits_samples_nothing() -> None:
    output = run(executor(), [work(0, 2, NONE)], start(0, [1, 2, 3]))
    assert output == StepOutput()


def test_a_sampled_token_is_the_rows_next_without_being_told() -> None:
    host = executor()
    outputs = [run(host, [work(0, 2)], start(0, [1, 2])), *(run(host, [work(0, 1)]) for _ in range(3))]
    assert [output.tokens[0] for output in outputs] == [[token] for token in scripted([1, 2], 4)[2:]]


def test_new_blocks_and_copies_reach_the_model_before_the_step() -> None:
    host = executor()
    prompt = [1, 2, 3, 4, 5, 6]
    run(host, [work(0, 6)], RowStart(0, prompt, 6, 0, [3, 1], GREEDY))
    fork = RowStart(1, prompt, 6, 5, [3, 9], GREEDY)
    plan = StepPlan(starts=[fork], block_copies=[(1, 9)], work=[RowWork(1, 1, [], LAST, samples=True)])
    assert host.collect(host.submit(plan)).tokens == {1: [next_token(SCRIPT, prompt)]}
    run(host, [work(1, 1)])
    run(host, [work(1, 1)])
    run(host, [RowWork(1, 1, [12], LAST, samples=True)])
    assert host.model.inputs.block_table.tolist() == [[3, 9, 12]]


def test_ending_a_row_that_is_not_in_use_does_nothing() -> None:
    host = executor()
    output = run(host, [work(0, 2)], start(0, [1, 2]), ends=[0, 3])
    assert output.tokens == {0: [next_token(SCRIPT, [1, 2])]}
    assert run(host, [work(0, 1)], ends=[3]).tokens


def test_a_row_may_end_and_start_in_one_step() -> None:
    host = executor()
    run(host, [work(0, 5)], start(0, [1, 2, 3, 4, 5], RANDOM))
    output = run(host, [work(0, 2)], start(0, [8, 9]), ends=[0])
    assert output.tokens == {0: [next_token(SCRIPT, [8, 9])]}


def test_a_prompt_whose_logits_are_not_finite_fails_its_row_alone() -> None:
    host = executor()
    prompts = [[1, 2, 3], [7, POISON, 8], [4, 5, 6]]
    items = [work(0, 3, ALL, samples=True), work(1, 3, ALL), work(2, 3)]
    output = run(host, items, *(start(row, prompt) for row, prompt in enumerate(prompts)))
    assert output.errors == {1: NOT_FINITE}
    assert set(output.prompt_logprobs) == {0}
    assert set(output.tokens) == {0, 2}


def test_a_sample_whose_logits_are_not_finite_fails_its_row_alone() -> None:
    output = run(executor(), [work(0, 2), work(1, 2)], start(0, [1, POISON]), start(1, [1, 2]))
    assert output.errors == {0: NOT_FINITE}
    assert output.tokens == {1: [next_token(SCRIPT, [1, 2])]}


def test_each_place_of_a_draft_is_sampled_until_one_is_wrong() -> None:
    host = executor()
    right, wrong = scripted([1, 2], 4), scripted([3, 4], 4)
    run(host, [work(0, 2), work(1, 2)], start(0, [1, 2]), start(1, [3, 4]))
    drafts = [tuple(right[3:5]), (wrong[3], 49 - wrong[4], wrong[5])]
    items = [RowWork(row, 1 + len(draft), [], LAST, samples=True, draft=draft) for row, draft in enumerate(drafts)]
    output = run(host, items)
    assert output.tokens == {0: right[3:6], 1: wrong[3:5]}
    assert [len(output.logprobs[row]) for row in (0, 1)] == [3, 2]
    output = run(host, [work(0, 1), work(1, 1)])
    assert output.tokens == {0: [next_token(SCRIPT, right)], 1: [wrong[5]]}


def draws(host: HostExecutor, row: int, first: int, count: int) -> list[int]:
    """Tokens of ``count`` steps, the first over ``first`` tokens."""
    return [run(host, [work(row, first if step == 0 else 1)]).tokens[row][0] for step in range(count)]


@pytest.mark.parametrize(
    "params",
    [RANDOM, SamplingParams(top_k=-1, temperature=9.0, seed=5, frequency_penalty=20.0, repetition_penalty=2.0)],
)
def test_a_row_that_resumes_draws_what_it_would_have_drawn(params: SamplingParams) -> None:
    host = executor()
    prompt = [3, 1, 2]
    run(host, [work(1, 1)], start(0, prompt, params), start(1, [1]))
    whole = draws(host, 0, 3, 12)
    run(host, [work(1, 1)], start(2, prompt + whole[:5], params, prompt_length=3), ends=[0])
    assert draws(host, 2, 8, 7) == whole[5:]


def test_samples_of_a_request_draw_apart() -> None:
    host = executor()
    run(host, [work(3, 1)], *(start(row, [3, 1, 2], RANDOM, sample=row) for row in range(3)), start(3, [1]))
    assert len({tuple(draws(host, row, 3, 8)) for row in range(3)}) == 3


def test_alternatives_go_with_the_rows_that_want_them() -> None:
    host = executor()
    wants = SamplingParams(top_logprobs=2)
    output = run(host, [work(0, 2), work(1, 2), work(2, 2)], start(0, [1, 2]), start(1, [1, 2], wants), start(2, [3]))
    token = next_token(SCRIPT, [1, 2])
    other = min({0, 1} - {token})
    (logprob,) = output.logprobs[1]
    assert output.top_logprobs == {1: [[(token, logprob), (other, pytest.approx(logprob - 8))]]}
    assert run(host, [work(1, 1)], start(1, [4])).top_logprobs == {}


def test_a_prompts_alternatives_are_over_the_same_distribution_as_its_logprobs() -> None:
    host = executor()
    prompt = [4, 9, *scripted([4, 9], 3)[2:], 11]
    wants = SamplingParams(top_logprobs=3, logit_bias=((7, 50.0),))
    output = run(host, [work(0, 6, ALL, samples=True)], start(0, prompt, wants))
    assert output.tokens == {0: [7]}
    assert len(output.prompt_top_logprobs[0]) == len(output.prompt_logprobs[0]) == 5
    for place, (top, logprob) in enumerate(zip(output.prompt_top_logprobs[0], output.prompt_logprobs[0], strict=True)):
        likeliest = next_token(SCRIPT, prompt[: place + 1])
        assert top[0] == (likeliest, pytest.approx(8 - math.log(math.exp(8) + 49)))
        assert (top[0][1] == logprob) == (prompt[place + 1] == likeliest)
        assert len(top) == 3


def test_a_bias_moves_a_rows_draw_and_nobody_elses() -> None:
    host = executor()
    biased = SamplingParams(logit_bias=((7, 50.0),))
    items = [work(0, 2), work(1, 2)]
    output = run(host, items, start(0, [1, 2], biased), start(1, [1, 2]))
    assert output.tokens == {0: [7], 1: [next_token(SCRIPT, [1, 2])]}
    assert run(host, [work(0, 1)]).tokens == {0: [7]}
    assert run(host, [work(0, 2)], start(0, [1, 2])).tokens == {0: [next_token(SCRIPT, [1, 2])]}


def test_closing_it_closes_the_model() -> None:
    host = executor()
    host.close()
    assert host.model.closed


def test_its_capabilities_are_the_models_and_its_own() -> None:
    offered = executor(rows=3).capabilities
    assert (offered.num_blocks, offered.block_size, offered.max_rows, offered.max_logit_rows) == (32, 4, 3, 16)
