"""A whole engine on linear slots, with a script for a model: every output is that of a run alone."""

from __future__ import annotations

import logging
import random
from collections.abc import Sequence as Many

import pytest
from scripted_slots import ScriptedSlots

from runtime.engine.core import EngineCore
from runtime.engine.isolation import STEP_FAILED
from runtime.executors.finishers import NOT_FINITE
from runtime.executors.host import HostExecutor
from runtime.executors.scripted import Script, next_token, score_of
from runtime.executors.slot_model import SlotModel
from runtime.limits import EngineLimits
from runtime.messages import AddRequest, TokenOutput
from runtime.request import FinishReason, SamplingParams
from runtime.scheduler import Aggressive, FuturePeak, Group, Sequence
from runtime.scheduler.admission import Load

CAPACITY, CONTEXT = 65, 64
SCRIPT = Script(vocab_size=97, eos_period=23, block_size=CAPACITY)
POISON = 96
NAN = Script(vocab_size=97, eos_period=23, block_size=CAPACITY, nan_on_token=POISON)
FAILING = Script(vocab_size=97, eos_period=23, block_size=CAPACITY, fail_on_token=POISON)
SIZES = (1, 2, 4, 6)


class Careless(Aggressive):
    """Lets everybody in, so that somebody has to give way."""

    def admits(self, running: Many[Sequence], candidate: Group, load: Load) -> bool:
        return True


def engine(
    script: Script = SCRIPT, slots: int = 6, rows: int | None = None, step_tokens: int = 24, **options: object
) -> tuple[EngineCore, ScriptedSlots]:
    """More rows than slots make sequences give way to each other."""
    rows = rows or slots
    runner = ScriptedSlots(script, slots, **options)
    executor = HostExecutor(
        SlotModel(runner, rows + 8),
        eos_token_ids=frozenset({0}),
        max_rows=rows,
        max_step_tokens=step_tokens,
        max_logit_rows=rows + 8,
        max_sequence_tokens=CONTEXT,
        prefix_sharing=False,
    )
    limits = EngineLimits(
        max_request_tokens=CONTEXT,
        max_total_tokens=slots * CAPACITY,
        max_running=rows,
        max_queued=100,
        max_step_tokens=step_tokens,
        block_size=CAPACITY,
        vocab_size=97,
        eos_token_ids=(0,),
        scores=script.scores,
    )
    return EngineCore(executor, limits, Careless() if rows > slots else FuturePeak()), runner


def add(core: EngineCore, number: int, prompt: list[int], samples: int = 1, **params: object) -> None:
    assert core.add(b"", AddRequest(number, prompt, SamplingParams(**params), samples=samples)) is None


def expected(prompt: list[int], count: int, *, ignore_eos: bool = False) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(SCRIPT, tokens))
        if tokens[-1] == 0 and not ignore_eos:
            break
    return tokens[len(prompt) :]


def outputs(core: EngineCore, steps: int = 2000) -> dict[tuple[int, int], list[TokenOutput]]:
    collected: dict[tuple[int, int], list[TokenOutput]] = {}
    while core.has_work and steps:
        for output in core.step().get(b"", []):
            collected.setdefault((output.request_id, output.sample), []).append(output)
        assert core.check() == []
        steps -= 1
    return collected


def tokens(collected: list[TokenOutput]) -> list[int]:
    return [output.token_id for output in collected]


@pytest.mark.parametrize("sizes", [(), SIZES], ids=["any batch", "batch sizes"])
@pytest.mark.parametrize("seed", range(6))
def test_a_crowd_gets_what_each_would_get_alone(seed: int, sizes: tuple[int, ...]) -> None:
    """Prompts in chunks of several sizes beside decodes with holes; some are aborted, some preempted."""
    rng = random.Random(seed)
    rows = rng.choice([6, 9])
    core, runner = engine(rows=rows, chunk=rng.choice([3, 16]), logit_rows=rng.choice([2, 64]), batch_sizes=sizes)
    prompts, counts = {}, {}
    collected: dict[tuple[int, int], list[TokenOutput]] = {}
    for number in range(30):
        length = rng.randrange(1, 40)
        prompts[number] = [rng.randrange(1, 95) for _ in range(length)]
        counts[number] = rng.randrange(1, min(20, CONTEXT + 1 - length))
        add(core, number, prompts[number], rng.choice([1, 1, 3]), max_new_tokens=counts[number])
        for key, more in outputs(core, rng.randrange(3)).items():
            collected.setdefault(key, []).extend(more)
        if rng.random() < 0.2:
            core.abort(b"", rng.randrange(number + 1))
    for key, more in outputs(core).items():
        collected.setdefault(key, []).extend(more)
    ended = {key: found for key, found in collected.items() if found[-1].finish is not FinishReason.NONE}
    assert len(ended) > 20
    for (number, _), found in ended.items():
        assert tokens(found) == expected(prompts[number], counts[number])
    assert (core.stats().preemptions_total > 0) == (rows > 6)
    assert core.stats().prefix_hits_total == 0
    assert any(run.decode and -1 in run.places for run in runner.runs), "a batch with holes"


