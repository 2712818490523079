"""An executor that takes the next step before the one ahead of it is collected: what comes out is the same."""

from __future__ import annotations

import dataclasses
import itertools
import logging
import random

import pytest

from runtime.engine.admission import SHUTTING_DOWN
from runtime.engine.core import EngineCore
from runtime.engine.isolation import STEP_FAILED, EngineFailedError
from runtime.executors.base import StepHandle
from runtime.executors.host import HostExecutor
from runtime.executors.scripted import Script, ScriptedModel, next_token
from runtime.limits import EngineLimits
from runtime.messages import AddRequest, TokenOutput
from runtime.request import FinishReason, SamplingParams
from runtime.scheduler import Aggressive, StepOutput, StepPlan

SCRIPT = Script(vocab_size=97, eos_period=29, block_size=4, max_sequence_tokens=64)
Answers = dict[tuple[int, int], list[TokenOutput]]


class Ahead:
    """A scripted executor of some depth that fails where it is told to, as often as it is told to."""

    def __init__(self, depth: int, num_blocks: int) -> None:
        self.host = HostExecutor(
            ScriptedModel(SCRIPT, num_blocks),
            eos_token_ids=frozenset({0}),
            max_rows=4,
            max_step_tokens=16,
            max_logit_rows=8,
            max_sequence_tokens=64,
        )
        self.capabilities = dataclasses.replace(self.host.capabilities, depth=depth)
        self.submitted = self.collected = self.most = 0
        self.failing_submits: set[int] = set()
        self.failing_collects: set[int] = set()

    def submit(self, plan: StepPlan) -> StepHandle:
        self.submitted += 1
        assert self.submitted - self.collected <= self.capabilities.depth
        handle = self.host.submit(plan)
        if self.submitted in self.failing_submits:
            self.collected += 1
            raise RuntimeError("submit")
        self.most = max(self.most, self.submitted - self.collected)
        return self.submitted, handle

    def collect(self, handle: StepHandle) -> StepOutput:
        number, inner = handle
        self.collected += 1
        if number in self.failing_collects:
            raise RuntimeError("collect")
        return self.host.collect(inner)

    def close(self) -> None:
        self.host.close()


def engine(depth: int = 2, num_blocks: int = 40) -> tuple[EngineCore, Ahead]:
    executor = Ahead(depth, num_blocks)
    limits = EngineLimits(
        max_request_tokens=64,
        max_total_tokens=num_blocks * 4,
        max_running=4,
        max_queued=100,
        max_step_tokens=16,
        block_size=4,
        vocab_size=97,
        eos_token_ids=(0,),
    )
    return EngineCore(executor, limits, Aggressive()), executor


def add(core: EngineCore, number: int, prompt: list[int], count: int, **wishes: object) -> None:
    samples = int(str(wishes.pop("samples", 1)))
    params = SamplingParams(max_new_tokens=count, **wishes)
    assert core.add(b"", AddRequest(number, prompt, params, samples=samples)) is None


def run(core: EngineCore, steps: int = 1000) -> Answers:
    answers: Answers = {}
    while core.has_work and steps:
        for output in core.step().get(b"", []):
            answers.setdefault((output.request_id, output.sample), []).append(output)
        assert core.check() == []
        steps -= 1
    return answers


def bare(answers: Answers) -> dict[tuple[int, int], list[tuple[object, ...]]]:
    """Without what depends on the clock and on who came first."""
    return {
        key: [(o.token_id, o.logprob, o.finish, o.prompt_logprobs, o.error) for o in found]
        for key, found in sorted(answers.items())
    }


def expected(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(SCRIPT, tokens))
    return tokens[len(prompt) :]


@pytest.mark.parametrize("seed", range(8))
def test_its_answers_are_those_of_one_step_at_a_time(seed: int) -> None:
    found = []
    for depth in (1, 2, 3):
        rng = random.Random(seed)
        core, executor = engine(depth, num_blocks=rng.choice([20, 40]))
        for number in range(16):
            prompt = [rng.randrange(1, 97) for _ in range(rng.randrange(1, 25))]
            wishes = {"top_k": -1, "temperature": 9.0, "seed": seed} if number % 4 == 3 else {}
            wishes["prompt_logprobs"] = number % 5 == 0
            add(core, number, prompt, rng.randrange(1, 16), samples=rng.choice([1, 2]), **wishes)
        found.append(bare(run(core)))
        assert executor.most == depth
        assert executor.submitted == executor.collected
    assert found[0] == found[1] == found[2]
    assert len(found[0]) >= 16


