"""A request that makes its steps fail is found and ends; everybody else gets the answer of a run alone."""

from __future__ import annotations

import dataclasses
import logging
import math
import random

import pytest

from runtime.engine.core import EngineCore
from runtime.engine.isolation import CULPRITS_IN_A_ROW, FAILURES_IN_A_ROW, STEP_FAILED, EngineFailedError
from runtime.executors.host import HostExecutor
from runtime.executors.scripted import Script, ScriptedModel, next_token
from runtime.limits import EngineLimits
from runtime.messages import AddRequest, TokenOutput
from runtime.request import FinishReason, SamplingParams
from runtime.scheduler import Aggressive, PromptLookup
from runtime.scheduler.speculation import FixedSpeculation

POISON = 96
SCRIPT = Script(vocab_size=96, block_size=4, max_sequence_tokens=64)
"""It never generates the poison, which is a token all the same."""
Answers = dict[tuple[int, int], list[TokenOutput]]


class Failing(ScriptedModel):
    """Fails on the poison or, once it is lost, always; counts its failures."""

    lost = False
    failed = 0
    most_in_a_row = 0
    _in_a_row = 0

    def forward(self, inputs):
        if self.lost or POISON in inputs.token_ids:
            self.failed += 1
            self._in_a_row += 1
            self.most_in_a_row = max(self.most_in_a_row, self._in_a_row)
            raise RuntimeError("device")
        self._in_a_row = 0
        return super().forward(inputs)


def engine(
    rows: int = 16, num_blocks: int = 400, depth: int = 1, drafts: bool = False, step_tokens: int = 64
) -> tuple[EngineCore, Failing]:
    model = Failing(SCRIPT, num_blocks)
    executor = HostExecutor(
        model,
        eos_token_ids=frozenset({0}),
        max_rows=rows,
        max_step_tokens=step_tokens,
        max_logit_rows=2 * rows,
        max_sequence_tokens=64,
    )
    executor.capabilities = dataclasses.replace(executor.capabilities, depth=depth, drafts=drafts)
    limits = EngineLimits(
        max_request_tokens=64,
        max_total_tokens=num_blocks * 4,
        max_running=rows,
        max_queued=1000,
        max_step_tokens=step_tokens,
        block_size=4,
        vocab_size=97,
        eos_token_ids=(0,),
    )
    speculation = FixedSpeculation(PromptLookup(), 3) if drafts else None
    return EngineCore(executor, limits, Aggressive(), speculation=speculation), model


def add(core: EngineCore, number: int, prompt: list[int], count: int, samples: int = 1, **wishes: object) -> None:
    params = SamplingParams(max_new_tokens=count, ignore_eos=True, **wishes)
    assert core.add(b"", AddRequest(number, prompt, params, samples=samples)) is None


def run(core: EngineCore) -> Answers:
    answers: Answers = {}
    for _ in range(2000):
        if not core.has_work:
            return answers
        for output in core.step().get(b"", []):
            answers.setdefault((output.request_id, output.sample), []).append(output)
        assert core.check() == []
    raise AssertionError("it does not end")


def expected(prompt: list[int], count: int) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(SCRIPT, tokens))
    return tokens[len(prompt) :]


@pytest.fixture(autouse=True)
def _quiet(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)


@pytest.mark.parametrize("place", range(16))
def test_one_poisoned_request_of_a_batch_ends_alone_after_a_logarithm_of_failures(place: int) -> None:
    core, model = engine(step_tokens=256)
    prompts = {number: [number + 1] * 5 for number in range(16)}
    prompts[place] = [7, POISON, 8]
    for number, prompt in prompts.items():
        add(core, number, prompt, 6)
    found = run(core)
    assert [(o.finish, o.error) for o in found.pop((place, 0))] == [(FinishReason.ERROR, STEP_FAILED)]
    for (number, _), outputs in found.items():
        assert [output.token_id for output in outputs] == expected(prompts[number], 6)
    assert len(found) == 15
    assert model.failed == 1 + math.log2(16)
    assert model.most_in_a_row <= 2
    stats = core.stats()
    assert (stats.failed_steps_total, stats.isolated_requests_total) == (model.failed, 1)
    assert (stats.running, stats.waiting, stats.paused, stats.used_tokens) == (0, 0, 0, 0)


