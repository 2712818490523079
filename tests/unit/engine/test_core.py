"""The engine without a socket: what is refused, what a failure costs, what the numbers say."""

from __future__ import annotations

import dataclasses
import logging

import pytest

from runtime.engine.admission import SHUTTING_DOWN
from runtime.engine.core import EngineCore
from runtime.engine.isolation import STEP_FAILED, EngineFailedError
from runtime.executors.host import HostExecutor
from runtime.executors.scripted import Script, ScriptedModel, next_token
from runtime.limits import EngineLimits
from runtime.messages import AddRequest, Rejected, RejectReason, TokenOutput
from runtime.request import FinishReason, SamplingParams
from runtime.scheduler import FuturePeak

SCRIPT = Script(vocab_size=50, block_size=4, max_sequence_tokens=64, fail_on_token=41, nan_on_token=42)
FREE = SamplingParams(max_new_tokens=4, ignore_eos=True)
ALICE, BOB = b"alice", b"bob"


def engine(num_blocks: int = 32, max_running: int = 4, max_queued: int = 3, *, host_logits: bool = True) -> EngineCore:
    limits = EngineLimits(
        max_request_tokens=64,
        max_total_tokens=num_blocks * 4,
        max_running=max_running,
        max_queued=max_queued,
        max_step_tokens=16,
        block_size=4,
        vocab_size=50,
        eos_token_ids=(0,),
        host_logits=host_logits,
    )
    executor = HostExecutor(
        ScriptedModel(SCRIPT, num_blocks),
        eos_token_ids=frozenset({0}),
        max_rows=max_running,
        max_step_tokens=16,
        max_logit_rows=max_running + 3,
        max_sequence_tokens=64,
    )
    return EngineCore(executor, limits, FuturePeak())


def run(core: EngineCore) -> dict[bytes, list[TokenOutput]]:
    collected: dict[bytes, list[TokenOutput]] = {}
    while core.has_work:
        for client, outputs in core.step().items():
            collected.setdefault(client, []).extend(outputs)
    assert core.check() == []
    return collected


def test_outputs_go_to_the_client_that_asked() -> None:
    core = engine()
    assert core.add(ALICE, AddRequest(1, [3, 4, 5], FREE)) is None
    assert core.add(BOB, AddRequest(1, [6], FREE)) is None
    outputs = run(core)
    assert outputs[ALICE][0].token_id == next_token(SCRIPT, [3, 4, 5])
    assert outputs[BOB][0].token_id == next_token(SCRIPT, [6])
    assert [output.finish for output in outputs[BOB]] == [*[FinishReason.NONE] * 3, FinishReason.LENGTH]


def test_alternatives_come_with_each_token_and_the_prompts_with_the_first() -> None:
    core = engine()
    params = SamplingParams(max_new_tokens=2, prompt_logprobs=True, top_logprobs=3, ignore_eos=True)
    core.add(ALICE, AddRequest(1, [7] * 5, params))
    first, second = run(core)[ALICE]
    for output in (first, second):
        assert output.top_logprobs is not None
        assert output.top_logprobs[0] == (output.token_id, output.logprob)
        assert len(output.top_logprobs) == 3
    assert first.prompt_top_logprobs is not None
    assert [len(top) for top in first.prompt_top_logprobs] == [3] * 4
    assert second.prompt_top_logprobs is None


def test_a_device_engine_refuses_what_needs_logits_on_the_host() -> None:
    core = engine(host_logits=False)
    for params in (SamplingParams(top_logprobs=1), SamplingParams(logit_bias=((1, 1.0),))):
        rejected = core.add(ALICE, AddRequest(1, [7], params))
        assert rejected is not None
        assert "on its device" in rejected.message


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(top_logprobs=21),
        SamplingParams(logit_bias=((50, 1.0),)),
        SamplingParams(logit_bias=((1, float("inf")),)),
        SamplingParams(presence_penalty=float("nan")),
        SamplingParams(temperature=1e-60),
        SamplingParams(repetition_penalty=1e300),
    ],
)
def test_what_no_door_should_have_let_in_is_refused(params: SamplingParams) -> None:
    assert engine().add(ALICE, AddRequest(1, [7], params)) is not None


