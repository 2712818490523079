"""The engine of a reward model, without a socket: which requests it takes, and what it answers."""

from __future__ import annotations

import logging

import pytest

from runtime.engine.core import EngineCore
from runtime.engine.isolation import STEP_FAILED
from runtime.executors.finishers import SCORE_NOT_FINITE
from runtime.executors.host import HostExecutor
from runtime.executors.scripted import Script, ScriptedModel, score_of
from runtime.limits import EngineLimits
from runtime.messages import AddRequest, Rejected, RejectReason, TokenOutput
from runtime.request import FinishReason, SamplingParams
from runtime.scheduler import FuturePeak

SCRIPT = Script(vocab_size=50, block_size=4, max_sequence_tokens=64, fail_on_token=41, nan_on_token=42, scores=True)
DEFAULT = SamplingParams(max_new_tokens=1)
ALICE = b"alice"


def engine(num_blocks: int = 32, max_running: int = 4) -> EngineCore:
    limits = EngineLimits(
        max_request_tokens=32,
        max_total_tokens=num_blocks * 4,
        max_running=max_running,
        max_queued=20,
        max_step_tokens=16,
        block_size=4,
        vocab_size=50,
        eos_token_ids=(0,),
        scores=True,
    )
    executor = HostExecutor(
        ScriptedModel(SCRIPT, num_blocks),
        eos_token_ids=frozenset({0}),
        max_rows=max_running,
        max_step_tokens=16,
        max_logit_rows=max_running + 3,
        max_sequence_tokens=32,
    )
    return EngineCore(executor, limits, FuturePeak())


def run(core: EngineCore) -> dict[int, TokenOutput]:
    """The only output of each request."""
    collected: list[TokenOutput] = []
    for _ in range(100):
        collected += core.step().get(ALICE, [])
    assert not core.has_work
    assert core.check() == []
    assert len({output.request_id for output in collected}) == len(collected)
    return {output.request_id: output for output in collected}


def test_a_request_is_answered_with_its_score_alone() -> None:
    core = engine()
    prompts = {1: [3, 4, 5], 2: [0], 3: list(range(30))}
    for number, prompt in prompts.items():
        assert core.add(ALICE, AddRequest(number, prompt, DEFAULT)) is None
    for number, output in run(core).items():
        assert (output.token_id, output.logprob, output.finish) == (-1, 0.0, FinishReason.STOP)
        assert output.score == score_of(SCRIPT, prompts[number])


def test_a_score_tells_what_was_cached_and_how_long_the_request_waited() -> None:
    core = engine(max_running=1)
    for number in (1, 2):
        core.add(ALICE, AddRequest(number, [7] * 9, DEFAULT))
    first, second = run(core).values()
    assert (first.cached_tokens, second.cached_tokens) == (0, 8)
    assert second.queue_seconds > first.queue_seconds > 0
    assert first.score == second.score


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(max_new_tokens=10_000),
        SamplingParams(max_new_tokens=-3, min_new_tokens=7),
        SamplingParams(temperature=float("nan"), top_p=9.0, top_k=0, seed=-1),
        SamplingParams(stop_sequences=((), (999,)), allowed_token_ids=(-4,)),
        SamplingParams(prompt_logprobs=True, frequency_penalty=2.0, input_penalty=True),
    ],
)
def test_sampling_parameters_are_not_read(params: SamplingParams) -> None:
    core = engine()
    assert core.add(ALICE, AddRequest(1, [7] * 20, params)) is None
    output = run(core)[1]
    assert (output.score, output.prompt_logprobs) == (score_of(SCRIPT, [7] * 20), None)


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (AddRequest(1, [], DEFAULT), "no tokens"),
        (AddRequest(1, [50], DEFAULT), "[0, 50)"),
        (AddRequest(1, [-1], DEFAULT), "[0, 50)"),
        (
            AddRequest(1, [1] * 32, DEFAULT),
            "the prompt's 32 tokens and one for the score are 33 tokens, over the limit",
        ),
        (AddRequest(1, [1], DEFAULT, samples=0), "at least one sample"),
        (AddRequest(1, [1], DEFAULT, samples=2), "one score, not several samples"),
    ],
)
def test_a_request_that_cannot_run_is_refused_in_words(request_: AddRequest, words: str) -> None:
    core = engine()
    rejected = core.add(ALICE, request_)
    assert isinstance(rejected, Rejected)
    assert rejected.reason is RejectReason.INVALID
    assert words in rejected.message
    assert not core.has_work


def test_the_longest_prompt_leaves_room_for_one_token() -> None:
    core = engine(num_blocks=8)
    prompt = [1] * 31
    core.add(ALICE, AddRequest(1, prompt, DEFAULT))
    assert run(core)[1].score == score_of(SCRIPT, prompt)


def test_a_score_that_is_not_finite_fails_its_request_alone() -> None:
    core = engine()
    core.add(ALICE, AddRequest(1, [3, 42], DEFAULT))
    core.add(ALICE, AddRequest(2, [42, 3], DEFAULT))
    outputs = run(core)
    assert (outputs[1].finish, outputs[1].error, outputs[1].score) == (FinishReason.ERROR, SCORE_NOT_FINITE, None)
    assert outputs[2].score == score_of(SCRIPT, [42, 3])


def test_a_failing_step_costs_only_its_own_requests(caplog: pytest.LogCaptureFixture) -> None:
    core = engine(max_running=1)
    core.add(ALICE, AddRequest(1, [41], DEFAULT))
    core.add(ALICE, AddRequest(2, [3], DEFAULT))
    with caplog.at_level(logging.CRITICAL):
        outputs = run(core)
    assert (outputs[1].finish, outputs[1].error) == (FinishReason.ERROR, STEP_FAILED)
    assert outputs[2].score == score_of(SCRIPT, [3])


def test_an_aborted_request_gets_no_score_and_frees_its_blocks() -> None:
    core = engine()
    core.add(ALICE, AddRequest(1, [5] * 30, DEFAULT))
    assert core.step() == {}, "the prompt is not through"
    core.abort(ALICE, 1)
    assert core.step() == {}
    assert core.stats().used_tokens == 0


def test_stats_count_prompts_and_no_generated_tokens() -> None:
    core = engine(max_running=2)
    for number in range(3):
        core.add(ALICE, AddRequest(number, [number + 1] * 15, DEFAULT))
    core.step()
    busy = core.stats()
    assert (busy.running, busy.waiting) == (1, 1)
    assert busy.peak_tokens == 16
    run(core)
    idle = core.stats()
    assert (idle.prompt_tokens_total, idle.computed_tokens_total, idle.generated_tokens_total) == (45, 45, 0)
    assert (idle.prefix_queries_total, idle.prefix_hits_total) == (45, 0)
    assert (idle.running, idle.waiting, idle.used_tokens, idle.peak_tokens) == (0, 0, 0, 0)
    assert idle.cached_tokens == 3 * 12
