"""An executor on a device: a step is enqueued in ``submit``, and waited for in ``collect``.

Between the two the next step is planned and enqueued: its decodes run from tokens that the host has not seen yet.
"""

from __future__ import annotations

import contextlib
import itertools
import math
from dataclasses import dataclass, field
from typing import Protocol, cast

import numpy as np
import numpy.typing as npt

from runtime.cuda.device import Device, Event, Stream
from runtime.cuda.errors import CudaError
from runtime.cuda.sampler import DeviceSampler, Download
from runtime.executors.base import Capabilities, StepHandle
from runtime.executors.device_slots import DeviceResults, GatherTokens
from runtime.executors.finishers import NOT_FINITE, SCORE_NOT_FINITE, with_results
from runtime.executors.rows import RowTable, StepInputs
from runtime.scheduler.plan import Logits, RowWork, StepOutput, StepPlan

DEPTH = 2


class DeviceModel(Protocol):
    """A model whose results stay on a device.

    Attributes:
        num_blocks: KV blocks in its pool.
        block_size: Tokens in a block.
        prefix_sharing: Rows may share blocks.
        result_shape: Of one result: ``(V,)`` logits, or ``()`` for a score.
    """

    num_blocks: int
    block_size: int
    prefix_sharing: bool
    result_shape: tuple[int, ...]

    def forward(self, inputs: StepInputs, gather: GatherTokens | None) -> DeviceResults:
        """Enqueue a step.

        Args:
            inputs: A token id ``-1 - r`` stands for the last token that row ``r`` sampled.
            gather: Puts sampled tokens in their places; ``None`` where nothing is ever sampled.
        """
        ...

    def copy_blocks(self, copies: list[tuple[int, int]]) -> None:
        """Enqueue copies of KV blocks over all layers, in order."""
        ...

    def close(self) -> None:
        """Give back memory; the stream has to be idle."""
        ...


@dataclass(slots=True)
class _PromptPart:
    """Log-probabilities of a row's prompt: ``count`` of them, from ``start`` on in the step's."""

    row: int
    start: int
    count: int


@dataclass(slots=True)
class _Flying:
    """A step on its way, and what it will bring."""

    event: Event | None = None
    sampling: list[int] = field(default_factory=list)
    drawn: Download | None = None
    prompts: list[_PromptPart] = field(default_factory=list)
    prompt_logprobs: Download | None = None
    scores: npt.NDArray[np.float32] | None = None
    places: list[int] = field(default_factory=list)


