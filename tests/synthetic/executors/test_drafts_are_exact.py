"""Speculation on real arithmetic: whatever is drafted, tokens and log-probabilities have the bits of a run without."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from tiny import EOS, VOCAB_SIZE, tiny_checkpoint

from build_engine.targets.cpu import CpuOptions, compile_cpu
from runtime.engine.core import EngineCore
from runtime.executors.host import HostExecutor, HostModel
from runtime.executors.ort import OrtModel
from runtime.executors.reference import ReferenceModel
from runtime.limits import EngineLimits
from runtime.messages import AddRequest
from runtime.request import SamplingParams, TopLogprobs
from runtime.sampling import NumpySampler, RowSampler
from runtime.sampling.native_sampler import NativeSampler
from runtime.scheduler import Aggressive, DraftSource, FixedSpeculation, PromptLookup, Sequence

NUM_BLOCKS, BLOCK_SIZE, ROWS = 48, 4, 4
Trace = dict[tuple[int, int], list[tuple[int, float, TopLogprobs | None]]]
"""Tokens, log-probabilities and alternatives by request and sample."""


class Memory:
    """Knows an earlier run, and is wrong about every fourth token or so."""

    def __init__(self, trace: Trace, seed: int) -> None:
        self.trace = trace
        self.rng = random.Random(seed)

    def guess(self, sequence: Sequence, length: int) -> list[int]:
        known = self.trace[sequence.group.key[1], sequence.sample][sequence.generated :][:length]
        return [token if self.rng.random() < 0.75 else self.rng.randrange(VOCAB_SIZE) for token, *_ in known]


@pytest.fixture(scope="module", params=["reference", "onnxruntime"])
def parts(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[HostModel, RowSampler]:
    """A model in NumPy with NumPy's sampler, and one as it is served."""
    eos = frozenset({EOS})
    if request.param == "reference":
        checkpoint = tiny_checkpoint("llama")
        weights = {name: tensor.float32() for name, tensor in checkpoint.tensors.items()}
        model = ReferenceModel(checkpoint.architecture, weights, num_blocks=NUM_BLOCKS, block_size=BLOCK_SIZE)
        return model, NumpySampler(eos)
    folder: Path = tmp_path_factory.mktemp("engine")
    options = CpuOptions(precision="int8", block_size=BLOCK_SIZE)
    compile_cpu(tiny_checkpoint("qwen3"), folder, options, lambda *_: None)
    served = OrtModel(folder, num_blocks=NUM_BLOCKS, max_logit_rows=ROWS + 32, threads=2)
    return served, NativeSampler(eos, max_rows=ROWS, threads=2)


def engine(parts: tuple[HostModel, RowSampler], source: DraftSource | None) -> EngineCore:
    model, sampler = parts
    limits = EngineLimits(
        max_request_tokens=64,
        max_total_tokens=NUM_BLOCKS * BLOCK_SIZE,
        max_running=ROWS,
        max_queued=99,
        max_step_tokens=40,
        block_size=BLOCK_SIZE,
        vocab_size=VOCAB_SIZE,
        eos_token_ids=(EOS,),
    )
    executor = HostExecutor(
        model,
        eos_token_ids=frozenset({EOS}),
        max_rows=ROWS,
        max_step_tokens=40,
        max_logit_rows=ROWS + 32,
        max_sequence_tokens=64,
        sampler=sampler,
    )
    return EngineCore(executor, limits, Aggressive(), speculation=source and FixedSpeculation(source, 7))


def serve(core: EngineCore, requests: list[AddRequest]) -> Trace:
    trace: Trace = {}
    for request in requests:
        assert core.add(b"", request) is None
    while core.has_work:
        for output in core.step().get(b"", []):
            assert not output.error
            drawn = (output.token_id, output.logprob, output.top_logprobs)
            trace.setdefault((output.request_id, output.sample), []).append(drawn)
        assert core.check() == []
    return trace


def random_request(number: int, rng: random.Random) -> AddRequest:
    params = SamplingParams(
        max_new_tokens=rng.randrange(6, 30),
        min_new_tokens=rng.choice([1, 6]),
        top_k=rng.choice([1, -1, 20]),
        top_p=rng.choice([1.0, 0.9]),
        temperature=rng.choice([1.0, 0.8]),
        repetition_penalty=rng.choice([1.0, 1.2]),
        frequency_penalty=rng.choice([0.0, 0.3]),
        presence_penalty=rng.choice([0.0, 0.0, -0.5]),
        decay_factor=rng.choice([1.0, 1.0, 1.3]),
        input_penalty=rng.random() < 0.3,
        prompt_logprobs=rng.random() < 0.2,
        top_logprobs=rng.choice([0, 0, 1, 5]),
        logit_bias=tuple((token, rng.uniform(-3, 3)) for token in rng.sample(range(VOCAB_SIZE), rng.choice([0, 0, 6]))),
        allowed_token_ids=rng.choice([(), (), (EOS, *range(4, 20))]),
        seed=rng.randrange(2**64),
    )
    return AddRequest(number, [rng.randrange(4, 12) for _ in range(rng.randrange(1, 20))], params, rng.choice([1, 2]))


@pytest.mark.parametrize("seed", range(4))
def test_drafts_leave_every_bit_as_it_is(parts: tuple[HostModel, RowSampler], seed: int) -> None:
    rng = random.Random(seed)
    requests = [random_request(number, rng) for number in range(10)]
    plain = serve(engine(parts, None), requests)
    for source in (Memory(plain, seed), PromptLookup()):
        core = engine(parts, source)
        assert serve(core, requests) == plain
        stats = core.stats()
        if isinstance(source, Memory):
            assert stats.drafted_tokens_total > stats.accepted_tokens_total > 0


def test_right_drafts_are_accepted(parts: tuple[HostModel, RowSampler]) -> None:
    request = AddRequest(0, [5, 6, 7, 8], SamplingParams(max_new_tokens=33, top_k=-1, seed=3, ignore_eos=True))
    plain = serve(engine(parts, None), [request])
    memory = Memory(plain, 0)
    memory.rng.random = lambda: 0.0  # type: ignore[method-assign]  # it is never wrong
    core = engine(parts, memory)
    assert serve(core, [request]) == plain
    assert core.stats().steps_total == 1 + 32 / 8
