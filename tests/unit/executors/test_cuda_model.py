"""A whole engine over ONNX Runtime's CUDA provider: package and driver are stand-ins, what is between them is real."""

from __future__ import annotations

import logging
import random

import fake_sampling
import numpy as np
import pytest
from fake_device import FakeDevice
from fake_onnxruntime import BLOCK, CACHES, FakeOrt, ScriptedGraph

from runtime.bundle import BundleError
from runtime.cuda.sampler import DeviceSampler
from runtime.engine.core import EngineCore
from runtime.executors.cuda import CudaModel, StepBounds, fixed_bytes, largest_step
from runtime.executors.cuda_session import open_session
from runtime.executors.device_executor import DeviceExecutor
from runtime.executors.finishers import NOT_FINITE
from runtime.executors.rows import StepInputs
from runtime.executors.scripted import Script, next_token, score_of
from runtime.limits import EngineLimits
from runtime.messages import AddRequest, TokenOutput
from runtime.request import SamplingParams
from runtime.scheduler import Aggressive, FuturePeak

ROWS, SPARE, CONTEXT, STEP = 6, 5, 60, 24
POISON = 96
SCRIPT = Script(vocab_size=97, eos_period=23, block_size=BLOCK)
NAN = Script(vocab_size=97, eos_period=23, block_size=BLOCK, nan_on_token=POISON)
REWARD = Script(vocab_size=97, block_size=BLOCK, scores=True)
BOUNDS = StepBounds(tokens=STEP, rows=ROWS, results=ROWS + SPARE, sequence_tokens=CONTEXT)


class Engine:
    """An engine core over a CUDA model."""

    def __init__(self, script: Script = SCRIPT, blocks: int = 80, *, hurry: bool = False) -> None:
        self.device = FakeDevice()
        fake_sampling.install(self.device)
        ort, stream = FakeOrt(self.device, ScriptedGraph(script)), self.device.stream()
        self.session = open_session(ort, "model.onnx", stream)
        self.model = CudaModel(ort, self.session, self.device, stream, num_blocks=blocks, bounds=BOUNDS, depth=2)
        sampler = None if script.scores else self._sampler(stream)
        self.executor = DeviceExecutor(
            self.device,
            stream,
            self.model,
            sampler,
            max_rows=ROWS,
            max_step_tokens=STEP,
            max_logit_rows=ROWS + SPARE,
            max_sequence_tokens=CONTEXT,
        )
        limits = EngineLimits(
            max_request_tokens=CONTEXT,
            max_total_tokens=blocks * BLOCK,
            max_running=ROWS,
            max_queued=100,
            max_step_tokens=STEP,
            block_size=BLOCK,
            vocab_size=97,
            eos_token_ids=(0,),
            scores=script.scores,
        )
        self.core = EngineCore(self.executor, limits, Aggressive() if hurry else FuturePeak())
        self.answers: dict[tuple[int, int], list[TokenOutput]] = {}

    def _sampler(self, stream: object) -> DeviceSampler:
        return DeviceSampler(
            self.device,
            stream,
            vocab_size=97,
            max_rows=ROWS,
            max_logit_rows=ROWS + SPARE,
            eos_token_ids=frozenset({0}),
            kernels=self.device.load(b"cubin"),
        )

    def add(self, number: int, prompt: list[int], samples: int = 1, **params: object) -> None:
        assert self.core.add(b"", AddRequest(number, prompt, SamplingParams(**params), samples=samples)) is None

    def run(self, steps: int = 2000) -> dict[tuple[int, int], list[TokenOutput]]:
        while self.core.has_work and steps:
            for output in self.core.step().get(b"", []):
                self.answers.setdefault((output.request_id, output.sample), []).append(output)
            assert self.core.check() == []
            steps -= 1
        return self.answers

    def tokens(self, number: int, sample: int = 0) -> list[int]:
        return [output.token_id for output in self.answers[number, sample]]


def expected(prompt: list[int], count: int, *, ignore_eos: bool = False) -> list[int]:
    tokens = list(prompt)
    for _ in range(count):
        tokens.append(next_token(SCRIPT, tokens))
        if tokens[-1] == 0 and not ignore_eos:
            break
    return tokens[len(prompt) :]


