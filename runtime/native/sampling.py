"""The library's sampling: one call draws a token for each row of a batch."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.native.library import active_isa, load_library

SAMPLING_ROW = np.dtype(
    [
        ("seed", "u8"),
        ("sample", "i8"),
        ("generated", "i8"),
        ("min_new_tokens", "i8"),
        ("decay_start", "i8"),
        ("log_decay", "f8"),
        ("top_p", "f8"),
        ("top_k", "i8"),
        ("frequency_penalty", "f8"),
        ("repetition_penalty", "f4"),
        ("presence_penalty", "f4"),
        ("temperature", "f4"),
        ("filtered", "i4"),
        ("counted", "u8"),
        ("counts", "u8"),
        ("counted_length", "i8"),
        ("allowed", "u8"),
        ("allowed_length", "i8"),
        ("mask", "u8"),
    ]
)
"""One row's parameters as ``src/sampling.h`` has them; ``counted``, ``counts``, ``allowed`` are addresses of int64,
``mask`` is one of ``ceil(V / 32)`` words of uint32."""


class _Batch(ctypes.Structure):
    _fields_ = (
        ("logits", ctypes.c_void_p),
        ("vocab", ctypes.c_int64),
        ("table", ctypes.c_void_p),
        ("rows", ctypes.c_void_p),
        ("places", ctypes.c_void_p),
        ("count", ctypes.c_int64),
        ("eos", ctypes.c_void_p),
        ("eos_count", ctypes.c_int64),
    )


class SamplingCall:
    """The native function with its arguments, bound once.

    Args:
        table: ``SAMPLING_ROW [max_rows]``, the caller's to fill.
        eos_token_ids: Ids that ``min_new_tokens`` masks and the length decay raises.
        threads: Threads to use, the caller's among them.

    Raises:
        NativeLibraryError: The library is missing, was built from other sources, or was asked for an instruction set
            that is not there.
    """

    def __init__(self, table: npt.NDArray[Any], eos_token_ids: Sequence[int], threads: int) -> None:
        active_isa()  # the library samples with it unasked
        count = len(table)
        self._table = table
        self._eos = np.array(eos_token_ids, dtype=np.int64)
        self._rows, self._places, self._tokens = (np.zeros(count, dtype=np.int64) for _ in range(3))
        self._logprobs = np.zeros(count, dtype=np.float64)
        self._threads = threads
        self._batch = _Batch(
            table=table.ctypes.data,
            rows=self._rows.ctypes.data,
            places=self._places.ctypes.data,
            eos=self._eos.ctypes.data,
            eos_count=len(self._eos),
        )
        self._call = load_library().peregrine_sample
        self._call.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_void_p, ctypes.c_void_p]
        self._outputs = (self._tokens.ctypes.data, self._logprobs.ctypes.data)

    def __call__(
        self, logits: npt.NDArray[np.float32], rows: Sequence[int], places: Sequence[int]
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
        """Draw a token for each of ``rows``, different ones of the table, from ``logits[place]``.

        Args:
            logits: float32 ``[R, V]``, C-contiguous; what lies at ``places`` is modified.
            rows: Places in the table.
            places: Rows of ``logits``, below ``R``.

        Returns:
            Tokens int64 ``[len(rows)]``, -1 where logits are not finite, and log-probabilities float64; good until the
            next call.

        Raises:
            MemoryError: There is no room for scratch memory.
        """
        count, batch = len(rows), self._batch
        self._rows[:count] = rows
        self._places[:count] = places
        batch.logits, batch.vocab, batch.count = logits.ctypes.data, logits.shape[1], count
        if not self._call(ctypes.byref(batch), self._threads, *self._outputs):
            raise MemoryError("no memory is left to sample in")
        return self._tokens[:count], self._logprobs[:count]
