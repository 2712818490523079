"""The served path on a fake GPU: the real graph computed in NumPy, the real sampling kernels run on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from cuda_graph import Array, NumpyGraph, write_cuda_graph
from cuda_host.host_kernels import HostKernels
from fake_device import FakeDevice
from fake_onnxruntime import FakeOrt
from paged import BLOCK_SIZE, forward, reference_step
from tiny import EOS, VOCAB_SIZE, tiny_checkpoint
from toy_manifest import toy_manifest

from build_engine.checkpoint import Checkpoint
from runtime.bundle import Bundle, KvLayout
from runtime.bundle.architecture import ScoreHead
from runtime.config import EngineConfig
from runtime.cuda.kernel_cache import KERNELS, kernel_source
from runtime.engine import cuda_engine
from runtime.engine.core import EngineCore
from runtime.engine.sizing import ModelSize
from runtime.messages import AddRequest, TokenOutput
from runtime.request import SamplingParams
from runtime.scheduler import FuturePeak

_ORT_TYPES = {np.dtype(np.float16): "tensor(float16)"}


class NumpyComputation:
    """A graph as a session has it."""

    def __init__(self, path: Path) -> None:
        self._graph = NumpyGraph(path)
        pools = self._graph.pools(1)
        graph = self._graph.model.graph
        self.inputs = [
            SimpleNamespace(name=value.name, type=_type(pools.get(value.name)), shape=_shape(value))
            for value in graph.input
        ]
        self.outputs = [SimpleNamespace(name=value.name, shape=_shape(value)) for value in graph.output]

    def run(self, values: Mapping[str, Array]) -> Array:
        return self._graph.run(values)


def _type(pool: Array | None) -> str:
    return "" if pool is None else _ORT_TYPES[pool.dtype]


def _shape(value: Any) -> list[int | str]:
    return [dim.dim_value or dim.dim_param for dim in value.type.tensor_type.shape.dim]


def _launch(kernels: HostKernels, name: str, _: FakeDevice, grid: Any, block: Any, shared: int, args: Any) -> None:
    kernels.launch(name, grid, block, shared, *args, seed=5)


@pytest.fixture(scope="module")
def kernels() -> HostKernels:
    return HostKernels(kernel_source(KERNELS / "sampling.cu"))


def serve(checkpoint: Checkpoint, folder: Path, kernels: HostKernels, precision: str = "") -> EngineCore:
    path = write_cuda_graph(checkpoint, folder, "float16", precision)
    device = FakeDevice()
    device.kernels = {name: partial(_launch, kernels, name) for name in kernels.names}
    kv = KvLayout(block_size=BLOCK_SIZE, order="block,token,kv_head,dim")
    bundle = Bundle(folder, toy_manifest(target="cuda", architecture=checkpoint.architecture, kv=kv))
    size = ModelSize(
        context_length=128,
        block_size=BLOCK_SIZE,
        kv_bytes_per_token=checkpoint.architecture.kv_bytes_per_token(2),
        vocab_size=VOCAB_SIZE,
        eos_token_ids=(EOS,),
        scores=checkpoint.architecture.score_head is not None,
    )
    wishes = EngineConfig(bundle=str(folder), socket="s", max_step_tokens=24, max_running=5, max_total_tokens=400)
    limits, executor, _ = cuda_engine.assemble(FakeOrt(device, NumpyComputation(path)), device, bundle, wishes, size, 8)
    return EngineCore(executor, limits, FuturePeak())


def answers(core: EngineCore) -> dict[int, list[TokenOutput]]:
    found: dict[int, list[TokenOutput]] = {}
    while core.has_work:
        for output in core.step().get(b"", []):
            found.setdefault(output.request_id, []).append(output)
    return found


@pytest.fixture(autouse=True)
def _no_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cuda_engine, "sampling_kernels", lambda _: b"cubin")


@pytest.mark.parametrize(("family", "precision"), [("llama", ""), ("qwen3", ""), ("mistral", "int8")])
def test_greedy_answers_are_the_references_to_half_precision(
    tmp_path: Path, kernels: HostKernels, family: str, precision: str
) -> None:
    checkpoint = tiny_checkpoint(family)
    core = serve(checkpoint, tmp_path, kernels, precision)
    shared = list(range(40, 52))
    prompts = [shared + [number + 10] * (3 * number + 1) for number in range(7)]
    for number, prompt in enumerate(prompts):
        params = SamplingParams(max_new_tokens=9, ignore_eos=True, top_k=1)
        assert core.add(b"", AddRequest(number, prompt, params)) is None
    found = answers(core)
    for number, prompt in enumerate(prompts):
        tokens = [output.token_id for output in found[number]]
        assert len(tokens) == 9
        logits = forward(reference_step(checkpoint), prompt + tokens)[len(prompt) - 1 : -1]
        best = logits.max(axis=1) - logits[np.arange(9), tokens]
        assert best.max() < (0.2 if precision else 0.03)
    assert core.stats().prefix_hits_total > 0


def test_scores_are_the_references_to_half_precision(tmp_path: Path, kernels: HostKernels) -> None:
    checkpoint = tiny_checkpoint("qwen2", score_head=ScoreHead(hidden_size=24, bias=True))
    core = serve(checkpoint, tmp_path, kernels)
    prompts = [list(range(number + 5, 40)) for number in range(6)]
    for number, prompt in enumerate(prompts):
        assert core.add(b"", AddRequest(number, prompt, SamplingParams(max_new_tokens=1))) is None
    found = answers(core)
    wanted = [forward(reference_step(checkpoint), prompt)[-1] for prompt in prompts]
    assert [found[number][0].score for number in range(6)] == pytest.approx(wanted, abs=0.02)