@pytest.mark.parametrize(("seed", "blocks"), [(0, 80), (1, 80), (2, 45)])
def test_a_crowd_gets_what_each_would_get_alone(seed: int, blocks: int) -> None:
    rng = random.Random(seed)
    engine = Engine(blocks=blocks)
    prompts, counts = {}, {}
    for number in range(30):
        prompts[number] = [rng.randrange(1, 4)] * 8 + [rng.randrange(1, 96) for _ in range(rng.randrange(1, 30))]
        counts[number] = rng.randrange(1, min(20, CONTEXT + 1 - len(prompts[number])))
        wishes = {"prompt_logprobs": rng.random() < 0.2}
        engine.add(number, prompts[number], rng.choice([1, 1, 3]), max_new_tokens=counts[number], **wishes)
        engine.run(rng.randrange(3))
        if rng.random() < 0.2:
            engine.core.abort(b"", rng.randrange(number + 1))
    engine.run()
    ended = [key for key, found in engine.answers.items() if found[-1].finish]
    assert len(ended) > 20
    for number, sample in ended:
        assert engine.tokens(number, sample) == expected(prompts[number], counts[number])
    assert engine.core.stats().prefix_hits_total > 0


def test_a_sequence_that_was_put_off_goes_on_as_if_it_had_not() -> None:
    engine = Engine(blocks=30, hurry=True)
    prompts = [[number + 1] * 8 for number in range(ROWS)]
    for number, prompt in enumerate(prompts):
        engine.add(number, prompt, max_new_tokens=30, ignore_eos=True)
    engine.run()
    assert engine.core.stats().preemptions_total > 0
    assert [engine.tokens(number) for number in range(ROWS)] == [
        expected(prompt, 30, ignore_eos=True) for prompt in prompts
    ]


def test_steps_mix_prompts_and_decodes_in_one_run() -> None:
    engine = Engine()
    engine.add(1, [5, 6], max_new_tokens=9, ignore_eos=True)
    engine.run(2)
    engine.add(2, [7] * 12, max_new_tokens=2, ignore_eos=True)
    engine.run()
    assert [12, 12] in engine.session.bounds
    assert 13 in [call[1] for call in engine.device.named("run")]
    assert engine.tokens(1) == expected([5, 6], 9, ignore_eos=True)


def test_the_next_step_is_enqueued_before_the_one_ahead_of_it_is_waited_for() -> None:
    engine = Engine()
    engine.add(1, [5, 6], max_new_tokens=4, ignore_eos=True)
    engine.core.step()
    engine.core.step()
    names = [call[0] for call in engine.device.calls]
    second = [index for index, name in enumerate(names) if name == "run"][1]
    assert names.index("event.synchronize") > second
    engine.run()
    assert engine.device.named("synchronize") == []


def test_logits_never_come_to_the_host() -> None:
    engine = Engine()
    engine.add(1, [5] * 9, max_new_tokens=6, ignore_eos=True)
    engine.run()
    assert {call[2] for call in engine.device.named("download")} == {8}


def test_a_step_with_nothing_wanted_still_runs() -> None:
    engine = Engine()
    engine.add(1, [5] * (STEP + 10), max_new_tokens=2, ignore_eos=True)
    engine.run()
    assert [call[1] for call in engine.device.named("run")][:2] == [STEP, 10]
    assert engine.tokens(1) == expected([5] * (STEP + 10), 2, ignore_eos=True)


def test_samples_of_a_request_copy_the_block_they_part_in() -> None:
    engine = Engine()
    prompt = [7, 8, 9, 10, 11, 12]
    engine.add(1, prompt, samples=3, max_new_tokens=5, ignore_eos=True)
    engine.run()
    assert [engine.tokens(1, sample) for sample in range(3)] == [expected(prompt, 5, ignore_eos=True)] * 3
    (_, _, _, nbytes, rows, pitch), *_ = engine.device.named("copy")
    assert (nbytes, rows, pitch) == (BLOCK * 2 * 16 * 2, len(CACHES), 80 * BLOCK * 2 * 16 * 2)


