"""A whole engine on a fake GPU: TensorRT, streams and graphs are stand-ins, everything between them is real."""

from __future__ import annotations

import itertools
import logging
import random
from pathlib import Path

import fake_sampling
import pytest
from fake_device import FakeDevice
from fake_tensorrt import PLAN, FakeTensorRt

from runtime.cuda.sampler import DeviceSampler
from runtime.engine.core import EngineCore
from runtime.engine.isolation import STEP_FAILED, EngineFailedError
from runtime.executors.device_executor import DeviceExecutor
from runtime.executors.device_slots import DeviceSlotModel
from runtime.executors.finishers import NOT_FINITE, SCORE_NOT_FINITE
from runtime.executors.scripted import Script, next_token, score_of
from runtime.executors.tensorrt import TensorRtRunner, make_contexts
from runtime.executors.tensorrt_plan import load_plan
from runtime.limits import EngineLimits
from runtime.messages import AddRequest, TokenOutput
from runtime.request import SamplingParams
from runtime.scheduler import FuturePeak

CAPACITY, CONTEXT, SLOTS, SPARE = 64, 63, 6, 5
POISON = 96
SCRIPT = Script(vocab_size=97, eos_period=23, block_size=CAPACITY)
NAN = Script(vocab_size=97, eos_period=23, block_size=CAPACITY, nan_on_token=POISON)
REWARD = Script(vocab_size=97, block_size=CAPACITY, scores=True, nan_on_token=POISON)
Answers = dict[tuple[int, int], list[TokenOutput]]


class Engine:
    """An engine core over everything that serves on a GPU."""

    def __init__(
        self,
        folder: Path,
        script: Script = SCRIPT,
        *,
        step_tokens: int = 24,
        chunk: int = 7,
        capturable: bool | None = None,
    ) -> None:
        self.device = FakeDevice()
        fake_sampling.install(self.device)
        path = folder / "engine.plan"
        path.write_bytes(PLAN)
        trt = FakeTensorRt(self.device, script, slots=SLOTS, chunk=chunk)
        trt.engine.capturable = capturable
        self.engine = trt.engine
        plan, stream = load_plan(trt, path), self.device.stream()
        limits = {"max_step_tokens": step_tokens, "max_logit_rows": SLOTS + SPARE}
        runner = TensorRtRunner(plan, make_contexts(plan, stream), self.device, stream, slots=SLOTS, logit_rows=SPARE)
        model = DeviceSlotModel(self.device, stream, runner, depth=2, **limits)
        sampler = None if script.scores else self._sampler(stream)
        self.executor = DeviceExecutor(
            self.device, stream, model, sampler, max_rows=SLOTS, max_sequence_tokens=CONTEXT, **limits
        )
        self.core = EngineCore(self.executor, self._limits(script, step_tokens), FuturePeak())
        self.answers: Answers = {}

    def _sampler(self, stream: object) -> DeviceSampler:
        return DeviceSampler(
            self.device,
            stream,
            vocab_size=97,
            max_rows=SLOTS,
            max_logit_rows=SLOTS + SPARE,
            eos_token_ids=frozenset({0}),
            kernels=self.device.load(b"cubin"),
        )

    @staticmethod
    def _limits(script: Script, step_tokens: int) -> EngineLimits:
        return EngineLimits(
            max_request_tokens=CONTEXT,
            max_total_tokens=SLOTS * CAPACITY,
            max_running=SLOTS,
            max_queued=100,
            max_step_tokens=step_tokens,
            block_size=CAPACITY,
            vocab_size=97,
            eos_token_ids=(0,),
            scores=script.scores,
        )

    def add(self, number: int, prompt: list[int], samples: int = 1, **params: object) -> None:
        assert self.core.add(b"", AddRequest(number, prompt, SamplingParams(**params), samples=samples)) is None

    def run(self, steps: int = 2000) -> Answers:
        while self.core.has_work and steps:
            for output in self.core.step().get(b"", []):
                self.answers.setdefault((output.request_id, output.sample), []).append(output)
            assert self.core.check() == []
            steps -= 1
        return self.answers

    def tokens(self, number: int, sample: int = 0) -> list[int]:
        return [output.token_id for output in self.answers[number, sample]]

    def executions(self, *, decode: bool, captured: bool = False) -> list[tuple[int, int]]:
        """Shapes of the token ids of runs that were enqueued kernel by kernel, or captured."""
        return [call[2] for call in self.device.named("execute") if call[1] == decode and call[3] == captured]


def expected(prompt: list[int], count: int, *, ignore_eos: bool = False) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(SCRIPT, tokens))
        if tokens[-1] == 0 and not ignore_eos:
            break
    return tokens[len(prompt) :]


