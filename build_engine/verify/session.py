"""A CPU engine outside the server: one ONNX Runtime session with its KV pools bound in place."""

from __future__ import annotations

from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
import onnxruntime as ort

from runtime.native import library_path

_ELEMENT_TYPES = {"tensor(float16)": np.float16, "tensor(float)": np.float32}


class EngineSession:
    """Runs the ``model.onnx`` of a bundle directory step by step.

    Args:
        directory: Holds ``model.onnx`` and its weight file.
        threads: Of the session's pool; 0 lets ONNX Runtime choose.
    """

    def __init__(self, directory: Path, threads: int = 0) -> None:
        options = ort.SessionOptions()
        options.register_custom_ops_library(str(library_path()))
        options.intra_op_num_threads = threads
        options.enable_cpu_mem_arena = False
        # NOTE: threads that spin between steps would take the cores from the reference's matrix products.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        self._session = ort.InferenceSession(str(directory / "model.onnx"), options, providers=["CPUExecutionProvider"])
        self._pool_inputs = [
            value for value in self._session.get_inputs() if value.name.startswith(("k_cache_", "v_cache_"))
        ]
        self._pools: dict[str, ort.OrtValue] = {}

    @property
    def block_size(self) -> int:
        """Tokens in a KV block."""
        return int(self._pool_inputs[0].shape[2])

    def allocate(self, num_blocks: int) -> Self:
        """Gives every layer zeroed pools of ``num_blocks`` blocks."""
        for value in self._pool_inputs:
            pool = np.zeros((num_blocks, *value.shape[1:]), dtype=_ELEMENT_TYPES[value.type])
            self._pools[value.name] = ort.OrtValue.ortvalue_from_numpy(pool)
        return self

    def step(
        self,
        token_ids: npt.NDArray[np.int64],
        cu_seqlens: npt.NDArray[np.int32],
        past_lens: npt.NDArray[np.int32],
        block_table: npt.NDArray[np.int32],
        logits_rows: npt.NDArray[np.int64],
    ) -> npt.NDArray[np.float32]:
        """Runs one step (see `build_engine.graph.decoder.DecoderGraph`); returns logits float32 ``[R, V]``."""
        binding = self._session.io_binding()
        binding.bind_cpu_input("token_ids", token_ids)
        binding.bind_cpu_input("cu_seqlens", cu_seqlens)
        binding.bind_cpu_input("past_lens", past_lens)
        binding.bind_cpu_input("block_table", block_table)
        binding.bind_cpu_input("logits_rows", logits_rows)
        binding.bind_output("logits")
        for name, pool in self._pools.items():
            binding.bind_ortvalue_input(name, pool)
            binding.bind_ortvalue_output(f"{name}_out", pool)
        self._session.run_with_iobinding(binding)
        logits: npt.NDArray[np.float32] = binding.get_outputs()[0].numpy()
        return logits
