"""Linear KV slots on a device: a step's inputs in one upload, its runs in a row, results where they can be sampled."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from runtime.cuda.device import Device, DeviceBuffer, Stream
from runtime.cuda.staging import ALIGNMENT, Staging
from runtime.executors.rows import StepInputs
from runtime.executors.slots import UNWANTED, SlotPlanner, SlotRun

GatherTokens = Callable[[int, int, int, int], None]
"""``(token_ids, host_ids, sources, count)``: see ``runtime.cuda.sampler.DeviceSampler.gather_tokens``."""


@dataclass(frozen=True, slots=True)
class RunAddresses:
    """Where a run's inputs are, and where its results go.

    Attributes:
        token_ids: int64 ``[B, S]``.
        write_indices: int64 ``[B]``.
        logits_rows: int64 ``[R]``.
        results: float32 ``[R, ...]``.
    """

    token_ids: int
    write_indices: int
    logits_rows: int
    results: int


class DeviceSlotRunner(Protocol):
    """Runs the linear-slot graph on a device; the slots are its own, and full of zeros at first.

    What it is told to do it enqueues on its stream. The attributes are ``SlotRunner``'s.
    """

    slots: int
    capacity: int
    chunk: int
    logit_rows: int
    batch_sizes: Sequence[int]
    result_shape: tuple[int, ...]

    def run(self, run: SlotRun, addresses: RunAddresses) -> None:
        """Run the graph.

        NOTE: a batch of one size has the same addresses every time, so that it can be captured.
        """
        ...

    def clear(self, slot: int) -> None:
        """Fill a slot with zeros, over all layers."""
        ...

    def copy(self, source: int, target: int) -> None:
        """Copy a slot, over all layers."""
        ...

    def close(self) -> None:
        """Give back memory; the stream has to be idle."""
        ...


@dataclass(frozen=True, slots=True)
class DeviceResults:
    """Where a step's results will be.

    Attributes:
        address: float32 ``[places, ...]``.
        places: int64 ``[R]``: which of those is each wanted result.
    """

    address: int
    places: npt.NDArray[np.int64]


class DeviceSlotModel:
    """A ``DeviceModel`` (see ``device_executor``) whose blocks are the slots of a runner.

    Args:
        device: The device.
        stream: The runner's.
        runner: Runs the graph; closed with the model.
        max_step_tokens: Tokens of a step.
        max_logit_rows: Results of a step.
        depth: Steps that can be on their way at once.
    """

    prefix_sharing = False

    def __init__(
        self,
        device: Device,
        stream: Stream,
        runner: DeviceSlotRunner,
        *,
        max_step_tokens: int,
        max_logit_rows: int,
        depth: int,
    ) -> None:
        self.num_blocks = runner.slots
        self.block_size = runner.capacity
        self.result_shape = runner.result_shape
        self._stream = stream
        self._runner = runner
        self._planner = SlotPlanner(
            runner.slots, chunk=runner.chunk, logit_rows=runner.logit_rows, batch_sizes=runner.batch_sizes
        )
        self._longest_run = min(runner.chunk, runner.capacity, max_step_tokens)
        self._result_bytes = 4 * int(np.prod(runner.result_shape, dtype=np.int64))
        nbytes = _staging_bytes(runner, max_step_tokens, max_logit_rows)
        self._staging = itertools.cycle([Staging(device, nbytes) for _ in range(depth)])
        self._buffers: list[DeviceBuffer] = []
        self._inputs = self._allocate(device, nbytes)
        self._tokens = self._allocate(device, nbytes)
        self._results = self._allocate(device, (runner.slots + max_logit_rows) * self._result_bytes)
        self._scratch = self._allocate(device, runner.logit_rows * self._result_bytes)

    def forward(self, inputs: StepInputs, gather: GatherTokens | None) -> DeviceResults:
        """See ``DeviceModel``."""
        step = self._planner.plan(inputs)
        staging = next(self._staging)
        staging.begin()
        segments = [_pack(staging, run) for run in step.runs]
        staging.upload(self._stream, self._inputs)
        for slot in step.clears:
            self._runner.clear(slot)
        places = np.full(len(inputs.logits_rows), UNWANTED, dtype=np.int64)
        used = 0
        for run, segment in zip(step.runs, segments, strict=True):
            addresses = self._addresses(run, segment, gather)
            self._runner.run(run, addresses)
            used += self._keep(run, addresses.results, used, places)
        return DeviceResults(self._results, places)

    def warm_up(self, gather: GatherTokens | None) -> None:
        """Enqueue a prompt and a batch of every size, so that no request waits for what only happens the first time.

        NOTE: comes before the first step: what it leaves in the slots is masked for those who enter them.
        """
        runs = [_idle_run(1, self._longest_run, decode=False)]
        runs += [_idle_run(size, 1, decode=True) for size in self._runner.batch_sizes or (self._runner.slots,)]
        for run in runs:
            staging = next(self._staging)
            staging.begin()
            segment = _pack(staging, run)
            staging.upload(self._stream, self._inputs)
            self._runner.run(run, self._addresses(run, segment, gather))

    def copy_blocks(self, copies: list[tuple[int, int]]) -> None:
        """See ``DeviceModel``."""
        for source, target in copies:
            self._runner.copy(source, target)
            self._planner.copied(source, target)

    def close(self) -> None:
        """See ``DeviceModel``."""
        self._runner.close()
        for buffer in self._buffers:
            buffer.close()

    def _addresses(self, run: SlotRun, segment: _Segment, gather: GatherTokens | None) -> RunAddresses:
        """Where the run finds everything; a token that only the device knows is put in its place on the way."""
        token_ids = self._inputs + segment.token_ids
        if gather is not None:
            token_ids = self._tokens + segment.token_ids
            sources = self._inputs + segment.sources
            gather(token_ids, self._inputs + segment.token_ids, sources, run.token_ids.size)
        return RunAddresses(
            token_ids=token_ids,
            write_indices=self._inputs + segment.write_indices,
            logits_rows=self._inputs + segment.logits_rows,
            results=self._results if run.decode else self._scratch,
        )

    def _keep(self, run: SlotRun, address: int, used: int, places: npt.NDArray[np.int64]) -> int:
        """Note where the run's wanted results are; returns how many places they take behind the ``used`` ones.

        NOTE: a batch's results lie where it put them. Those of a prompt, all wanted or only one and not wanted, are
        copied to the next places: an address to run with has to be aligned, and theirs need not be.
        """
        wanted = run.places != UNWANTED
        if run.decode:
            places[run.places[wanted]] = np.flatnonzero(wanted)
            return len(run.places)
        count = int(np.count_nonzero(wanted))
        if count:
            places[run.places] = used + np.arange(count)
            self._stream.copy(self._results + used * self._result_bytes, address, count * self._result_bytes)
        return count

    def _allocate(self, device: Device, nbytes: int) -> int:
        buffer = device.allocate(nbytes)
        self._buffers.append(buffer)
        return buffer.address


@dataclass(frozen=True, slots=True)
class _Segment:
    """Offsets of a run's inputs in the staging memory."""

    token_ids: int
    write_indices: int
    logits_rows: int
    sources: int


