"""A real model, one poisoned request in the batch: everybody else gets the bits of a run without it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from gguf_files import model_file

from build_engine.build import build_bundle
from build_engine.options import BuildOptions
from runtime.config import EngineConfig
from runtime.engine.core import EngineCore
from runtime.engine.factory import build_engine
from runtime.engine.isolation import STEP_FAILED
from runtime.executors.host import HostExecutor
from runtime.executors.rows import StepInputs
from runtime.messages import AddRequest, TokenOutput
from runtime.request import SamplingParams

POISON, DOSE = 17, 40
"""More of the token than the others may come upon by themselves."""
CROWD = 7


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PEREGRINE_CACHE", str(folder / "cache"))
        return build_bundle(str(model_file().write(folder / "tiny.gguf")), BuildOptions(verify=False))


@pytest.fixture(params=["off", "prompt_lookup"])
def core(bundle: Path, request: pytest.FixtureRequest) -> Iterator[EngineCore]:
    config = EngineConfig(bundle=str(bundle), socket="", threads=2, max_running=8, speculation=request.param)
    made, _ = build_engine(config)
    yield made
    made.executor.close()


def answers(core: EngineCore, prompts: list[list[int]]) -> dict[int, list[TokenOutput]]:
    found: dict[int, list[TokenOutput]] = {}
    for number, prompt in enumerate(prompts):
        params = SamplingParams(max_new_tokens=12, ignore_eos=True, top_k=-1 if number % 2 else 1, seed=number)
        assert core.add(b"", AddRequest(number, prompt, params)) is None
    while core.has_work:
        for output in core.step().get(b"", []):
            found.setdefault(output.request_id, []).append(output)
        assert core.check() == []
    return found


def test_the_others_get_the_bits_of_a_run_without_it(core: EngineCore, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL)
    prompts = [[3 + number, 4, 5 + number, 4, 5] * 3 for number in range(CROWD)]
    want = answers(core, prompts)
    executor = core.executor
    assert isinstance(executor, HostExecutor)
    forward, poisoned = executor.model.forward, prompts[2] + [POISON] * DOSE

    def failing(inputs: StepInputs) -> npt.NDArray[np.float32]:
        results = forward(inputs)
        if np.count_nonzero(inputs.token_ids == POISON) >= DOSE:
            raise MemoryError
        return results

    executor.model.forward = failing  # type: ignore[method-assign]
    found = answers(core, [*prompts, poisoned])
    assert [output.error for output in found.pop(CROWD)] == [STEP_FAILED]
    assert {number: [(o.token_id, o.logprob) for o in outputs] for number, outputs in found.items()} == {
        number: [(o.token_id, o.logprob) for o in outputs] for number, outputs in want.items()
    }
    assert core.stats().isolated_requests_total == 1