class DeviceExecutor:
    """Runs steps on a device.

    Args:
        device: The device; closed with the executor.
        stream: Everything is enqueued on it.
        model: The model.
        sampler: Samples on the device; ``None`` for a reward model.
        max_rows: Rows to keep.
        max_step_tokens: Tokens accepted in one step.
        max_logit_rows: Results that the model can return from one step.
        max_sequence_tokens: Tokens of one row.
    """

    def __init__(
        self,
        device: Device,
        stream: Stream,
        model: DeviceModel,
        sampler: DeviceSampler | None,
        *,
        max_rows: int,
        max_step_tokens: int,
        max_logit_rows: int,
        max_sequence_tokens: int,
    ) -> None:
        self.capabilities = Capabilities(
            num_blocks=model.num_blocks,
            block_size=model.block_size,
            max_rows=max_rows,
            max_step_tokens=max_step_tokens,
            max_logit_rows=max_logit_rows,
            prefix_sharing=model.prefix_sharing,
            depth=DEPTH,
        )
        self._device, self._stream, self._model, self._sampler = device, stream, model, sampler
        self._rows = RowTable(max_rows, max_sequence_tokens, model.block_size)
        places = model.num_blocks + max_logit_rows
        self._scores = itertools.cycle([] if sampler else [device.pinned((places,), "float32") for _ in range(DEPTH)])

    def submit(self, plan: StepPlan) -> StepHandle:
        """See ``Executor``."""
        for start in plan.starts:
            self._rows.start(start)
        for item in plan.work:
            self._rows.extend(item.row, item.new_blocks)
        if self._sampler is not None:
            for start in plan.starts:
                prompt, output = start.tokens[: start.prompt_length], start.tokens[start.prompt_length :]
                self._sampler.start(start.row, start.params, start.sample, prompt, output)
        if plan.block_copies:
            self._model.copy_blocks(plan.block_copies)
        step = _Flying()
        inputs = self._rows.pack(plan)
        results = self._model.forward(inputs, self._sampler.gather_tokens if self._sampler else None)
        self._rows.advance(plan.work)
        self._finish(plan.work, results, step)
        step.event = self._stream.record()
        return step

    def collect(self, handle: StepHandle) -> StepOutput:
        """See ``Executor``."""
        step = cast("_Flying", handle)
        output = StepOutput()
        if step.event is not None:
            step.event.synchronize()
        if step.drawn is not None:
            _read_tokens(step.sampling, step.drawn, output)
        if step.prompt_logprobs is not None:
            _read_prompts(step.prompts, step.prompt_logprobs, output)
        if step.scores is not None:
            _read_scores(step.sampling, step.scores[step.places].tolist(), output)
        return output

    def close(self) -> None:
        """See ``Executor``."""
        with contextlib.suppress(CudaError):  # a device that is broken takes back nothing: the process's end does that
            self._stream.synchronize()
            if self._sampler is not None:
                self._sampler.close()
            self._model.close()
        self._device.close()

    def _finish(self, work: list[RowWork], results: DeviceResults, step: _Flying) -> None:
        places = results.places.tolist()
        sampling: list[tuple[int, int]] = []
        for item, part in with_results(work):
            if item.samples:
                sampling.append((item.row, places[part.stop - 1]))
        step.sampling = [row for row, _ in sampling]
        step.places = [place for _, place in sampling]
        if self._sampler is None:
            self._fetch_scores(results, step)
            return
        self._judge_prompts(self._sampler, work, results, step)
        if sampling:
            step.drawn = self._sampler.sample(step.sampling, results.address, step.places)
            for row in step.sampling:
                self._rows.append(row, -1 - row)

    def _judge_prompts(
        self, sampler: DeviceSampler, work: list[RowWork], results: DeviceResults, step: _Flying
    ) -> None:
        """Enqueue the log-probability of each next prompt token; a chunk's last token may have none."""
        places: list[int] = []
        targets: list[int] = []
        for item, part in with_results(work):
            if item.logits is not Logits.ALL:
                continue
            end = int(self._rows.computed[item.row])
            stop = min(end + 1, int(self._rows.lengths[item.row]))
            following = self._rows.tokens[item.row, end - item.count + 1 : stop].tolist()
            step.prompts.append(_PromptPart(item.row, len(places), len(following)))
            places += results.places[part][: len(following)].tolist()
            targets += following
        if places:
            step.prompt_logprobs = sampler.prompt_logprobs(results.address, places, targets)

    def _fetch_scores(self, results: DeviceResults, step: _Flying) -> None:
        if not step.places:
            return
        scores = next(self._scores)[: max(step.places) + 1]
        self._stream.download(scores, results.address)
        step.scores = scores


def _read_tokens(rows: list[int], drawn: Download, output: StepOutput) -> None:
    for row, token, logprob in zip(rows, drawn.tokens(), drawn.logprobs(), strict=True):
        if token < 0:
            output.errors[row] = NOT_FINITE
        else:
            output.tokens[row] = [token]
            output.logprobs[row] = [logprob]


def _read_prompts(parts: list[_PromptPart], download: Download, output: StepOutput) -> None:
    logprobs = download.logprobs()
    for part in parts:
        found = logprobs[part.start : part.start + part.count]
        if any(math.isnan(logprob) for logprob in found):
            output.errors[part.row] = NOT_FINITE
        else:
            output.prompt_logprobs[part.row] = found


def _read_scores(rows: list[int], scores: list[float], output: StepOutput) -> None:
    for row, score in zip(rows, scores, strict=True):
        if math.isfinite(score):
            output.scores[row] = score
        else:
            output.errors[row] = SCORE_NOT_FINITE