def test_what_is_not_finite_fails_alone() -> None:
    engine = Engine(NAN)
    engine.add(1, [4, 5, POISON], max_new_tokens=3)
    engine.add(2, [4, 5, 6], max_new_tokens=3, ignore_eos=True)
    found = engine.run()
    assert found[1, 0][0].error == NOT_FINITE
    assert engine.tokens(2) == expected([4, 5, 6], 3, ignore_eos=True)


def test_a_reward_models_scores() -> None:
    engine = Engine(REWARD)
    prompts = [[number + 1] * (1 + 4 * number) for number in range(12)]
    for number, prompt in enumerate(prompts):
        engine.add(number, prompt)
    found = engine.run()
    assert [found[number, 0][0].score for number in range(12)] == [score_of(REWARD, prompt) for prompt in prompts]


def test_a_run_that_fails_once_costs_nobody_anything(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    engine = Engine()
    engine.add(1, [4, 5], max_new_tokens=3, ignore_eos=True)
    engine.session.fail_next = True
    engine.run()
    assert engine.tokens(1) == expected([4, 5], 3, ignore_eos=True)
    engine.add(2, [4, 5, 6], max_new_tokens=3, ignore_eos=True)
    engine.run()
    assert engine.tokens(2) == expected([4, 5, 6], 3, ignore_eos=True)


def test_pools_start_as_zeros_and_everything_is_given_back() -> None:
    engine = Engine()
    pools = 80 * BLOCK * 2 * 16 * 2 * len(CACHES)
    assert next(call[3] for call in engine.device.named("fill")) == pools
    engine.executor.close()
    assert engine.device.buffers == []
    assert engine.device.closed


def test_memory_beside_the_pools_is_what_the_arithmetic_says() -> None:
    engine = Engine(REWARD)
    pools = 80 * BLOCK * 2 * 16 * 2 * len(CACHES)
    assert sum(buffer.nbytes for buffer in engine.device.buffers) == pools + fixed_bytes((), BOUNDS, BLOCK)


@pytest.mark.parametrize(("tokens", "sequence", "results"), [(24, 60, 11), (24, 10, 11), (4, 60, 11), (24, 60, 1)])
def test_the_largest_step_fits_what_was_set_aside(tokens: int, sequence: int, results: int) -> None:
    bounds = StepBounds(tokens=tokens, rows=3, results=results, sequence_tokens=sequence)
    step = largest_step(bounds, BLOCK)
    assert len(step.token_ids) == min(tokens, sequence)
    assert len(step.logits_rows) == min(tokens, sequence, results)
    assert step.block_table.size * BLOCK >= len(step.token_ids)
    device = FakeDevice()
    ort, stream = FakeOrt(device, ScriptedGraph(SCRIPT)), device.stream()
    session = open_session(ort, "model.onnx", stream)
    model = CudaModel(ort, session, device, stream, num_blocks=step.block_table.size, bounds=bounds, depth=1)
    results_there = model.forward(step, None)
    stream.synchronize()
    logits = device.view(results_there.address, (len(step.logits_rows), 97), np.float32)
    assert int(logits[0].argmax()) == next_token(SCRIPT, [0])
    model.close()
    assert device.buffers == []


def test_more_inputs_than_were_set_aside_are_refused() -> None:
    engine = Engine()
    many = np.zeros(10 * STEP, dtype=np.int64)
    one = np.array([0, len(many)], dtype=np.int32)
    with pytest.raises(ValueError, match="do not fit"):
        engine.model.forward(StepInputs(many, one, one[:1], one[None, :1], many), None)


def test_another_targets_graph_is_refused() -> None:
    device = FakeDevice()
    graph = ScriptedGraph(SCRIPT)
    graph.inputs = [value for value in graph.inputs if value.name != "attention_bounds"]
    ort, stream = FakeOrt(device, graph), device.stream()
    session = open_session(ort, "model.onnx", stream)
    with pytest.raises(BundleError, match="not that of target cuda; need: a bundle made by the build"):
        CudaModel(ort, session, device, stream, num_blocks=4, bounds=BOUNDS, depth=1)
