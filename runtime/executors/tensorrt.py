"""The linear-slot graph as a TensorRT engine: profile 0 runs a chunk of one slot, profile 1 a token of each of many.

The package is a parameter: ``tensorrt`` and ``tensorrt_rtx`` have the same names. Driven here by stand-ins for the
package and the driver; no engine was run on a GPU yet.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runtime.bundle.errors import BundleError
from runtime.cuda.device import Device, Graph, Stream
from runtime.cuda.errors import CudaError
from runtime.cuda.staging import ALIGNMENT
from runtime.executors.device_slots import RunAddresses
from runtime.executors.slots import SlotRun
from runtime.executors.tensorrt_plan import Plan

log = logging.getLogger(__name__)

PREFILL, DECODE = 0, 1
"""Optimization profiles."""
_CACHES = ("k_cache_", "v_cache_")
_RESULTS = ("logits", "score")


@dataclass(frozen=True, slots=True)
class _Caches:
    """The KV caches, one after the other in one allocation.

    Attributes:
        names: Of the graph's inputs; an output has the same name with ``_out`` behind it.
        shape: Of one slot of one cache.
        slot_bytes: Its size.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    slot_bytes: int


@dataclass(frozen=True, slots=True)
class Contexts:
    """Execution contexts, each with its own profile and its own memory for activations."""

    prefill: Any
    decode: Any


def make_contexts(plan: Plan, stream: Stream) -> Contexts:
    """Contexts of a plan of an engine with linear slots; what is free afterwards is free for slots.

    Raises:
        BundleError: It is something else's.
        CudaError: Device memory is short.
    """
    names = _names(plan.engine)
    wanted = {"token_ids", "write_indices", "logits_rows"}
    if not (wanted <= set(names) and set(_RESULTS) & set(names) and plan.engine.num_optimization_profiles > DECODE):
        raise BundleError("the plan is not that of an engine with linear slots", need="a bundle made by the build")
    return Contexts(prefill=_make_context(plan, PREFILL, stream), decode=_make_context(plan, DECODE, stream))