def _idle_run(batch: int, tokens: int, *, decode: bool) -> SlotRun:
    """A run that nobody wants anything of."""
    rows = np.arange(batch, dtype=np.int64)
    nothing = np.zeros((batch, tokens), dtype=np.int64)
    return SlotRun(0, nothing, np.zeros(batch, dtype=np.int64), rows, np.full(batch, UNWANTED), decode)


def _pack(staging: Staging, run: SlotRun) -> _Segment:
    token_ids = run.token_ids.reshape(-1)
    return _Segment(
        token_ids=staging.add(token_ids),
        write_indices=staging.add(run.write_indices),
        logits_rows=staging.add(run.logits_rows),
        sources=staging.add(np.where(token_ids < 0, -1 - token_ids, -1).astype(np.int32)),
    )


def _staging_bytes(runner: DeviceSlotRunner, max_step_tokens: int, max_logit_rows: int) -> int:
    """Enough for the inputs of any step: its arrays, and the padding of each run's four."""
    runs = 1 + min(runner.slots, max_step_tokens // 2) + max_step_tokens // min(runner.chunk, runner.logit_rows)
    tokens = runner.slots + max_step_tokens
    return 12 * tokens + 8 * (runner.slots + runs) + 8 * (runner.slots + runs + max_logit_rows) + 4 * ALIGNMENT * runs
