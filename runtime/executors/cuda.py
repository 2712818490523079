"""The packed, paged graph on ONNX Runtime's CUDA provider: everything in device memory, everything on one stream.

Driven here by stand-ins for the session and the driver; not yet run on a GPU.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from runtime.bundle.errors import BundleError
from runtime.cuda.device import Array, Device, DeviceBuffer, Stream
from runtime.cuda.staging import Staging, padded
from runtime.executors.cuda_session import run_options
from runtime.executors.device_slots import DeviceResults, GatherTokens
from runtime.executors.rows import StepInputs

FLOAT, INT32, INT64 = 1, 6, 7
"""Of ``onnx.TensorProto.DataType``."""
_POOL_TYPES = {"tensor(float16)": (10, 2), "tensor(bfloat16)": (16, 2)}
"""Type -> its number in ONNX, and bytes."""
_BOUNDS = "attention_bounds"
_CACHES = ("k_cache_", "v_cache_")


@dataclass(frozen=True, slots=True)
class StepBounds:
    """The largest step: what memory is set aside for.

    Attributes:
        tokens: New tokens of all sequences.
        rows: Sequences.
        results: Rows of logits, or scores.
        sequence_tokens: Tokens of a sequence.
    """

    tokens: int
    rows: int
    results: int
    sequence_tokens: int


@dataclass(frozen=True, slots=True)
class _Pools:
    """The KV pools, one after the other in one allocation.

    Attributes:
        names: Of the graph's inputs; an output has the same name with ``_out`` behind it.
        shape: Of a block.
        element: Its type's number.
        block_bytes: Its size.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    element: int
    block_bytes: int


class CudaModel:
    """A ``DeviceModel`` (see ``device_executor``): the step contract, bound to device memory.

    Args:
        ort: The package.
        session: On ``stream`` (``cuda_session.open_session``).
        device: Where it is loaded.
        stream: Everything is enqueued on it.
        num_blocks: KV blocks to allocate.
        bounds: Of the steps.
        depth: Steps that can be on their way at once.

    Raises:
        BundleError: The session is on something else's graph.
        CudaError: Device memory is short.
    """

    prefix_sharing = True

    def __init__(
        self,
        ort: Any,
        session: Any,
        device: Device,
        stream: Stream,
        *,
        num_blocks: int,
        bounds: StepBounds,
        depth: int,
    ) -> None:
        self._session, self._stream = session, stream
        self._run_options = run_options(ort)
        self._pools = _find_pools(session)
        head = session.get_outputs()[0]
        self.num_blocks = num_blocks
        self.block_size = self._pools.shape[0]
        self.result_shape: tuple[int, ...] = tuple(int(size) for size in head.shape[1:])
        self._head = str(head.name)
        self._buffers: list[DeviceBuffer] = []
        nbytes = _staging_bytes(bounds, self.block_size)
        self._staging = itertools.cycle([Staging(device, nbytes) for _ in range(depth)])
        self._inputs = self._allocate(device, nbytes)
        self._tokens = self._allocate(device, bounds.tokens * 8)
        self._results = self._allocate(device, bounds.results * 4 * math.prod(self.result_shape))
        self._pool_bytes = num_blocks * self._pools.block_bytes
        total = len(self._pools.names) * self._pool_bytes
        self._pool = self._allocate(device, total)
        # NOTE: what is masked is still multiplied by zero, and what lies in fresh memory may be no number.
        stream.fill(self._pool, 0, total)
        self._bounds = np.zeros(2, dtype=np.int32)
        self._binding = session.io_binding()
        self._bind_fixed()

    def forward(self, inputs: StepInputs, gather: GatherTokens | None) -> DeviceResults:
        """See ``DeviceModel``.

        Raises:
            Exception: The package's own, whichever it is.
        """
        count = len(inputs.logits_rows)
        # NOTE: with nothing wanted the first row is computed all the same: no operator ever sees an empty matrix.
        wanted = inputs.logits_rows if count else np.zeros(1, dtype=np.int64)
        staging = next(self._staging)
        staging.begin()
        token_ids = staging.add(inputs.token_ids)
        sources = staging.add(np.where(inputs.token_ids < 0, -1 - inputs.token_ids, -1).astype(np.int32))
        # NOTE: the padding of a table is never looked up, but it may be fetched ahead.
        table = np.maximum(inputs.block_table, 0)
        lengths = {"cu_seqlens": inputs.cu_seqlens, "past_lens": inputs.past_lens, "block_table": table}
        for name, array in lengths.items():
            self._bind(name, INT32, array.shape, self._inputs + staging.add(array))
        self._bind("logits_rows", INT64, wanted.shape, self._inputs + staging.add(wanted))
        staging.upload(self._stream, self._inputs)
        self._bind("token_ids", INT64, inputs.token_ids.shape, self._placed(inputs, token_ids, sources, gather))
        self._binding.bind_output(self._head, "cuda", 0, FLOAT, [len(wanted), *self.result_shape], self._results)
        self._set_bounds(inputs)
        self._session.run_with_iobinding(self._binding, self._run_options)
        return DeviceResults(self._results, np.arange(count, dtype=np.int64))

    def copy_blocks(self, copies: list[tuple[int, int]]) -> None:
        """See ``DeviceModel``."""
        nbytes = self._pools.block_bytes
        for source, target in copies:
            places = self._pool + target * nbytes, self._pool + source * nbytes
            self._stream.copy(*places, nbytes, rows=len(self._pools.names), pitch=self._pool_bytes)

    def close(self) -> None:
        """See ``DeviceModel``; the session goes with the last model that has it."""
        self._binding.clear_binding_inputs()
        self._binding.clear_binding_outputs()
        self._session = self._binding = None
        for buffer in self._buffers:
            buffer.close()

    def _placed(self, inputs: StepInputs, token_ids: int, sources: int, gather: GatherTokens | None) -> int:
        """Address of the token ids; one that only the device knows is put in its place on the way."""
        if gather is None:
            return self._inputs + token_ids
        gather(self._tokens, self._inputs + token_ids, self._inputs + sources, len(inputs.token_ids))
        return self._tokens

    def _set_bounds(self, inputs: StepInputs) -> None:
        """The operator reads them while it is being enqueued: the next step may write them again."""
        counts = np.diff(inputs.cu_seqlens)
        self._bounds[:] = counts.max(), (counts + inputs.past_lens).max()

    def _bind_fixed(self) -> None:
        """What every run finds in the same place."""
        pools = self._pools
        shape = [self.num_blocks, *pools.shape]
        for index, name in enumerate(pools.names):
            address = self._pool + index * self._pool_bytes
            self._binding.bind_input(name, "cuda", 0, pools.element, shape, address)
            self._binding.bind_output(f"{name}_out", "cuda", 0, pools.element, shape, address)
        self._binding.bind_input(_BOUNDS, "cpu", 0, INT32, [2], self._bounds.ctypes.data)

    def _bind(self, name: str, element: int, shape: tuple[int, ...], address: int) -> None:
        self._binding.bind_input(name, "cuda", 0, element, list(shape), address)

    def _allocate(self, device: Device, nbytes: int) -> int:
        buffer = device.allocate(nbytes)
        self._buffers.append(buffer)
        return buffer.address