def test_the_first_step_brings_nothing_and_the_last_ones_need_no_plan() -> None:
    core, executor = engine()
    add(core, 1, [5, 6], 1, ignore_eos=True)
    assert core.step() == {}
    assert core.has_work
    assert [output.finish for output in core.step()[b""]] == [FinishReason.LENGTH]
    assert not core.has_work
    assert executor.submitted == 1
    assert core.step() == {}


def test_what_was_aborted_while_it_flew_is_dropped() -> None:
    core, _ = engine()
    add(core, 1, [5, 6], 9, ignore_eos=True)
    add(core, 2, [7, 8], 9, ignore_eos=True)
    core.step()
    core.abort(b"", 1)
    found = run(core)
    assert set(found) == {(2, 0)}
    assert [output.token_id for output in found[2, 0]] == expected([7, 8], 9)
    assert core.stats().generated_tokens_total == 9


def test_a_submit_that_fails_comes_after_what_was_ahead_of_it(caplog: pytest.LogCaptureFixture) -> None:
    core, executor = engine()
    executor.failing_submits = {4, 5}
    add(core, 1, [5, 6], 9, ignore_eos=True)
    with caplog.at_level(logging.CRITICAL):
        found = run(core)[1, 0]
    assert [output.token_id for output in found] == [*expected([5, 6], 3), -1]
    assert found[-1].error == STEP_FAILED
    add(core, 2, [7, 8], 4, ignore_eos=True)
    assert [output.token_id for output in run(core)[2, 0]] == expected([7, 8], 4)


def test_a_collect_that_fails_costs_only_its_own_steps_sequences(caplog: pytest.LogCaptureFixture) -> None:
    core, executor = engine()
    executor.failing_collects = {2, 4}
    add(core, 1, [5, 6], 9, ignore_eos=True)
    core.step()
    core.step()
    add(core, 2, [7, 8], 4, ignore_eos=True)
    with caplog.at_level(logging.CRITICAL):
        found = run(core)
    assert [output.error for output in found[1, 0]] == [STEP_FAILED]
    assert [output.token_id for output in found[2, 0]] == expected([7, 8], 4)
    assert core.stats().running == 0


def test_both_steps_may_fail(caplog: pytest.LogCaptureFixture) -> None:
    core, executor = engine()
    executor.failing_collects, executor.failing_submits = {3}, {4, 5}
    add(core, 1, [5, 6], 9, ignore_eos=True)
    with caplog.at_level(logging.CRITICAL):
        found = run(core)
    assert [output.error for output in found[1, 0]] == ["", "", STEP_FAILED]
    add(core, 2, [7, 8], 4, ignore_eos=True)
    assert [output.token_id for output in run(core)[2, 0]] == expected([7, 8], 4)


def test_failing_again_and_again_gives_up(caplog: pytest.LogCaptureFixture) -> None:
    core, executor = engine()
    executor.failing_collects = set(range(2, 20))
    for number in range(12):
        add(core, number, [5, 6], 9, ignore_eos=True)
    with caplog.at_level(logging.CRITICAL), pytest.raises(EngineFailedError):
        run(core)


def test_failing_all_leaves_only_what_flies() -> None:
    core, _ = engine()
    add(core, 1, [5, 6], 9, ignore_eos=True)
    core.step()
    assert [output.error for output in core.fail_all(SHUTTING_DOWN)[b""]] == [SHUTTING_DOWN]
    assert core.has_work
    assert run(core) == {}


def test_time_that_two_steps_share_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    ticks = itertools.count()
    monkeypatch.setattr("runtime.engine.core.time.perf_counter", lambda: float(next(ticks)))
    core, _ = engine()
    add(core, 1, [5, 6], 30, ignore_eos=True)
    run(core)
    assert core.stats().steps_total == 30
    assert 30 < core.stats().step_seconds_total < next(ticks)