def test_the_first_token_tells_what_was_cached_and_the_prompts_logprobs() -> None:
    core = engine()
    for request_id, params in ((1, FREE), (2, FREE), (3, SamplingParams(max_new_tokens=1, prompt_logprobs=True))):
        core.add(ALICE, AddRequest(request_id, [7] * 9, params))
        first, *later = run(core)[ALICE]
        assert first.cached_tokens == (8 if request_id == 2 else 0)
        assert (first.prompt_logprobs is not None) == (request_id == 3)
        assert all(output.prompt_logprobs is None and not output.cached_tokens for output in later)
    assert len(first.prompt_logprobs or []) == 8


@pytest.mark.parametrize(
    ("request_", "words"),
    [
        (AddRequest(1, [], FREE), "no tokens"),
        (AddRequest(1, [50], FREE), "[0, 50)"),
        (AddRequest(1, [-1], FREE), "[0, 50)"),
        (AddRequest(1, [1] * 61, FREE), "limit of 64"),
        (AddRequest(1, [1], SamplingParams(temperature=0.0)), "out of range"),
        (AddRequest(1, [1], SamplingParams(temperature=float("nan"))), "out of range"),
        (AddRequest(1, [1], SamplingParams(top_k=0)), "out of range"),
        (AddRequest(1, [1], SamplingParams(stop_sequences=((),))), "out of range"),
        (AddRequest(1, [1], SamplingParams(stop_sequences=((77,),))), "[0, 50)"),
        (AddRequest(1, [1], SamplingParams(allowed_token_ids=(50,))), "[0, 50)"),
        (AddRequest(1, [1], FREE, samples=0), "at least one sample"),
        (AddRequest(1, [1], FREE, samples=5), "do not fit"),
    ],
)
def test_a_request_that_cannot_run_is_refused_in_words(request_: AddRequest, words: str) -> None:
    core = engine()
    rejected = core.add(ALICE, request_)
    assert isinstance(rejected, Rejected)
    assert rejected.reason is RejectReason.INVALID
    assert words in rejected.message
    assert not core.has_work


def test_the_first_token_tells_how_long_the_request_waited() -> None:
    core = engine(max_running=1)
    for number in (1, 2):
        core.add(ALICE, AddRequest(number, [7], FREE))
    waits = {o.request_id: o.queue_seconds for o in run(core)[ALICE] if o.queue_seconds}
    assert waits[2] > waits[1] > 0


def test_a_request_id_in_use_is_refused() -> None:
    core = engine()
    core.add(ALICE, AddRequest(1, [1], FREE))
    rejected = core.add(ALICE, AddRequest(1, [1], FREE))
    assert rejected is not None
    assert "in use" in rejected.message


def test_a_full_queue_refuses_with_a_time_to_come_back() -> None:
    core = engine(max_queued=2)
    answers = [core.add(ALICE, AddRequest(number, [1], FREE)) for number in range(3)]
    assert answers[:2] == [None, None]
    assert answers[2] is not None
    assert (answers[2].reason, answers[2].retry_after > 0) == (RejectReason.QUEUE_FULL, True)


def test_a_draining_engine_finishes_what_it_has() -> None:
    core = engine()
    core.add(ALICE, AddRequest(1, [1], FREE))
    core.draining = True
    rejected = core.add(ALICE, AddRequest(2, [1], FREE))
    assert rejected is not None
    assert rejected.reason is RejectReason.DRAINING
    assert len(run(core)[ALICE]) == 4


def test_a_failing_step_costs_only_its_own_requests(caplog: pytest.LogCaptureFixture) -> None:
    core = engine(max_running=1)
    core.add(ALICE, AddRequest(1, [41], FREE))
    core.add(BOB, AddRequest(1, [3], FREE))
    with caplog.at_level(logging.CRITICAL):
        outputs = run(core)
    assert [(o.token_id, o.finish, o.error) for o in outputs[ALICE]] == [(-1, FinishReason.ERROR, STEP_FAILED)]
    assert len(outputs[BOB]) == 4


def test_failing_again_and_again_gives_up(caplog: pytest.LogCaptureFixture) -> None:
    core = engine()
    for number in range(3):
        assert core.add(ALICE, AddRequest(number, [41, number], FREE)) is None
        if number < 2:
            with caplog.at_level(logging.CRITICAL):
                run(core)
    with caplog.at_level(logging.CRITICAL), pytest.raises(EngineFailedError):
        run(core)