def batch_sizes(slots: int) -> tuple[int, ...]:
    """Numbers of slots that a decode batch may have: each has a captured graph of its own, so they are few."""
    small = [size for size in (1, 2, 4) if size < slots]
    step = max(8, -(-slots // 128) * 8)
    return (*small, *range(8, slots, step), slots)


class TensorRtRunner:
    """A ``DeviceSlotRunner``.

    A decode batch is captured as a CUDA graph, one for each size, when it first runs; where that fails, batches are
    enqueued kernel by kernel.

    Args:
        plan: The engine.
        contexts: Of ``make_contexts``.
        device: Where it is loaded.
        stream: Everything is enqueued on it.
        slots: Slots to allocate.
        logit_rows: Results wanted from one run of one slot; never more than the engine returns.
        graphs: Capture batches.

    Raises:
        BundleError: The engine was built for fewer slots.
        CudaError: Device memory is short, or a call fails.
    """

    def __init__(
        self,
        plan: Plan,
        contexts: Contexts,
        device: Device,
        stream: Stream,
        *,
        slots: int,
        logit_rows: int,
        graphs: bool = True,
    ) -> None:
        engine = plan.engine
        self._plan, self._contexts, self._stream = plan, contexts, stream
        self._caches = _find_caches(plan)
        self._result = next(name for name in _names(engine) if name in _RESULTS)
        largest = _largest(engine, "token_ids", DECODE)[0]
        if slots > largest:
            raise BundleError(f"the plan was built for {largest} slots, and {slots} are asked for")
        self.slots = slots
        self.capacity = int(self._caches.shape[1])
        self.chunk = _largest(engine, "token_ids", PREFILL)[1]
        self.logit_rows = min(logit_rows, _largest(engine, "logits_rows", PREFILL)[0])
        self.batch_sizes: Sequence[int] = batch_sizes(slots)
        self.result_shape: tuple[int, ...] = tuple(int(size) for size in engine.get_tensor_shape(self._result)[1:])
        total = len(self._caches.names) * slots * self._caches.slot_bytes
        self._pool = device.allocate(total)
        # NOTE: what is masked is still multiplied by zero, and what lies in fresh memory may be no number.
        stream.fill(self._pool.address, 0, total)
        self._capture = graphs
        self._graphs: dict[int, Graph] = {}

    def run(self, run: SlotRun, addresses: RunAddresses) -> None:
        """See ``DeviceSlotRunner``."""
        size = len(run.token_ids)
        graph = self._graphs.get(size) if run.decode else None
        if graph is not None:
            self._stream.launch_graph(graph)
            return
        context = self._contexts.decode if run.decode else self._contexts.prefill
        self._bind(context, run, addresses)
        self._execute(context)
        if run.decode and self._capture:
            self._capture_batch(context, size)

    def clear(self, slot: int) -> None:
        """See ``DeviceSlotRunner``."""
        nbytes, caches = self._caches.slot_bytes, len(self._caches.names)
        self._stream.fill(self._slot(slot), 0, nbytes, rows=caches, pitch=self.slots * nbytes)

    def copy(self, source: int, target: int) -> None:
        """See ``DeviceSlotRunner``."""
        nbytes, caches = self._caches.slot_bytes, len(self._caches.names)
        self._stream.copy(self._slot(target), self._slot(source), nbytes, rows=caches, pitch=self.slots * nbytes)

    def close(self) -> None:
        """See ``DeviceSlotRunner``."""
        for graph in self._graphs.values():
            graph.close()
        self._graphs.clear()
        self._pool.close()

    def _slot(self, slot: int, cache: int = 0) -> int:
        return self._pool.address + (cache * self.slots + slot) * self._caches.slot_bytes

    def _bind(self, context: Any, run: SlotRun, addresses: RunAddresses) -> None:
        batch, rows = len(run.token_ids), len(run.logits_rows)
        inputs = {
            "token_ids": (run.token_ids.shape, addresses.token_ids),
            "write_indices": ((batch,), addresses.write_indices),
            "logits_rows": ((rows,), addresses.logits_rows),
        }
        for name, (shape, address) in inputs.items():
            self._set(context, name, shape, address)
        shape = (batch, *self._caches.shape)
        for cache, name in enumerate(self._caches.names):
            address = self._slot(run.first_slot, cache)
            self._set(context, name, shape, address)
            self._set(context, f"{name}_out", None, address)
        self._set(context, self._result, None, addresses.results)

    def _set(self, context: Any, name: str, shape: tuple[int, ...] | None, address: int) -> None:
        if shape is not None and not context.set_input_shape(name, shape):
            raise self._failure(f"set_input_shape of {name} to {shape}")
        if not context.set_tensor_address(name, address):
            raise self._failure(f"set_tensor_address of {name}")

    def _execute(self, context: Any) -> None:
        if not context.execute_async_v3(self._stream.handle):
            raise self._failure("execute_async_v3")

    def _capture_batch(self, context: Any, size: int) -> None:
        """Keep what the context did last as a graph.

        NOTE: with new shapes a context does things in its first run that cannot be captured; that run has been.
        """
        capturable = getattr(context, "is_stream_capturable", None)  # only TensorRT-RTX has it
        graph: Graph | None = None
        try:
            if capturable is not None and not capturable(self._stream.handle):
                raise self._failure("is_stream_capturable")
            self._stream.begin_capture()
            try:
                self._execute(context)
            finally:
                graph = self._stream.end_capture()
        except CudaError as error:
            log.warning("decode batches run without CUDA graphs: %s", error)
            self._capture = False
            if graph is not None:
                graph.close()
        else:
            self._graphs[size] = graph

    def _failure(self, call: str) -> CudaError:
        return _failure(self._plan, call)


def _make_context(plan: Plan, profile: int, stream: Stream) -> Any:
    context = plan.engine.create_execution_context()
    if context is None:
        raise _failure(plan, "create_execution_context")
    if not context.set_optimization_profile_async(profile, stream.handle):
        raise _failure(plan, "set_optimization_profile_async")
    return context


def _failure(plan: Plan, call: str) -> CudaError:
    return CudaError(call, "", plan.messages.said())


def _names(engine: Any) -> list[str]:
    return [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]


def _find_caches(plan: Plan) -> _Caches:
    engine, modes = plan.engine, plan.trt.TensorIOMode
    found = tuple(
        name for name in _names(engine) if name.startswith(_CACHES) and engine.get_tensor_mode(name) == modes.INPUT
    )
    kinds = {
        (tuple(int(size) for size in engine.get_tensor_shape(name)[1:]), int(engine.get_tensor_dtype(name).itemsize))
        for name in found
    }
    if len(kinds) != 1:
        raise BundleError(f"the plan has KV caches of {len(kinds)} kinds", need="one, as in bundles made by the build")
    shape, itemsize = kinds.pop()
    slot_bytes = itemsize
    for size in shape:
        slot_bytes *= size
    if slot_bytes % ALIGNMENT:
        have = f"a KV slot of the plan has {slot_bytes} bytes in each cache"
        raise BundleError(have, need=f"a multiple of {ALIGNMENT}, since a run may start at any slot")
    return _Caches(found, shape, slot_bytes)


def _largest(engine: Any, name: str, profile: int) -> tuple[int, ...]:
    """The largest shape that a profile takes of an input."""
    return tuple(int(size) for size in engine.get_tensor_profile_shape(name, profile)[2])