@pytest.mark.parametrize(("depth", "drafts"), [(1, False), (1, True), (2, False), (3, False)])
@pytest.mark.parametrize("seed", range(6))
def test_poison_at_any_time_changes_nobody_elses_answer(depth: int, drafts: bool, seed: int) -> None:
    """Arrivals over time, samples, penalties, log-probabilities, little memory; some requests are poisoned."""
    rng = random.Random(seed)
    requests = {}
    for number in range(30):
        prompt = [rng.randrange(1, 4 if drafts else 96) for _ in range(rng.randrange(1, 30))]
        wishes = rng.choice([{}, {"top_k": -1, "temperature": 9.0, "seed": seed}, {"prompt_logprobs": True}])
        requests[number] = (prompt, rng.randrange(1, 20), rng.choice([1, 1, 2]), wishes)
    poisoned = set(rng.sample(range(30), 4))
    blocks = rng.choice([60, 400])
    answers = []
    for poison in (False, True):
        core, model = engine(8, blocks, depth, drafts, 24)
        found: Answers = {}
        for number, (prompt, count, samples, wishes) in requests.items():
            if number in poisoned:
                if not poison:
                    continue
                prompt = [*prompt[: len(prompt) // 2], POISON, *prompt[len(prompt) // 2 :]]
            add(core, number, prompt, count, samples, **wishes)
            for _ in range(number % 3):
                for output in core.step().get(b"", []):
                    found.setdefault((output.request_id, output.sample), []).append(output)
                assert core.check() == []
        for key, outputs in run(core).items():
            found.setdefault(key, []).extend(outputs)
        answers.append(
            {
                key: [(o.token_id, o.logprob, o.finish, None if key[1] else o.prompt_logprobs) for o in outputs]
                for key, outputs in found.items()
                if key[0] not in poisoned
            }
        )
        for number in poisoned if poison else ():
            assert {output.error for output in found[number, 0]} == {STEP_FAILED}
    assert answers[0] == answers[1]
    assert core.stats().isolated_requests_total == 4
    assert model.failed > 4


@pytest.mark.parametrize("requests", [1, 3])
def test_a_failure_that_passes_costs_nobody_anything(requests: int) -> None:
    core, model = engine()
    for number in range(requests):
        add(core, number, [number + 1] * 5, 6)
    core.step()
    model.lost = True
    core.step()
    model.lost = False
    for (number, _), outputs in run(core).items():
        assert [output.token_id for output in outputs] == expected([number + 1] * 5, 6)[-len(outputs) :]
    assert core.stats().isolated_requests_total == 0


def test_who_is_aborted_under_suspicion_is_not_waited_for() -> None:
    core, _ = engine()
    for number in range(4):
        add(core, number, [number + 1, POISON if number == 2 else 9], 6)
    core.step()
    core.step()
    for number in range(4):
        core.abort(b"", number)
    assert not core.has_work
    add(core, 9, [3, 4], 2)
    assert [output.token_id for output in run(core)[9, 0]] == expected([3, 4], 2)


def test_who_arrives_meanwhile_waits_until_the_culprit_is_found() -> None:
    core, _ = engine()
    for number in range(4):
        add(core, number, [number + 1, POISON if number == 3 else 9], 6)
    core.step()
    add(core, 9, [3, 4], 2)
    while core.runner.isolation.active:
        assert {output.request_id for outputs in core.step().values() for output in outputs} <= {0, 1, 2, 3}
    assert len(run(core)[9, 0]) == 2


def test_a_lost_device_ends_the_process_and_condemns_nobody() -> None:
    core, model = engine(step_tokens=256)
    for number in range(16):
        add(core, number, [number + 1] * 5, 6)
    core.step()
    model.lost = True
    with pytest.raises(EngineFailedError):
        run(core)
    assert (model.failed, core.stats().isolated_requests_total) == (FAILURES_IN_A_ROW, 0)


def test_a_lost_device_is_noticed_by_requests_that_come_one_by_one_too() -> None:
    core, model = engine()
    model.lost = True
    for number in range(CULPRITS_IN_A_ROW - 1):
        add(core, number, [number + 1] * 5, 6)
        assert run(core)[number, 0][-1].error == STEP_FAILED
    add(core, 9, [9] * 5, 6)
    with pytest.raises(EngineFailedError):
        run(core)
    assert model.failed == 2 * CULPRITS_IN_A_ROW


def test_failing_for_want_of_memory_is_failing() -> None:
    script = Script(vocab_size=96, block_size=4, max_sequence_tokens=64, exhaust_on_token=POISON)
    core, model = engine()
    model.script = script
    model.forward = lambda inputs: ScriptedModel.forward(model, inputs)
    add(core, 1, [5, POISON], 3)
    add(core, 2, [5, 6], 3)
    found = run(core)
    assert found[1, 0][-1].error == STEP_FAILED
    assert [output.token_id for output in found[2, 0]] == expected([5, 6], 3)