def test_the_like_of_a_request_that_failed_its_steps_is_refused(caplog: pytest.LogCaptureFixture) -> None:
    core = engine()
    core.add(ALICE, AddRequest(1, [41, 3], FREE))
    with caplog.at_level(logging.CRITICAL):
        assert run(core)[ALICE][-1].error == STEP_FAILED
    for seed in (1, 2):
        rejected = core.add(BOB, AddRequest(seed, [41, 3], dataclasses.replace(FREE, seed=seed)))
        assert rejected is not None
        assert rejected.reason is RejectReason.QUARANTINED
    assert core.add(BOB, AddRequest(3, [40, 3], FREE)) is None
    assert core.stats().quarantined_requests_total == 2


def test_logits_that_are_not_finite_fail_their_row_alone() -> None:
    core = engine()
    core.add(ALICE, AddRequest(1, [42], FREE))
    core.add(BOB, AddRequest(1, [3], FREE))
    outputs = run(core)
    assert [output.finish for output in outputs[ALICE]] == [FinishReason.ERROR]
    assert "not finite" in outputs[ALICE][0].error
    assert len(outputs[BOB]) == 4


def test_an_abort_ends_one_sample_or_the_whole_request() -> None:
    core = engine()
    core.add(ALICE, AddRequest(1, [1, 2], FREE, samples=3))
    core.add(BOB, AddRequest(1, [3], FREE))
    core.step()
    core.abort(ALICE, 1, 0)
    assert {output.sample for output in core.step()[ALICE]} == {1, 2}
    core.abort(ALICE, 1)
    core.abort(ALICE, 9)
    assert set(run(core)) == {BOB}


def test_books_that_do_not_balance_are_told_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    core = engine()
    core.scheduler.kv.pool.take()
    assert len(core.check()) == len(caplog.records) > 0
    assert "invariant violated" in caplog.text


def test_a_lost_client_frees_its_requests_and_nobody_elses() -> None:
    core = engine(max_running=1)
    core.add(ALICE, AddRequest(1, [1], FREE))
    core.add(ALICE, AddRequest(2, [1], FREE))
    core.add(BOB, AddRequest(1, [3], FREE))
    core.step()
    core.abort_client(ALICE)
    assert set(run(core)) == {BOB}


def test_failing_all_answers_running_and_queued_requests() -> None:
    core = engine(max_running=2)
    core.add(ALICE, AddRequest(1, [1], FREE, samples=2))
    core.add(BOB, AddRequest(1, [1], FREE))
    core.step()
    outputs = core.fail_all(SHUTTING_DOWN)
    assert [(o.sample, o.error) for o in outputs[ALICE]] == [(0, SHUTTING_DOWN), (1, SHUTTING_DOWN)]
    assert len(outputs[BOB]) == 1
    assert not core.has_work


def test_stats_are_of_the_moment_and_zero_when_idle() -> None:
    core = engine(max_running=2)
    for number in range(3):
        core.add(ALICE, AddRequest(number, [6, 2, 3, 4, 6], FREE))
    core.step()
    busy = core.stats()
    assert (busy.running, busy.waiting, busy.used_tokens) == (2, 1, 16)
    assert busy.peak_tokens == 24
    run(core)
    idle = core.stats()
    assert (idle.running, idle.waiting, idle.used_tokens, idle.peak_tokens) == (0, 0, 0, 0)
    assert idle.cached_tokens > 0
    assert idle.generated_tokens_total == 12


def test_what_an_engine_had_before_is_not_turned_away_for_a_full_queue() -> None:
    core = engine(max_queued=1)
    core.add(ALICE, AddRequest(1, [1], FREE))
    assert core.add(ALICE, AddRequest(2, [1], FREE)) is not None
    assert core.add(ALICE, AddRequest(3, [1], FREE, admitted=True)) is None


def test_samples_that_nobody_waits_for_do_not_change_the_others() -> None:
    whole, part = engine(), engine()
    sampling = SamplingParams(
        max_new_tokens=4, ignore_eos=True, top_k=-1, seed=5, logit_bias=((41, -99.0), (42, -99.0))
    )
    for core in (whole, part):
        core.add(ALICE, AddRequest(1, [1, 2], sampling, samples=3))
    part.abort(ALICE, 1, 0)
    part.abort(ALICE, 1, 2)
    alone = [(output.token_id, output.logprob) for output in run(part)[ALICE]]
    assert alone == [(output.token_id, output.logprob) for output in run(whole)[ALICE] if output.sample == 1]
