"""Sampling on the device: rows keep their parameters, counts and last token there, so that no step waits for the host.

Agrees with ``runtime.sampling`` token for token, up to the rounding of ``exp``: a draw that falls within about 1e-6 of
the boundary between two tokens, or a top-p limit within that of a token's, may go to the other side. Among themselves
its results are exact: the same bits in any batch, place and size of thread block.

Checked by compiling the kernels for each GPU and running them on the CPU; not yet run on a GPU.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from runtime.cuda.device import Device, DeviceBuffer, Kernel, Module, Stream, pointer
from runtime.cuda.errors import CudaError
from runtime.cuda.row_parameters import DRAW, ROW, STEP, allowed_bits, count_pairs, pack_row, pack_step
from runtime.request import SamplingParams

_PAIRS_AT_ONCE = 4096
_GATHER_THREADS = 256


@dataclass(slots=True)
class _Progress:
    params: SamplingParams
    generated: int


@dataclass(frozen=True, slots=True)
class Download:
    """Results on their way to the host.

    Attributes:
        values: Page-locked memory: ``DRAW`` ``[n]``, or float32 ``[n]`` for prompts. Valid once the stream has come to
            where the download was enqueued, until ``in_flight`` more of its kind have been enqueued.
    """

    values: npt.NDArray[Any]

    def tokens(self) -> list[int]:
        """Sampled tokens; -1 where a row's logits were not finite."""
        tokens: list[int] = self.values["token"].tolist()
        return tokens

    def logprobs(self) -> list[float]:
        """Log-probabilities of the sampled tokens, or of a prompt's; those are NaN where logits were not finite."""
        values = self.values["logprob"] if self.values.dtype == DRAW else self.values
        logprobs: list[float] = values.tolist()
        return logprobs


