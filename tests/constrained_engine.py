"""A whole engine on a model of random logits that can write bytes, and requests for it."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import wait
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from toy_tokenizer import EOS_ID, VOCAB_SIZE, toy_tokenizer

from runtime.constraints.compiler import GrammarCompiler
from runtime.constraints.vocabulary import Vocabulary, load_vocabulary
from runtime.engine.core import EngineCore
from runtime.executors.host import HostExecutor
from runtime.executors.rows import StepInputs
from runtime.executors.scripted import Script, ScriptedModel
from runtime.limits import EngineLimits
from runtime.messages import AddRequest, Rejected, TokenOutput
from runtime.request import Constraint, FinishReason, SamplingParams
from runtime.sampling import RowSampler
from runtime.scheduler import Aggressive

CLIENT = b"client"
SCRIPT = Script(vocab_size=VOCAB_SIZE, block_size=4, max_sequence_tokens=400)


class RandomModel(ScriptedModel):
    """Logits that are a function of all tokens before, with some weight on everything."""

    def forward(self, inputs: StepInputs) -> npt.NDArray[np.float32]:
        favourites = super().forward(inputs).argmax(axis=1)
        logits = [np.random.default_rng(seed).normal(0, 2, VOCAB_SIZE) for seed in favourites.tolist()]
        return np.array(logits, dtype=np.float32).reshape(-1, VOCAB_SIZE)


def toy_vocabulary(directory: Path) -> Vocabulary:
    path = directory / "tokenizer.json"
    toy_tokenizer().save(str(path))
    return load_vocabulary(path, VOCAB_SIZE, [EOS_ID])


def engine(
    vocabulary: Vocabulary, *, num_blocks: int = 200, max_running: int = 8, sampler: RowSampler | None = None
) -> EngineCore:
    """Preempts where ``num_blocks`` are few."""
    limits = EngineLimits(
        max_request_tokens=400,
        max_total_tokens=num_blocks * 4,
        max_running=max_running,
        max_queued=100,
        max_step_tokens=32,
        block_size=4,
        vocab_size=VOCAB_SIZE,
        eos_token_ids=(EOS_ID,),
        constraints=True,
    )
    executor = HostExecutor(
        RandomModel(SCRIPT, num_blocks),
        eos_token_ids=frozenset({EOS_ID}),
        max_rows=max_running,
        max_step_tokens=32,
        max_logit_rows=max_running + 3,
        max_sequence_tokens=400,
        sampler=sampler,
    )
    return EngineCore(executor, limits, Aggressive(), compiler=GrammarCompiler(lambda: vocabulary))


def params(constraint: Constraint | None, **fields: Any) -> SamplingParams:
    return SamplingParams(**({"max_new_tokens": 300, "top_k": -1, "constraint": constraint} | fields))


def run(core: EngineCore, requests: Sequence[AddRequest]) -> dict[tuple[int, int], list[TokenOutput]]:
    """The outputs of each sample."""
    collected: dict[tuple[int, int], list[TokenOutput]] = {}
    for request in requests:
        assert core.add(CLIENT, request) is None
    while core.has_work or len(core.grammars):
        if not core.has_work:
            wait(core.grammars.pending, 30)
        assert core.admit_compiled() == []
        for output in core.step().get(CLIENT, []):
            collected.setdefault((output.request_id, output.sample), []).append(output)
        assert core.check() == []
    return collected


def refusal(core: EngineCore, request: AddRequest) -> str:
    """Why a request is turned away, at once or when its grammar has failed."""
    rejected: Rejected | None = core.add(CLIENT, request)
    if rejected is None:
        wait(core.grammars.pending, 30)
        ((client, rejected),) = core.admit_compiled()
        assert client == CLIENT
    return rejected.message


def text_of(outputs: list[TokenOutput]) -> str:
    """What a sample has written; it has ended by itself."""
    assert outputs[-1].finish is FinishReason.STOP, outputs[-1]
    assert outputs[-1].token_id == EOS_ID
    tokenizer = toy_tokenizer()
    return str(tokenizer.decode([output.token_id for output in outputs]))
