"""The sampling kernels as Python functions, greedy alone: for executors on a fake device."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from fake_device import FakeDevice, Size

from runtime.cuda.row_parameters import DRAW, STEP


def install(device: FakeDevice) -> None:
    """Give the device what ``kernels/sampling.cu`` has."""
    device.kernels |= {
        "sample_rows": _sample_rows,
        "prompt_logprobs": _prompt_logprobs,
        "place_counts": _nothing,
        "gather_tokens": _gather_tokens,
    }


def _sample_rows(device: FakeDevice, grid: Size, block: Size, shared: int, args: Sequence[Any]) -> None:
    _, steps, logits, _, _, _, _, vocab, last_token, draws = args
    for index, step in enumerate(device.view(steps, (grid[0],), STEP)):
        z = device.view(logits + 4 * int(vocab) * int(step["place"]), (int(vocab),), np.float32)
        drawn = device.view(draws, (grid[0],), DRAW)
        last = device.view(last_token + 8 * int(step["row"]), (1,), np.int64)
        drawn[index], last[0] = (-1, 0.0), 0
        if np.isfinite(z).all():
            token = int(z.argmax())
            drawn[index], last[0] = (token, _log_softmax(z)[token]), token
        z[:] = np.nan  # what lies at a sampled place is modified


def _prompt_logprobs(device: FakeDevice, grid: Size, block: Size, shared: int, args: Sequence[Any]) -> None:
    logits, places, targets, logprobs, vocab = args
    pairs = [device.view(address, (grid[0],), np.int32).tolist() for address in (places, targets)]
    found = device.view(logprobs, (grid[0],), np.float32)
    for index, (place, target) in enumerate(zip(*pairs, strict=True)):
        z = device.view(logits + 4 * int(vocab) * place, (int(vocab),), np.float32)
        found[index] = _log_softmax(z)[target]


def _gather_tokens(device: FakeDevice, grid: Size, block: Size, shared: int, args: Sequence[Any]) -> None:
    token_ids, host_ids, sources, last_token, count = args
    assert grid[0] * block[0] >= count
    taken = device.view(sources, (int(count),), np.int32)
    given = device.view(host_ids, (int(count),), np.int64)
    last = [device.view(last_token + 8 * max(0, int(row)), (1,), np.int64)[0] for row in taken]
    device.view(token_ids, (int(count),), np.int64)[:] = np.where(taken >= 0, last, given)


def _nothing(device: FakeDevice, grid: Size, block: Size, shared: int, args: Sequence[Any]) -> None:
    pass


def _log_softmax(z: np.ndarray) -> np.ndarray:
    wide = z.astype(np.float64)
    wide -= wide.max()
    return wide - np.log(np.exp(wide).sum())