class DeviceSampler:
    """Samples rows of logits that lie in device memory.

    Everything is enqueued on one stream, in the order of the calls; nothing waits.

    Args:
        device: Where the logits are.
        stream: Of the executor's steps.
        vocab_size: ``V``.
        max_rows: Rows that exist at once.
        max_logit_rows: Rows of logits in one step.
        eos_token_ids: Ids that ``min_new_tokens`` masks and the length decay raises.
        kernels: ``kernels/sampling.cu``, compiled for the device (``kernel_cache.sampling_kernels``).
        in_flight: Steps that can be on their way at once; downloads of a kind that can be unread.
        threads: Of a block; a multiple of 32, 64 at least. No result depends on it.

    Raises:
        CudaError: Device memory is short, or a kernel is not in ``kernels``.
    """

    def __init__(
        self,
        device: Device,
        stream: Stream,
        *,
        vocab_size: int,
        max_rows: int,
        max_logit_rows: int,
        eos_token_ids: frozenset[int],
        kernels: Module,
        in_flight: int = 4,
        threads: int = 1024,
    ) -> None:
        self._device, self._stream = device, stream
        self._vocab, self._threads = vocab_size, threads
        self._progress: dict[int, _Progress] = {}
        self._sample_rows = kernels.kernel("sample_rows")
        self._prompt_logprobs = kernels.kernel("prompt_logprobs")
        self._place_counts = kernels.kernel("place_counts")
        self._gather_tokens = kernels.kernel("gather_tokens")
        # NOTE: an EOS id that the vocabulary has not would be written past a row's end.
        eos = np.array(sorted(token for token in eos_token_ids if token < vocab_size), dtype=np.int32)
        self._eos_count = len(eos)
        self._buffers: list[DeviceBuffer] = []
        try:
            self._allocate_all(max_rows, max_logit_rows)
            # NOTE: the device reads a step's array when the copy's turn comes: one must not be written again before.
            self._step_ring = self._ring(in_flight, max_rows, STEP)
            self._drawn = self._ring(in_flight, max_rows, DRAW)
            self._prompt_values = self._ring(in_flight, max_logit_rows, np.dtype(np.float32))
        except CudaError:
            self.close()
            raise
        stream.fill(self._last_token, 0, max_rows * 8)
        if len(eos):
            stream.upload(self._eos, eos)

    @staticmethod
    def nbytes(vocab_size: int, max_rows: int) -> int:
        """Device memory that a sampler takes, but for a few kilobytes."""
        return max_rows * (2 * vocab_size + -(-vocab_size // 32) * 4 + ROW.itemsize + STEP.itemsize + DRAW.itemsize + 8)

    def start(
        self, row: int, params: SamplingParams, sample: int, prompt: Sequence[int], output: Sequence[int]
    ) -> None:
        """A sequence enters a row; whatever the row held before is gone.

        Args:
            row: Below ``max_rows``.
            params: The request's.
            sample: Index of the sample in its request.
            prompt: Prompt tokens.
            output: Tokens generated before (not empty when the row resumes after a preemption).
        """
        self._progress[row] = _Progress(params, len(output))
        self._stream.upload(self._rows + row * ROW.itemsize, pack_row(params, sample))
        if params.allowed_token_ids:
            bits = allowed_bits(params.allowed_token_ids, self._vocab)
            self._stream.upload(self._allowed + row * self._allowed_bytes, bits)
        if params.penalised:
            self._count(row, [*prompt, *output] if params.input_penalty else output)

    def sample(self, rows: Sequence[int], logits: int, places: Sequence[int]) -> Download:
        """Draw a token for each of ``rows``, which are different ones and have been started.

        Args:
            rows: Rows that sample in this step; one at least.
            logits: Address of float32 ``[R, V]``; what lies at ``places`` is modified.
            places: Which of the ``R`` rows of logits is each one's.

        Returns:
            ``len(rows)`` draws.
        """
        steps = next(self._step_ring)[: len(rows)]
        for index, (row, place) in enumerate(zip(rows, places, strict=True)):
            progress = self._progress[row]
            steps[index] = pack_step(row, place, progress.params, progress.generated)
        self._stream.upload(self._steps, steps)
        arguments = [
            *_pointers(self._rows, self._steps, logits, self._counts, self._allowed, self._eos),
            np.int32(self._eos_count),
            np.int32(self._vocab),
            *_pointers(self._last_token, self._draws),
        ]
        self._launch_blocks(self._sample_rows, len(rows), arguments)
        drawn = next(self._drawn)[: len(rows)]
        self._stream.download(drawn, self._draws)
        for row in rows:
            self._progress[row].generated += 1
        return Download(drawn)

    def prompt_logprobs(self, logits: int, places: Sequence[int], targets: Sequence[int]) -> Download:
        """Log-probability of each of ``targets`` under the logits as the model gave them.

        NOTE: comes before ``sample`` of the same step, which modifies the logits of the rows that sample.

        Args:
            logits: Address of float32 ``[R, V]``.
            places: Which of the ``R`` rows of logits is each target's.
            targets: Token ids; one at least.

        Returns:
            ``len(places)`` log-probabilities.
        """
        count = len(places)
        self._stream.upload(self._prompt_rows, np.array([places, targets], dtype=np.int32))
        arguments = [
            *_pointers(logits, self._prompt_rows, self._prompt_rows + 4 * count, self._prompt_results),
            np.int32(self._vocab),
        ]
        self._launch_blocks(self._prompt_logprobs, count, arguments)
        values = next(self._prompt_values)[:count]
        self._stream.download(values, self._prompt_results)
        return Download(values)

    def gather_tokens(self, token_ids: int, host_ids: int, sources: int, count: int) -> None:
        """Put together a step's tokens, from the host and from what rows sampled last.

        Args:
            token_ids: Address of int64 ``[count]``, written.
            host_ids: Address of int64 ``[count]``.
            sources: Address of int32 ``[count]``: the row whose last token it is, or -1 for the host's.
            count: Tokens.
        """
        blocks = -(-count // _GATHER_THREADS)
        arguments = [*_pointers(token_ids, host_ids, sources, self._last_token), np.int32(count)]
        self._stream.launch(self._gather_tokens, (blocks, 1, 1), (_GATHER_THREADS, 1, 1), 0, arguments)

    def close(self) -> None:
        """Give back device memory; the stream has to be idle."""
        for buffer in self._buffers:
            buffer.close()
        self._buffers.clear()

    def _count(self, row: int, tokens: Sequence[int]) -> None:
        address = self._counts + row * self._vocab * 2
        self._stream.fill(address, 0, self._vocab * 2)
        pairs = count_pairs(tokens)
        for first in range(0, len(pairs), _PAIRS_AT_ONCE):
            part = pairs[first : first + _PAIRS_AT_ONCE]
            self._stream.upload(self._pairs, part)
            blocks = -(-len(part) // _GATHER_THREADS)
            arguments = [pointer(self._pairs), np.int32(len(part)), pointer(address)]
            self._stream.launch(self._place_counts, (blocks, 1, 1), (_GATHER_THREADS, 1, 1), 0, arguments)

    def _launch_blocks(self, kernel: Kernel, count: int, arguments: list[np.generic]) -> None:
        self._stream.launch(kernel, (count, 1, 1), (self._threads, 1, 1), 0, arguments)

    def _allocate_all(self, max_rows: int, max_logit_rows: int) -> None:
        self._allowed_bytes = -(-self._vocab // 32) * 4
        self._rows = self._allocate(max_rows * ROW.itemsize)
        self._steps = self._allocate(max_rows * STEP.itemsize)
        self._draws = self._allocate(max_rows * DRAW.itemsize)
        self._counts = self._allocate(max_rows * self._vocab * 2)
        self._allowed = self._allocate(max_rows * self._allowed_bytes)
        self._last_token = self._allocate(max_rows * 8)
        self._pairs = self._allocate(_PAIRS_AT_ONCE * 8)
        self._eos = self._allocate(max(self._eos_count, 1) * 4)
        self._prompt_rows = self._allocate(max_logit_rows * 8)
        self._prompt_results = self._allocate(max_logit_rows * 4)

    def _allocate(self, nbytes: int) -> int:
        buffer = self._device.allocate(nbytes)
        self._buffers.append(buffer)
        return buffer.address

    def _ring(self, count: int, length: int, dtype: np.dtype[Any]) -> Iterator[npt.NDArray[Any]]:
        """Page-locked arrays, one after the other and over again."""
        return itertools.cycle([self._device.pinned((length,), dtype) for _ in range(count)])


def _pointers(*addresses: int) -> list[np.generic]:
    return [pointer(address) for address in addresses]
