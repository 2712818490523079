"""Plays requests to an engine in process: they arrive at step numbers, not at times, so that the work is the same."""

from __future__ import annotations

import random
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.engine.core import EngineCore
from runtime.executors.host import HostExecutor, HostModel
from runtime.executors.rows import StepInputs
from runtime.messages import AddRequest
from runtime.request import SamplingParams

CLIENT = b"replay"


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrival:
    """A request of random tokens.

    Attributes:
        step: Step before which it arrives.
        prompt: Prompt tokens.
        output: New tokens; the model's own ends are ignored.
        shared: Leading prompt tokens that are the same in all such requests.
        samples: Of the one prompt.
        prompt_logprobs: Log-probabilities of the prompt's tokens are wanted too.
    """

    step: int = 0
    prompt: int
    output: int
    shared: int = 0
    samples: int = 1
    prompt_logprobs: bool = False


@dataclass(frozen=True, slots=True)
class Leave:
    """The client of the arrival with this number gives up before ``step``."""

    step: int
    arrival: int


@dataclass(frozen=True, slots=True)
class Scenario:
    """Requests to one engine.

    Attributes:
        name: For people.
        arrivals: The requests.
        leaves: Those given up.
        engine: Fields of ``EngineConfig`` other than the usual ones.
        reward: It is for a reward model.
    """

    name: str
    arrivals: tuple[Arrival, ...]
    leaves: tuple[Leave, ...] = ()
    engine: dict[str, Any] = field(default_factory=dict)
    reward: bool = False


class CountingModel:
    """A ``HostModel`` that counts what reaches the one it stands before.

    Attributes:
        counts: ``graph runs``, ``rows``, ``tokens computed``, ``logits rows``, ``KV tokens read`` (the lengths of all
            rows, over all runs) and ``blocks copied``.
    """

    def __init__(self, model: HostModel) -> None:
        self._model = model
        self.num_blocks, self.block_size, self.scores = model.num_blocks, model.block_size, model.scores
        self.counts: Counter[str] = Counter()

    def forward(self, inputs: StepInputs) -> npt.NDArray[np.float32]:
        """See ``HostModel``."""
        tokens = len(inputs.token_ids)
        self.counts += Counter(
            {
                "graph runs": 1,
                "rows": len(inputs.past_lens),
                "tokens computed": tokens,
                "logits rows": len(inputs.logits_rows),
                "KV tokens read": int(inputs.past_lens.sum()) + tokens,
            }
        )
        return self._model.forward(inputs)

    def copy_blocks(self, copies: list[tuple[int, int]]) -> None:
        """See ``HostModel``."""
        self.counts["blocks copied"] += len(copies)
        self._model.copy_blocks(copies)

    def close(self) -> None:
        """See ``HostModel``."""
        self._model.close()


def count(core: EngineCore, scenario: Scenario) -> dict[str, int]:
    """Play ``scenario`` to a new engine and count; closes the engine.

    Returns:
        The counts of `CountingModel`, and those of the engine: ``steps``, ``tokens generated``, ``scores``,
        ``prefix hits`` in tokens, ``preemptions``, and ``ended`` samples.
    """
    executor = core.executor
    assert isinstance(executor, HostExecutor)
    model = CountingModel(executor.model)
    executor.model = model
    try:
        found = play(core, scenario) + model.counts
    finally:
        executor.close()
    stats = core.stats()
    found += Counter({"prefix hits": stats.prefix_hits_total, "preemptions": stats.preemptions_total})
    return dict(sorted(found.items()))


def play(core: EngineCore, scenario: Scenario) -> Counter[str]:
    """Run ``scenario`` until nothing is left to do.

    Raises:
        ValueError: The engine refused a request, or one of them failed.
    """
    events = _Events(core, scenario)
    found: Counter[str] = Counter()
    while events.due(found["steps"]) or core.has_work:
        for output in core.step().get(CLIENT, ()):
            if output.error:
                raise ValueError(f"{scenario.name}: {output.error}")
            found["tokens generated"] += output.token_id >= 0
            found["scores"] += output.score is not None
            found["ended"] += bool(output.finish)
        found["steps"] += 1
    return found


class _Events:
    """What comes from outside, in the order of its steps."""

    def __init__(self, core: EngineCore, scenario: Scenario) -> None:
        self._core = core
        self._name = scenario.name
        self._arrivals = sorted(enumerate(scenario.arrivals), key=lambda pair: pair[1].step)
        self._leaves = sorted(scenario.leaves, key=lambda leave: leave.step)

    def due(self, step: int) -> bool:
        """Let happen what is due before ``step``; returns whether anything is still to come."""
        while self._arrivals and self._arrivals[0][1].step <= step:
            number, arrival = self._arrivals.pop(0)
            rejected = self._core.add(CLIENT, request(number, arrival, self._core.limits.vocab_size))
            if rejected is not None:
                raise ValueError(f"{self._name}: {rejected.message}")
        while self._leaves and self._leaves[0].step <= step:
            self._core.abort(CLIENT, self._leaves.pop(0).arrival)
        return bool(self._arrivals or self._leaves)


def request(number: int, arrival: Arrival, vocab_size: int) -> AddRequest:
    """The request of the arrival with this number: always the same tokens."""
    own, shared = random.Random(number + 1), random.Random(0)
    prompt = [shared.randrange(vocab_size) for _ in range(arrival.shared)]
    prompt += [own.randrange(vocab_size) for _ in range(arrival.prompt - arrival.shared)]
    params = SamplingParams(max_new_tokens=arrival.output, ignore_eos=True, prompt_logprobs=arrival.prompt_logprobs)
    return AddRequest(number, prompt, params, arrival.samples)