def fixed_bytes(result_shape: tuple[int, ...], bounds: StepBounds, block_size: int) -> int:
    """Device memory of a model beside its session and its pools."""
    inputs = _staging_bytes(bounds, block_size)
    return inputs + 8 * bounds.tokens + 4 * bounds.results * math.prod(result_shape)


def largest_step(bounds: StepBounds, block_size: int) -> StepInputs:
    """One prompt that fills a step, with as many results as there can be: what takes most memory on the way."""
    tokens = min(bounds.tokens, bounds.sequence_tokens)
    zeros: Array = np.zeros(tokens, dtype=np.int64)
    return StepInputs(
        token_ids=zeros,
        cu_seqlens=np.array([0, tokens], dtype=np.int32),
        past_lens=np.zeros(1, dtype=np.int32),
        block_table=np.arange(-(-tokens // block_size), dtype=np.int32)[None],
        logits_rows=np.arange(min(tokens, bounds.results), dtype=np.int64),
    )


def _staging_bytes(bounds: StepBounds, block_size: int) -> int:
    table = bounds.rows * -(-bounds.sequence_tokens // block_size)
    arrays = (8 * bounds.tokens, 4 * bounds.tokens, 4 * (bounds.rows + 1), 4 * bounds.rows, 4 * table)
    return sum(map(padded, (*arrays, 8 * max(1, bounds.results))))


def _find_pools(session: Any) -> _Pools:
    inputs = list(session.get_inputs())
    found = [value for value in inputs if value.name.startswith(_CACHES)]
    kinds = {(tuple(value.shape[1:]), str(value.type)) for value in found}
    if len(kinds) != 1 or _BOUNDS not in {value.name for value in inputs}:
        raise BundleError("the graph is not that of target cuda", need="a bundle made by the build")
    shape, kind = kinds.pop()
    element, itemsize = _POOL_TYPES[kind]
    return _Pools(tuple(value.name for value in found), shape, element, math.prod(shape) * itemsize)
