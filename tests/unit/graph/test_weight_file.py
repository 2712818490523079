from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from build_engine.graph.weight_file import PAGE, Region, WeightFile


def test_tensors_start_on_pages_and_keep_their_bytes(tmp_path: Path) -> None:
    arrays = [np.arange(5, dtype=np.float32), np.arange(9, dtype=np.uint8), np.zeros((2, 3), np.float32)]
    path = tmp_path / "weights.bin"
    with WeightFile(path) as weights:
        regions = [weights.write(array) for array in arrays]
    stored = path.read_bytes()
    assert all(region.offset % PAGE == 0 for region in regions)
    for array, region in zip(arrays, regions, strict=True):
        assert stored[region.offset : region.offset + region.length] == array.tobytes()


def test_arrays_that_are_not_contiguous_are_written_row_by_row(tmp_path: Path) -> None:
    array = np.arange(12, dtype=np.int32).reshape(3, 4).T
    with WeightFile(tmp_path / "weights.bin") as weights:
        weights.write(array)
    np.testing.assert_array_equal(np.fromfile(tmp_path / "weights.bin", np.int32).reshape(4, 3), array)


def test_one_region_can_be_two_tensors_of_other_shapes(tmp_path: Path) -> None:
    with WeightFile(tmp_path / "weights.bin") as weights:
        region = weights.write(np.zeros((4, 64), np.uint8))
        table = weights.tensor("table", region, np.uint8, (4, 64))
        groups = weights.tensor("groups", region, np.uint8, (4, 2, 32))
    assert list(table.external_data) == list(groups.external_data)
    assert {entry.key: entry.value for entry in table.external_data}["location"] == "weights.bin"


def test_a_view_has_to_cover_its_region(tmp_path: Path) -> None:
    weights = WeightFile(tmp_path / "weights.bin")
    with pytest.raises(ValueError, match=r"short: .* is not 64 bytes"):
        weights.tensor("short", Region(0, 64), np.float32, (15,))


def test_writing_needs_an_open_file(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not open"):
        WeightFile(tmp_path / "weights.bin").write(np.zeros(1))
