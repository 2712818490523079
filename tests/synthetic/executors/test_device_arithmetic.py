"""Everything that serves on a GPU, with its arithmetic done by the CPU: the linear-slot graph by ONNX Runtime, the
sampling kernels compiled from their CUDA source. The answers are those of the executors for the CPU.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime as ort
import pytest
from cuda_host.host_kernels import HostKernels
from fake_device import FakeDevice, Size
from fake_tensorrt import PLAN, FakeEngine, FakeTensorRt, Shape
from slot_graph import write_slot_graph
from tiny import EOS, VOCAB_SIZE, tiny_checkpoint

from runtime.cuda.kernel_cache import KERNELS
from runtime.cuda.sampler import DeviceSampler
from runtime.engine.core import EngineCore
from runtime.executors.base import Executor
from runtime.executors.device_executor import DeviceExecutor
from runtime.executors.device_slots import DeviceSlotModel
from runtime.executors.host import HostExecutor
from runtime.executors.ort_slots import OrtSlotRunner
from runtime.executors.scripted import Script
from runtime.executors.slot_model import SlotModel
from runtime.executors.tensorrt import TensorRtRunner, make_contexts
from runtime.executors.tensorrt_plan import load_plan
from runtime.limits import EngineLimits
from runtime.messages import AddRequest
from runtime.request import SamplingParams
from runtime.scheduler import FuturePeak

CAPACITY, CONTEXT, SLOTS, CHUNK = 64, 63, 5, 12
LIMITS = {"max_step_tokens": 24, "max_logit_rows": SLOTS + 4}
Answers = dict[tuple[int, int], list[tuple[int, float]]]


class OrtEngine(FakeEngine):
    """An engine that computes: the graph, on the addresses that it was given."""

    kv_dtype = np.dtype(np.float32)

    def __init__(self, device: FakeDevice, model: Path) -> None:
        super().__init__(device, Script(vocab_size=VOCAB_SIZE, block_size=CAPACITY), SLOTS, CHUNK, CHUNK)
        self.session = ort.InferenceSession(model, providers=["CPUExecutionProvider"])
        for tensors, values in ((self.inputs, self.session.get_inputs()), (self.outputs, self.session.get_outputs())):
            tensors.clear()
            tensors |= {v.name: tuple(size if isinstance(size, int) else -1 for size in v.shape) for v in values}

    def compute(self, shapes: dict[str, Shape], addresses: dict[str, int]) -> None:
        binding = self.session.io_binding()
        for name, shape in shapes.items():
            dtype = np.float32 if "cache" in name else np.int64
            self.device.check(addresses[name], 4 * int(np.prod(shape)))
            binding.bind_input(name, "cpu", 0, dtype, shape, addresses[name])
            if "cache" in name:
                binding.bind_output(f"{name}_out", "cpu", 0, dtype, shape, addresses[f"{name}_out"])
        results = (shapes["logits_rows"][0], VOCAB_SIZE)
        binding.bind_output("logits", "cpu", 0, np.float32, results, addresses["logits"])
        self.session.run_with_iobinding(binding)


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_slot_graph(tiny_checkpoint("llama"), tmp_path_factory.mktemp("slots"), CAPACITY)


@pytest.fixture(scope="module")
def kernels() -> HostKernels:
    return HostKernels(KERNELS / "sampling.cu")


def on_the_device(graph: Path, kernels: HostKernels) -> tuple[DeviceExecutor, FakeDevice]:
    device = FakeDevice()
    device.kernels = {name: functools.partial(_launch, kernels, name) for name in kernels.names}
    trt = FakeTensorRt(device, Script(vocab_size=VOCAB_SIZE, block_size=CAPACITY))
    trt.engine = OrtEngine(device, graph)
    path = graph.with_name("engine.plan")
    path.write_bytes(PLAN)
    plan, stream = load_plan(trt, path), device.stream()
    runner = TensorRtRunner(plan, make_contexts(plan, stream), device, stream, slots=SLOTS, logit_rows=4)
    sampler = DeviceSampler(
        device,
        stream,
        vocab_size=VOCAB_SIZE,
        max_rows=SLOTS,
        max_logit_rows=SLOTS + 4,
        eos_token_ids=frozenset({EOS}),
        kernels=device.load(b"cubin"),
        threads=64,
    )
    model = DeviceSlotModel(device, stream, runner, depth=2, **LIMITS)
    executor = DeviceExecutor(device, stream, model, sampler, max_rows=SLOTS, max_sequence_tokens=CONTEXT, **LIMITS)
    return executor, device


def _launch(
    kernels: HostKernels, name: str, device: FakeDevice, grid: Size, block: Size, shared: int, args: Sequence[Any]
) -> None:
    kernels.launch(name, grid, block, shared, *args, seed=3)


def on_the_host(graph: Path) -> HostExecutor:
    model = SlotModel(OrtSlotRunner(graph.parent, slots=SLOTS, chunk=CHUNK, threads=1), SLOTS + 4)
    return HostExecutor(
        model,
        eos_token_ids=frozenset({EOS}),
        max_rows=SLOTS,
        max_sequence_tokens=CONTEXT,
        prefix_sharing=False,
        **LIMITS,
    )


def run(executor: Executor, requests: list[AddRequest]) -> tuple[Answers, list[list[float]]]:
    limits = EngineLimits(
        max_request_tokens=CONTEXT,
        max_total_tokens=SLOTS * CAPACITY,
        max_running=SLOTS,
        max_queued=100,
        max_step_tokens=24,
        block_size=CAPACITY,
        vocab_size=VOCAB_SIZE,
        eos_token_ids=(EOS,),
    )
    core = EngineCore(executor, limits, FuturePeak())
    answers: Answers = {}
    prompts: dict[int, list[float]] = {}
    for request in requests:
        assert core.add(b"", request) is None
    while core.has_work:
        for output in core.step().get(b"", []):
            assert not output.error
            answers.setdefault((output.request_id, output.sample), []).append((output.token_id, output.logprob))
            prompts |= {output.request_id: output.prompt_logprobs} if output.prompt_logprobs else {}
        assert core.check() == []
    return answers, [logprobs for _, logprobs in sorted(prompts.items())]


def random_request(rng: random.Random, number: int) -> AddRequest:
    prompt = [rng.randrange(4, VOCAB_SIZE) for _ in range(rng.randrange(1, 40))]
    params = SamplingParams(
        max_new_tokens=rng.randrange(4, 20),
        top_k=rng.choice([1, 1, -1, 20]),
        top_p=rng.choice([1.0, 0.8]),
        temperature=rng.choice([1.0, 0.8]),
        repetition_penalty=rng.choice([1.0, 1.2]),
        frequency_penalty=rng.choice([0.0, 0.3]),
        input_penalty=rng.random() < 0.3,
        min_new_tokens=rng.randrange(1, 4),
        prompt_logprobs=rng.random() < 0.2,
        seed=rng.randrange(2**64),
    )
    return AddRequest(number, prompt, params, samples=rng.choice([1, 1, 2]))


def test_a_crowd_on_the_device_gets_what_it_gets_on_the_host(graph: Path, kernels: HostKernels) -> None:
    rng = random.Random(11)
    requests = [random_request(rng, number) for number in range(14)]
    want, want_prompts = run(on_the_host(graph), requests)
    executor, device = on_the_device(graph, kernels)
    found, prompts = run(executor, requests)
    assert {key: [token for token, _ in pairs] for key, pairs in found.items()} == {
        key: [token for token, _ in pairs] for key, pairs in want.items()
    }
    for key, pairs in want.items():
        logprobs = [[logprob for _, logprob in some] for some in (found[key], pairs)]
        np.testing.assert_allclose(*logprobs, atol=1e-3)
    assert len(prompts) == len(want_prompts) > 0
    for ours, theirs in zip(prompts, want_prompts, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-3)
    assert device.named("launch_graph")
    executor.close()
    assert device.buffers == []
