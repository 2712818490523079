"""A stand-in for the package ``tensorrt``: an engine of the linear-slot graph that follows a script on a fake device.

It keeps token ids in its KV caches, so that a wrong address, shape or order changes what it answers, and it refuses
what the real one refuses: addresses that are not aligned, shapes beyond the profile, tensors without an address.
"""

from __future__ import annotations

import itertools
from enum import Enum, IntEnum
from types import SimpleNamespace
from typing import Any

import numpy as np
from fake_device import FakeDevice

from runtime.executors.scripted import Script, next_token, score_of

PLAN = b"a plan"
KV_HEADS, HEAD_DIM, LAYERS = 2, 4, 2
Shape = tuple[int, ...]


class TensorIOMode(Enum):
    INPUT = 1
    OUTPUT = 2


class ILogger:
    class Severity(IntEnum):
        INTERNAL_ERROR = 0
        ERROR = 1
        WARNING = 2
        INFO = 3

    def __init__(self) -> None:
        pass


class FakeTensorRt:
    """The package.

    Args:
        device: Where its engine runs.
        script: What the engine computes; its block is the slot.
        slots: Of the decode profile.
        chunk: Of the prefill profile.
    """

    __version__ = "99.1"
    TensorIOMode = TensorIOMode
    ILogger = ILogger

    def __init__(self, device: FakeDevice, script: Script, *, slots: int = 8, chunk: int = 16, rows: int = 16) -> None:
        self.device = device
        self.engine = FakeEngine(device, script, slots, chunk, rows)
        self.capturable: bool | None = None

    def Runtime(self, logger: ILogger) -> Any:  # noqa: N802 - the package's name
        def deserialize_cuda_engine(data: Any) -> FakeEngine | None:
            if bytes(data[:]) == PLAN:
                return self.engine
            logger.log(ILogger.Severity.WARNING, "this may\n not be a plan")
            logger.log(ILogger.Severity.ERROR, "magic\n tag does not match")
            return None

        return SimpleNamespace(deserialize_cuda_engine=deserialize_cuda_engine)


