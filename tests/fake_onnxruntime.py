"""A stand-in for ``onnxruntime-gpu``: sessions that compute on a fake device, on the stream that they were given.

Refuses what the real one refuses: an input that is not bound, a pool whose output is elsewhere, memory on the wrong
side. What it is told to run it enqueues; host memory it reads at once.
"""

from __future__ import annotations

import ctypes
import itertools
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import SimpleNamespace
from typing import Any, Protocol

import ml_dtypes
import numpy as np
import numpy.typing as npt
from fake_device import FakeDevice

from runtime.executors.scripted import Script, next_token, score_of

Array = npt.NDArray[Any]
BLOCK, KV_HEADS, HEAD_DIM = 4, 2, 16
CACHES = ("k_cache_0", "v_cache_0", "k_cache_1", "v_cache_1")
_TYPES = {1: np.float32, 6: np.int32, 7: np.int64, 10: np.float16, 16: ml_dtypes.bfloat16}


class Computation(Protocol):
    """What a session computes: values have ``name``, ``type`` and ``shape``, as the package has them."""

    inputs: list[Any]
    outputs: list[Any]

    def run(self, values: Mapping[str, Array]) -> Array:
        """The first output; pools are written in place."""
        ...


class FakeOrt:
    """The package.

    Args:
        device: Where its sessions run.
        computation: Of every session.
    """

    __version__ = "1.31.7"
    GraphOptimizationLevel = SimpleNamespace(ORT_ENABLE_BASIC="basic")

    def __init__(self, device: FakeDevice, computation: Computation) -> None:
        self.device, self.computation = device, computation
        self.providers = ["CUDAExecutionProvider", "CPUExecutionProvider"]
        self.started = ["CUDAExecutionProvider"]
        self.sessions: list[FakeSession] = []
        self.error: Exception | None = None
        self.preloaded = False

    def get_available_providers(self) -> list[str]:
        return self.providers

    def preload_dlls(self) -> None:
        self.preloaded = True

    def SessionOptions(self) -> Any:  # noqa: N802 - the package's name
        entries: dict[str, str] = {}
        return SimpleNamespace(entries=entries, add_session_config_entry=entries.__setitem__)

    def RunOptions(self) -> Any:  # noqa: N802 - the package's name
        entries: dict[str, str] = {}
        return SimpleNamespace(entries=entries, add_run_config_entry=entries.__setitem__)

    def InferenceSession(self, model: Any, options: Any, *, providers: Any, enable_fallback: int) -> FakeSession:  # noqa: N802
        assert enable_fallback == 0
        if self.error is not None:
            raise self.error
        self.sessions.append(FakeSession(self, options, dict(providers)["CUDAExecutionProvider"]))
        return self.sessions[-1]


@dataclass
class Bound:
    """What a name is bound to."""

    device: str
    element: int
    shape: list[int]
    address: int


@dataclass
class FakeBinding:
    """``IOBinding``."""

    inputs: dict[str, Bound] = field(default_factory=dict)
    outputs: dict[str, Bound] = field(default_factory=dict)

    def bind_input(self, name: str, device: str, ordinal: int, element: int, shape: list[int], address: int) -> None:
        self.inputs[name] = Bound(device, element, shape, address)

    def bind_output(self, name: str, device: str, ordinal: int, element: int, shape: list[int], address: int) -> None:
        self.outputs[name] = Bound(device, element, shape, address)

    def clear_binding_inputs(self) -> None:
        self.inputs.clear()

    def clear_binding_outputs(self) -> None:
        self.outputs.clear()


