"""Inputs put together for one upload."""

from __future__ import annotations

import numpy as np
import pytest
from fake_device import FakeDevice

from runtime.cuda.staging import ALIGNMENT, Staging, padded


def test_arrays_lie_aligned_and_come_in_one_upload() -> None:
    device = FakeDevice()
    stream, buffer = device.stream(), device.allocate(4096)
    staging = Staging(device, 4096)
    arrays = [np.arange(3), np.arange(100, dtype=np.int32), np.array([7.0], dtype=np.float32)]
    staging.begin()
    offsets = [staging.add(array) for array in arrays]
    staging.upload(stream, buffer.address)
    stream.synchronize()
    assert offsets == [0, ALIGNMENT, ALIGNMENT + padded(400)]
    for offset, array in zip(offsets, arrays, strict=True):
        assert device.view(buffer.address + offset, array.shape, array.dtype).tolist() == array.tolist()
    assert len(device.named("upload")) == 1


def test_it_is_not_written_again_before_it_was_uploaded() -> None:
    device = FakeDevice()
    stream, buffer = device.stream(), device.allocate(4096)
    staging = Staging(device, 4096)
    for value in (1, 2):
        staging.begin()
        staging.add(np.array([value]))
        staging.upload(stream, buffer.address)
        if value == 1:
            keep = device.allocate(8)
            stream.copy(keep.address, buffer.address, 8)
    stream.synchronize()
    assert device.view(keep.address, (1,), np.int64).tolist() == [1]
    assert device.view(buffer.address, (1,), np.int64).tolist() == [2]


def test_what_does_not_fit_is_refused() -> None:
    staging = Staging(FakeDevice(), 512)
    staging.begin()
    staging.add(np.zeros(40))
    with pytest.raises(ValueError, match="832 bytes of inputs do not fit the 512"):
        staging.add(np.zeros(40))