class FakeEngine:
    """``ICudaEngine``.

    Attributes:
        refuse: Name of the call that says no.
    """

    num_optimization_profiles = 2
    kv_dtype = np.dtype(np.float16)

    def __init__(self, device: FakeDevice, script: Script, slots: int, chunk: int, rows: int) -> None:
        self.device, self.script = device, script
        self.refuse = ""
        self.contexts: list[FakeContext] = []
        self.capturable: bool | None = None
        cache = (-1, KV_HEADS, script.block_size, HEAD_DIM)
        caches = [f"{kind}_cache_{layer}" for layer, kind in itertools.product(range(LAYERS), "kv")]
        result: tuple[str, Shape] = ("score", (-1,)) if script.scores else ("logits", (-1, script.vocab_size))
        self.inputs: dict[str, Shape] = {"token_ids": (-1, -1), "write_indices": (-1,), "logits_rows": (-1,)}
        self.inputs |= dict.fromkeys(caches, cache)
        self.outputs = dict([result, *((f"{name}_out", cache) for name in caches)])
        self.result = result[0]
        self._largest = [(1, chunk, rows), (slots, 1, slots)]

    @property
    def num_io_tensors(self) -> int:
        return len(self.inputs) + len(self.outputs)

    def get_tensor_name(self, index: int) -> str:
        return [*self.inputs, *self.outputs][index]

    def get_tensor_mode(self, name: str) -> TensorIOMode:
        return TensorIOMode.INPUT if name in self.inputs else TensorIOMode.OUTPUT

    def get_tensor_shape(self, name: str) -> Shape:
        return (self.inputs | self.outputs)[name]

    def get_tensor_dtype(self, name: str) -> Any:
        return SimpleNamespace(itemsize=self.kv_dtype.itemsize if "cache" in name else 8)

    def get_tensor_profile_shape(self, name: str, profile: int) -> list[Shape]:
        batch, tokens, rows = self._largest[profile]
        shapes = {"token_ids": (batch, tokens), "write_indices": (batch,), "logits_rows": (rows,)}
        largest = shapes.get(name, (batch, *self.inputs[name][1:]))
        return [tuple(1 for _ in largest), largest, largest]

    def create_execution_context(self) -> FakeContext | None:
        self.device.called("create_execution_context")
        if self.refuse == "create_execution_context":
            return None
        self.contexts.append(FakeContext(self))
        return self.contexts[-1]

    def compute(self, shapes: dict[str, Shape], addresses: dict[str, int]) -> None:
        """A run, when its turn has come."""
        device, script = self.device, self.script
        ids, starts, rows = (
            device.view(addresses[name], shapes[name], np.int64)
            for name in ("token_ids", "write_indices", "logits_rows")
        )
        caches = []
        for name in self.inputs:
            if "cache" in name:
                assert addresses[name] == addresses[f"{name}_out"], "updated in place"
                caches.append(device.view(addresses[name], shapes[name], self.kv_dtype))
        batch, length = ids.shape
        for row, start in enumerate(starts.tolist()):
            assert 0 <= start <= script.block_size - length
            assert ((ids[row] >= 0) & (ids[row] < script.vocab_size)).all()
            for cache in caches:
                # What cannot be computed spoils the cache too, and what is masked still has to be a number.
                values = np.where(ids[row] == script.nan_on_token, np.nan, ids[row])
                cache[row, :, start : start + length] = values[None, :, None]
        results = device.view(addresses[self.result], (len(rows), *self._width()), np.float32)
        for place, row in enumerate(rows.tolist()):
            slot, offset = divmod(row, length)
            assert slot < batch
            seen = [
                cache[slot, :, : int(starts[slot]) + offset + 1].reshape(KV_HEADS, -1, HEAD_DIM) for cache in caches
            ]
            assert all(np.array_equal(values, seen[0], equal_nan=True) for values in seen), "caches are mixed up"
            if all(np.isfinite(cache[slot]).all() for cache in caches):
                results[place] = self._result(seen[0][0, :, 0].astype(np.int64).tolist())
            else:
                results[place] = np.nan

    def _width(self) -> Shape:
        return () if self.script.scores else (self.script.vocab_size,)

    def _result(self, tokens: list[int]) -> Any:
        if self.script.scores:
            return score_of(self.script, tokens)
        return 8 * (np.arange(self.script.vocab_size) == next_token(self.script, tokens))


class FakeContext:
    """``IExecutionContext``."""

    def __init__(self, engine: FakeEngine) -> None:
        self.engine = engine
        self.profile = -1
        self.shapes: dict[str, Shape] = {}
        self.addresses: dict[str, int] = {}
        self.fresh_shapes = True
        if engine.capturable is not None:
            self.is_stream_capturable = lambda handle: engine.capturable

    def set_optimization_profile_async(self, profile: int, handle: int) -> bool:
        assert handle in self.engine.device.streams
        self.profile = profile
        return self._accepts("set_optimization_profile_async")

    def set_input_shape(self, name: str, shape: Shape) -> bool:
        largest = self.engine.get_tensor_profile_shape(name, self.profile)[2]
        if len(shape) != len(largest) or not all(1 <= a <= b for a, b in zip(shape, largest, strict=True)):
            return False
        self.fresh_shapes |= self.shapes.get(name) != tuple(shape)
        self.shapes[name] = tuple(shape)
        return self._accepts("set_input_shape")

    def set_tensor_address(self, name: str, address: int) -> bool:
        self.addresses[name] = address
        return address % 256 == 0 and self._accepts("set_tensor_address")

    def execute_async_v3(self, handle: int) -> bool:
        stream = self.engine.device.streams[handle]
        self.engine.device.calls.append(
            ("execute", self.profile, self.shapes["token_ids"], stream.captured is not None)
        )
        assert set(self.shapes) == set(self.engine.inputs)
        assert set(self.addresses) == set(self.engine.inputs) | set(self.engine.outputs)
        if stream.captured is not None and self.fresh_shapes:
            return False
        self.fresh_shapes = False
        shapes, addresses = dict(self.shapes), dict(self.addresses)
        stream.enqueue(lambda: self.engine.compute(shapes, addresses))
        return self._accepts("execute_async_v3")

    def _accepts(self, call: str) -> bool:
        return self.engine.refuse != call