class FakeSession:
    """``InferenceSession``.

    Attributes:
        arena: Bytes that each run but the first finds taken: the package keeps them.
        bounds: What the attention was told of each run.
    """

    def __init__(self, ort: FakeOrt, options: Any, provider: dict[str, str]) -> None:
        self.options, self.provider = options, provider
        self.arena = 0
        self.bounds: list[list[int]] = []
        self.fail_next = False
        self._ort, self._computation = ort, ort.computation
        self._stream = ort.device.streams[int(provider["user_compute_stream"])]

    def get_providers(self) -> list[str]:
        return self._ort.started

    def get_inputs(self) -> list[Any]:
        return self._computation.inputs

    def get_outputs(self) -> list[Any]:
        return self._computation.outputs

    def io_binding(self) -> FakeBinding:
        return FakeBinding()

    def run_with_iobinding(self, binding: FakeBinding, options: Any) -> None:
        assert options.entries == {"disable_synchronize_execution_providers": "1"}
        self._ort.device.called("run", binding.inputs["token_ids"].shape[0])
        if self.fail_next:
            self.fail_next = False
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : it fails here\nand says more")
        if self.arena:
            self._ort.device.allocate(self.arena)
            self.arena = 0
        inputs, outputs = dict(binding.inputs), dict(binding.outputs)
        self._check(inputs, outputs)
        host = {name: _host(bound) for name, bound in inputs.items() if bound.device == "cpu"}
        self.bounds.append(host["attention_bounds"].tolist())
        self._stream.enqueue(lambda: self._compute(inputs, outputs, host))

    def _check(self, inputs: dict[str, Bound], outputs: dict[str, Bound]) -> None:
        assert set(inputs) == {value.name for value in self._computation.inputs}
        assert set(outputs) == {value.name for value in self._computation.outputs}
        for name, bound in inputs.items():
            assert (bound.device == "cpu") == (name == "attention_bounds"), f"{name} is on the wrong side"
            assert min(bound.shape) > 0
            if "cache" in name:
                assert outputs[f"{name}_out"] == bound, "updated in place"

    def _compute(self, inputs: dict[str, Bound], outputs: dict[str, Bound], host: dict[str, Array]) -> None:
        device = self._ort.device
        values = host | {
            name: device.view(bound.address, tuple(bound.shape), _TYPES[bound.element])
            for name, bound in inputs.items()
            if bound.device == "cuda"
        }
        _check_step(values)
        head = outputs[self._computation.outputs[0].name]
        device.view(head.address, tuple(head.shape), _TYPES[head.element])[...] = self._computation.run(values)


def _host(bound: Bound) -> Array:
    assert bound.element == 6
    return np.array((ctypes.c_int32 * bound.shape[0]).from_address(bound.address))


def _check_step(values: Mapping[str, Array]) -> None:
    counts, past = np.diff(values["cu_seqlens"]), values["past_lens"]
    blocks, size = values["k_cache_0"].shape[:2]
    assert counts.min() > 0
    assert counts.sum() == len(values["token_ids"])
    assert values["attention_bounds"].tolist() == [counts.max(), (counts + past).max()]
    assert values["block_table"].min() >= 0
    assert values["block_table"].max() < blocks
    assert (values["block_table"].shape[1] * size >= counts + past).all()


class ScriptedGraph:
    """A graph that follows a script, and keeps token ids in its pools."""

    def __init__(self, script: Script) -> None:
        assert script.block_size == BLOCK
        self.script = script
        names = ["token_ids", "cu_seqlens", "past_lens", "block_table", "logits_rows", "attention_bounds"]
        self.inputs = [SimpleNamespace(name=name, type="", shape=[]) for name in names]
        shape = ["blocks", BLOCK, KV_HEADS, HEAD_DIM]
        self.inputs += [SimpleNamespace(name=name, type="tensor(float16)", shape=shape) for name in CACHES]
        head = ("score", ["rows"]) if script.scores else ("logits", ["rows", script.vocab_size])
        self.outputs = [SimpleNamespace(name=head[0], shape=head[1])]
        self.outputs += [SimpleNamespace(name=f"{name}_out", shape=shape) for name in CACHES]

    def run(self, values: Mapping[str, Array]) -> Array:
        ends, past, table = values["cu_seqlens"].tolist(), values["past_lens"].tolist(), values["block_table"]
        ids = values["token_ids"]
        assert ((ids >= 0) & (ids < self.script.vocab_size)).all()
        contexts: list[list[int]] = []
        for row, (first, stop) in enumerate(itertools.pairwise(ends)):
            positions = np.arange(past[row] + stop - first)
            places = table[row, positions // BLOCK], positions % BLOCK
            for name in CACHES:
                values[name][places[0][past[row] :], places[1][past[row] :]] = ids[first:stop, None, None]
            seen = [values[name][places] for name in CACHES]
            assert all(np.array_equal(tokens, seen[0]) for tokens in seen), "pools are mixed up"
            tokens = seen[0][:, 0, 0].astype(np.int64).tolist()
            contexts += [tokens[: past[row] + count] for count in range(1, stop - first + 1)]
        return np.array([self._result(contexts[row]) for row in values["logits_rows"]], np.float32)

    def _result(self, tokens: list[int]) -> Any:
        if self.script.scores:
            return score_of(self.script, tokens)
        logits = 8.0 * (np.arange(self.script.vocab_size) == next_token(self.script, tokens))
        return logits * np.nan if tokens[-1] == self.script.nan_on_token else logits