def test_every_slot_is_used_when_nothing_is_ever_preempted() -> None:
    core, _ = engine()
    for number in range(8):
        add(core, number, [number + 1] * 4, max_new_tokens=8, ignore_eos=True)
    core.step()
    assert core.stats().running == 6


def test_lone_requests_one_after_another_stay_in_the_first_slot() -> None:
    core, runner = engine()
    for number in range(3):
        add(core, number, [number + 1] * 4, max_new_tokens=4, ignore_eos=True)
        outputs(core)
    assert {len(run.token_ids) for run in runner.runs} == {1}
    assert {run.first_slot for run in runner.runs} == {0}


def test_samples_of_a_request_copy_their_prompts_slot() -> None:
    core, runner = engine()
    prompt = [7, 8, 9, 10]
    add(core, 1, prompt, samples=3, max_new_tokens=5, ignore_eos=True)
    found = outputs(core)
    assert [tokens(found[1, sample]) for sample in range(3)] == [expected(prompt, 5, ignore_eos=True)] * 3
    assert sum(not run.decode for run in runner.runs) == 1, "one of them ran the prompt"


def test_log_probabilities_of_a_prompt_come_from_every_chunk() -> None:
    core, _ = engine(chunk=5, logit_rows=3)
    add(core, 1, list(range(1, 20)), max_new_tokens=1, prompt_logprobs=True)
    whole, _ = engine()
    add(whole, 1, list(range(1, 20)), max_new_tokens=1, prompt_logprobs=True)
    first, second = (outputs(one)[1, 0][0].prompt_logprobs for one in (core, whole))
    assert first == second
    assert len(first or []) == 18


def test_a_context_is_filled_to_its_last_token() -> None:
    core, _ = engine()
    add(core, 1, [5] * 60, max_new_tokens=4, ignore_eos=True)
    add(core, 2, [6], max_new_tokens=30, ignore_eos=True)
    found = outputs(core)
    assert tokens(found[1, 0]) == expected([5] * 60, 4, ignore_eos=True)
    assert tokens(found[2, 0]) == expected([6], 30, ignore_eos=True)


def test_what_is_not_finite_fails_alone_and_leaves_a_clean_slot() -> None:
    core, runner = engine(NAN)
    add(core, 1, [4, 5, POISON], max_new_tokens=3)
    add(core, 2, [4, 5, 6], max_new_tokens=3, ignore_eos=True)
    found = outputs(core)
    assert found[1, 0][0].error == NOT_FINITE
    assert tokens(found[2, 0]) == expected([4, 5, 6], 3, ignore_eos=True)
    add(core, 3, [7, 8], max_new_tokens=3, ignore_eos=True)
    assert tokens(outputs(core)[3, 0]) == expected([7, 8], 3, ignore_eos=True)
    assert runner.cleared == [0]


def test_a_failing_run_costs_only_its_own_steps_requests(caplog: pytest.LogCaptureFixture) -> None:
    core, _ = engine(FAILING, step_tokens=6)
    add(core, 1, [4, 5], max_new_tokens=9, ignore_eos=True)
    core.step()
    add(core, 2, [7, POISON], max_new_tokens=3)
    with caplog.at_level(logging.CRITICAL):
        found = outputs(core)
    assert [output.error for output in found[2, 0]] == [STEP_FAILED]
    assert tokens(found[1, 0]) == expected([4, 5], 9, ignore_eos=True)[1:]
    add(core, 3, [7, 8], max_new_tokens=3, ignore_eos=True)
    assert tokens(outputs(core)[3, 0]) == expected([7, 8], 3, ignore_eos=True)


def test_a_reward_models_scores_are_those_of_whole_prompts() -> None:
    script = Script(vocab_size=97, block_size=CAPACITY, scores=True)
    core, _ = engine(script, chunk=5)
    prompts = [[number + 1] * (1 + 5 * number) for number in range(12)]
    for number, prompt in enumerate(prompts):
        add(core, number, prompt)
    found = outputs(core)
    assert [found[number, 0][0].score for number in range(12)] == [score_of(script, prompt) for prompt in prompts]


def test_closing_the_executor_closes_the_runner() -> None:
    core, runner = engine()
    core.executor.close()
    assert runner.closed
