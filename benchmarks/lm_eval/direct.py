"""The same likelihoods without a server: from the bundle's executor, from its logits, and in float32."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from benchmarks.lm_eval.continuations import Continuation, Likelihood
from build_engine.sources import resolve_source
from runtime.bundle import open_bundle
from runtime.executors import StepInputs
from runtime.executors.host import HostExecutor
from runtime.executors.ort import OrtModel
from runtime.reference.decoder import ReferenceDecoder
from runtime.request import SamplingParams
from runtime.sampling.native_sampler import NativeSampler
from runtime.scheduler import Logits, RowStart, RowWork, StepPlan

MOST_TOKENS = 128
"""Of a continuation with its context."""

AT_ONCE = 16
"""Texts that are computed together; of the engine's, the bits do not depend on it."""

Floats = npt.NDArray[np.float32]


def by_executor(bundle: Path, asked: list[Continuation]) -> list[Likelihood]:
    """As the engine has them, to the bit: its executor and sampler, one text a step."""
    model = _open_model(bundle)
    eos = frozenset(open_bundle(bundle).manifest.eos_token_ids)
    executor = HostExecutor(
        model,
        eos_token_ids=eos,
        max_rows=1,
        max_step_tokens=MOST_TOKENS,
        max_logit_rows=MOST_TOKENS,
        max_sequence_tokens=MOST_TOKENS,
        sampler=NativeSampler(eos, max_rows=1, threads=1),
    )
    params = SamplingParams(max_new_tokens=1, prompt_logprobs=True, top_logprobs=1)
    blocks = list(range(MOST_TOKENS // model.block_size))
    found = []
    for tokens, context in asked:
        start = RowStart(0, tokens, len(tokens), 0, blocks, params)
        plan = StepPlan(ends=[0], starts=[start], work=[RowWork(0, len(tokens), [], Logits.ALL, samples=True)])
        output = executor.collect(executor.submit(plan))
        # NOTE: lm-eval adds them up one by one from the left, and so rounds as this does.
        logprobs = output.prompt_logprobs[0][context - 1 :]
        best = [top[0][1] for top in output.prompt_top_logprobs[0][context - 1 :]]
        found.append(Likelihood(sum(logprobs), all(map(float.__ge__, logprobs, best))))
    executor.close()
    return found


def by_logits(bundle: Path, asked: list[Continuation]) -> list[Likelihood]:
    """From the model's logits, by a softmax in float64."""
    model = _open_model(bundle)
    found = _likelihoods(model.forward, asked, model.block_size)
    model.close()
    return found


def in_float32(bundle: Path, asked: list[Continuation]) -> list[Likelihood]:
    """From float32 logits of the checkpoint that the bundle was built from; takes 4 bytes a weight."""
    source = open_bundle(bundle).manifest.source
    checkpoint = resolve_source(source.spec or source.path).open()
    architecture = checkpoint.architecture
    decoder = ReferenceDecoder(architecture, {name: tensor.float32() for name, tensor in checkpoint.tensors.items()})
    shape = (AT_ONCE, architecture.num_kv_heads, MOST_TOKENS, architecture.head_dim)

    def forward(inputs: StepInputs) -> Floats:
        pools = [[np.zeros(shape, np.float32) for _ in range(architecture.num_layers)] for _ in range(2)]
        fields = (inputs.token_ids, inputs.cu_seqlens, inputs.past_lens, inputs.block_table, inputs.logits_rows)
        return decoder.step(*fields, *pools)

    return _likelihoods(forward, asked, MOST_TOKENS)


def _open_model(bundle: Path) -> OrtModel:
    threads = len(os.sched_getaffinity(0))
    block_size = open_bundle(bundle).manifest.kv.block_size
    return OrtModel(
        bundle,
        num_blocks=AT_ONCE * MOST_TOKENS // block_size,
        max_logit_rows=MOST_TOKENS,
        threads=threads,
        spinning=False,
    )


def _likelihoods(
    forward: Callable[[StepInputs], Floats], asked: list[Continuation], block_size: int
) -> list[Likelihood]:
    """Some texts a step."""
    found = []
    for first in range(0, len(asked), AT_ONCE):
        texts = asked[first : first + AT_ONCE]
        logits = forward(_step(texts, MOST_TOKENS // block_size)).astype(np.float64)
        for tokens, context in texts:
            z, logits = logits[: len(tokens) - context], logits[len(tokens) - context :]
            chosen, best = z[np.arange(len(z)), tokens[context:]], z.max(axis=1)
            logprobs = chosen - best - np.log(np.exp(z - best[:, None]).sum(axis=1))
            found.append(Likelihood(float(logprobs.sum()), bool((chosen == best).all())))
    return found


def _step(texts: list[Continuation], blocks: int) -> StepInputs:
    """All of the texts, each with ``blocks`` blocks of its own; logits where a continuation's tokens are foretold."""
    ends = np.cumsum([0, *(len(tokens) for tokens, _ in texts)], dtype=np.int32)
    foretold = [
        np.arange(start + context - 1, start + len(tokens) - 1)
        for (tokens, context), start in zip(texts, ends.tolist(), strict=False)
    ]
    return StepInputs(
        np.array([token for tokens, _ in texts for token in tokens], np.int64),
        ends,
        np.zeros(len(texts), np.int32),
        np.arange(len(texts) * blocks, dtype=np.int32).reshape(len(texts), blocks),
        np.concatenate(foretold),
    )
