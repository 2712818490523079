"""Sampling in the native library, the same tokens as ``runtime.sampling.reference``."""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from runtime.native.sampling import SAMPLING_ROW, SamplingCall
from runtime.request import SamplingParams
from runtime.sampling.row_state import TokenCounts

Logits = npt.NDArray[np.float32]

_PLAIN_ROWS = 64
"""Rows of logits whose likeliest tokens are sought in one call."""


class NativeSampler:
    """A ``RowSampler`` in native code: one call a step, whatever the rows ask for.

    Args:
        eos_token_ids: Ids that ``min_new_tokens`` masks and the length decay raises.
        max_rows: Rows that exist at once.
        threads: Threads to use, the caller's among them.

    Raises:
        NativeLibraryError: The library is missing or was built from other sources.
    """

    def __init__(self, eos_token_ids: frozenset[int], *, max_rows: int, threads: int) -> None:
        self._table = np.zeros(max_rows, dtype=SAMPLING_ROW)
        self._generated, self._counted_lengths = self._table["generated"], self._table["counted_length"]
        self._draw = SamplingCall(self._table, sorted(eos_token_ids), threads)
        self._plain = np.zeros(_PLAIN_ROWS, dtype=SAMPLING_ROW)
        self._plain["temperature"], self._plain["top_k"] = 1.0, 1
        self._measure = SamplingCall(self._plain, [], threads)
        # NOTE: the table has the addresses of these arrays: they live as long as their rows.
        self._counts: dict[int, TokenCounts] = {}
        self._allowed: dict[int, npt.NDArray[np.int64]] = {}
        self._masks: dict[int, npt.NDArray[np.uint32]] = {}

    def start(self, row: int, params: SamplingParams, sample: int, prompt: list[int], output: list[int]) -> None:
        """See ``RowSampler``."""
        self.end(row)
        record = self._table[row]
        record["seed"] = params.seed
        record["sample"] = sample
        record["generated"] = len(output)
        record["min_new_tokens"] = params.min_new_tokens
        record["decay_start"] = params.decay_start
        record["log_decay"] = math.log(params.decay_factor)
        for name in ("top_p", "top_k", "frequency_penalty", "repetition_penalty", "presence_penalty", "temperature"):
            record[name] = getattr(params, name)
        record["filtered"] = params.top_p < 1.0 or params.top_k > 0
        if params.penalised:
            counts = self._counts[row] = TokenCounts(prompt + output if params.input_penalty else output)
            self._point_at(row, counts)
            self._counted_lengths[row] = len(counts)
        if params.allowed_token_ids:
            allowed = self._allowed[row] = np.array(params.allowed_token_ids, dtype=np.int64)
            record["allowed"], record["allowed_length"] = allowed.ctypes.data, len(allowed)

    def constrain(self, row: int, mask: npt.NDArray[np.uint32]) -> None:
        """See ``RowSampler``."""
        self._table[row]["mask"] = mask.ctypes.data
        self._masks[row] = mask

    def end(self, row: int) -> None:
        """See ``RowSampler``."""
        self._table[row] = 0
        self._counts.pop(row, None)
        self._allowed.pop(row, None)
        self._masks.pop(row, None)

    def sample(self, rows: list[int], logits: Logits, places: list[int]) -> tuple[list[int], list[float]]:
        """See ``RowSampler``."""
        drawn, logprobs = self._draw(logits, rows, places)
        self._generated[rows] += drawn >= 0
        tokens: list[int] = drawn.tolist()
        if self._counts:
            for row, token in zip(rows, tokens, strict=True):
                counts = self._counts.get(row)
                if counts is not None and token >= 0:
                    if counts.add(token):
                        self._point_at(row, counts)
                    self._counted_lengths[row] = len(counts)
        return tokens, logprobs.tolist()

    def likeliest(self, logits: Logits) -> tuple[list[int], list[float]]:
        """See ``RowSampler``."""
        tokens: list[int] = []
        logprobs: list[float] = []
        for first in range(0, len(logits), _PLAIN_ROWS):
            places = list(range(first, min(first + _PLAIN_ROWS, len(logits))))
            # NOTE: a greedy draw at temperature 1 without penalties leaves the logits as they are.
            drawn, measured = self._measure(logits, range(len(places)), places)
            tokens += drawn.tolist()
            logprobs += measured.tolist()
        return tokens, logprobs

    def _point_at(self, row: int, counts: TokenCounts) -> None:
        record = self._table[row]
        record["counted"], record["counts"] = counts.tokens.ctypes.data, counts.counts.ctypes.data