@pytest.mark.parametrize("seed", range(6))
def test_a_crowd_gets_what_each_would_get_alone(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    engine = Engine(tmp_path, chunk=rng.choice([3, 16]), step_tokens=rng.choice([8, 24]))
    prompts, counts = {}, {}
    for number in range(24):
        prompts[number] = [rng.randrange(1, 96) for _ in range(rng.randrange(1, 40))]
        counts[number] = rng.randrange(1, min(20, CONTEXT + 1 - len(prompts[number])))
        wishes = {"prompt_logprobs": rng.random() < 0.2}
        engine.add(number, prompts[number], rng.choice([1, 1, 3]), max_new_tokens=counts[number], **wishes)
        engine.run(rng.randrange(3))
        if rng.random() < 0.2:
            engine.core.abort(b"", rng.randrange(number + 1))
    engine.run()
    ended = [key for key, found in engine.answers.items() if found[-1].finish]
    assert len(ended) > 16
    for number, sample in ended:
        assert engine.tokens(number, sample) == expected(prompts[number], counts[number])
    assert engine.device.named("launch_graph")


def test_the_next_step_is_enqueued_before_the_one_ahead_of_it_is_waited_for(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.add(1, [5, 6], max_new_tokens=4, ignore_eos=True)
    engine.core.step()
    waits = len(engine.device.named("event.synchronize"))
    assert waits == 0
    engine.core.step()
    names = [call[0] for call in engine.device.calls]
    second = [index for index, name in enumerate(names) if name == "execute"][1]
    assert names.index("event.synchronize") > second
    engine.run()
    assert engine.device.named("synchronize") == []


def test_a_batch_of_each_size_is_captured_once_and_launched_from_then_on(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.add(1, [5, 6], max_new_tokens=9, ignore_eos=True)
    engine.run()
    assert engine.executions(decode=True) == [(1, 1)]
    assert engine.executions(decode=True, captured=True) == [(1, 1)]
    assert len(engine.device.named("launch_graph")) == 7
    for number in (2, 3, 4):
        engine.add(number, [number, 6], max_new_tokens=9, ignore_eos=True)
    engine.run()
    assert engine.executions(decode=True, captured=True) == [(1, 1), (4, 1)], "three slots run in a batch of four"
    for number in (2, 3, 4):
        assert engine.tokens(number) == expected([number, 6], 9, ignore_eos=True)


@pytest.mark.parametrize("capturable", [True, False])
def test_where_the_context_says_that_it_cannot_be_captured_it_is_not(tmp_path: Path, capturable: bool) -> None:
    engine = Engine(tmp_path, capturable=capturable)
    engine.add(1, [5, 6], max_new_tokens=9, ignore_eos=True)
    engine.run()
    assert bool(engine.device.named("launch_graph")) == capturable
    assert engine.tokens(1) == expected([5, 6], 9, ignore_eos=True)


@pytest.mark.parametrize("call", ["begin_capture", "end_capture"])
def test_a_capture_that_fails_costs_only_graphs(tmp_path: Path, call: str, caplog: pytest.LogCaptureFixture) -> None:
    engine = Engine(tmp_path)
    engine.device.fail_next(call)
    for number in (1, 2):
        engine.add(number, [5, 6], max_new_tokens=9, ignore_eos=True)
    engine.run()
    assert engine.tokens(1) == expected([5, 6], 9, ignore_eos=True)
    assert not engine.device.named("launch_graph")
    assert "without CUDA graphs" in caplog.text


def test_prompts_run_in_chunks_of_their_own_slot(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.add(1, [5] * 16, max_new_tokens=1, ignore_eos=True)
    engine.add(2, [6] * 5, max_new_tokens=1, ignore_eos=True)
    engine.run()
    assert engine.executions(decode=False) == [(1, 7), (1, 7), (1, 2), (1, 5)]
    assert engine.tokens(2) == expected([6] * 5, 1)


def test_only_tokens_and_their_log_probabilities_come_to_the_host(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    for number in range(4):
        engine.add(number, [5 + number] * 9, max_new_tokens=6, ignore_eos=True)
    engine.run()
    assert {call[2] for call in engine.device.named("download")} <= {8 * rows for rows in range(1, 5)}


def test_log_probabilities_of_a_prompt_come_from_every_chunk(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    prompt = [5, 6, *expected([5, 6], 12, ignore_eos=True), 7]
    engine.add(1, prompt, max_new_tokens=3, prompt_logprobs=True, ignore_eos=True)
    engine.add(2, [9] * 20, max_new_tokens=3, ignore_eos=True)
    found = engine.run()[1, 0][0].prompt_logprobs
    assert found is not None
    likely = [logprob > -1 for logprob in found]
    assert likely == [next_token(SCRIPT, prompt[:place]) == prompt[place] for place in range(1, len(prompt))]
    assert engine.tokens(1) == expected(prompt, 3, ignore_eos=True)
    assert engine.tokens(2) == expected([9] * 20, 3, ignore_eos=True)


def test_what_is_not_finite_fails_alone(tmp_path: Path) -> None:
    engine = Engine(tmp_path, NAN)
    engine.add(1, [4, 5, POISON], max_new_tokens=3)
    engine.add(2, [4, POISON, 5], max_new_tokens=3, prompt_logprobs=True)
    engine.add(3, [4, 5, 6], max_new_tokens=3, ignore_eos=True)
    found = engine.run()
    assert [found[number, 0][0].error for number in (1, 2)] == [NOT_FINITE] * 2
    assert engine.tokens(3) == expected([4, 5, 6], 3, ignore_eos=True)
    for number in (4, 5):
        engine.add(number, [4], max_new_tokens=3, ignore_eos=True)
    engine.run()
    assert engine.tokens(4) == engine.tokens(5) == expected([4], 3), "what it left in its slot is gone"


def test_a_reward_models_scores(tmp_path: Path) -> None:
    engine = Engine(tmp_path, REWARD)
    prompts = [[number + 1] * (1 + 4 * number) for number in range(14)] + [[3, POISON]]
    for number, prompt in enumerate(prompts):
        engine.add(number, prompt)
    found = engine.run()
    assert [found[number, 0][0].score for number in range(14)] == [score_of(REWARD, prompt) for prompt in prompts[:14]]
    assert found[14, 0][0].error == SCORE_NOT_FINITE
    assert not engine.device.named("launch")


def test_a_failure_at_any_call_costs_only_the_steps_own_requests(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """The device fails once, at each call in turn; requests that come later are answered."""
    caplog.set_level(logging.CRITICAL)
    for place in itertools.count(1):
        engine = Engine(tmp_path)
        engine.device.fail_at = place
        _two_requests(engine)
        if engine.device.fail_at:
            assert place > 80, "every call has had its turn"
            return
        for number, prompt in ((1, [5] * 9), (2, [6, 7])):
            *tokens, last = engine.answers[number, 0]
            want = expected(prompt, 5, ignore_eos=True)
            if last.error:
                assert last.error == STEP_FAILED
                assert engine.core.runner.isolation.culprits == 1, "it was alone"
                assert [output.token_id for output in tokens] == want[: len(tokens)]
            else:
                assert engine.tokens(number) == want
        engine.add(3, [8, 9, 10], max_new_tokens=5, ignore_eos=True, samples=2)
        engine.run()
        for sample in (0, 1):
            assert engine.tokens(3, sample) == expected([8, 9, 10], 5, ignore_eos=True), place


def _two_requests(engine: Engine) -> None:
    engine.add(1, [5] * 9, max_new_tokens=5, ignore_eos=True)
    engine.run(3)
    engine.add(2, [6, 7], max_new_tokens=5, ignore_eos=True)
    engine.run()


@pytest.mark.parametrize("call", ["set_input_shape", "set_tensor_address", "execute_async_v3"])
def test_what_tensorrt_refuses_costs_only_the_steps_own_requests(
    tmp_path: Path, call: str, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Engine(tmp_path)
    engine.engine.refuse = call
    engine.add(1, [5] * 9, max_new_tokens=5)
    with caplog.at_level(logging.ERROR):
        engine.run()
    assert [output.error for output in engine.answers[1, 0]] == [STEP_FAILED]
    assert call in caplog.text
    engine.engine.refuse = ""
    engine.add(2, [6, 7], max_new_tokens=5, ignore_eos=True)
    engine.run()
    assert engine.tokens(2) == expected([6, 7], 5, ignore_eos=True)


def test_a_device_that_is_broken_ends_the_engine(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    engine = Engine(tmp_path)
    for number in range(12):
        engine.add(number, [5] * 9, max_new_tokens=9, ignore_eos=True)
    engine.run(4)
    engine.device.fail_work_at = 3
    with pytest.raises(EngineFailedError):
        engine.run()
    engine.executor.close()


def test_closing_it_gives_back_the_devices_memory(tmp_path: Path) -> None:
    engine = Engine(tmp_path)
    engine.add(1, [5, 6], max_new_tokens=4)
    engine.run()
    engine.executor.close()
    assert engine.device.buffers == []
    assert engine.device.closed
    assert len(engine.device.named("graph.close")) == 1


def test_its_capabilities_are_those_of_slots_on_a_device(tmp_path: Path) -> None:
    offered = Engine(tmp_path).executor.capabilities
    assert (offered.num_blocks, offered.block_size, offered.max_rows) == (SLOTS, CAPACITY, SLOTS)
    assert (offered.prefix_sharing, offered.depth, offered.max_logit_rows) == (False, 2, SLOTS + SPARE)
