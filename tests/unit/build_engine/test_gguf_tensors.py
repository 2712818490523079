import struct
from pathlib import Path

import numpy as np
import pytest
from gguf_files import TYPES, GgufFile, interleaved, tensor_bytes

from build_engine.errors import CheckpointError
from build_engine.readers.gguf_file import read_gguf
from build_engine.readers.gguf_tensors import GgufTensor, half_split_rows

BLOCK_BYTES = {"q4_0": 18, "q4_1": 20, "q8_0": 34}


def half(raw: bytes) -> float:
    return struct.unpack("<e", raw)[0]


def plain_block(raw: bytes, encoding: str) -> list[float]:
    """One block by the formula in the format's description."""
    scale = half(raw[:2])
    if encoding == "q8_0":
        return [scale * q for q in struct.unpack("<32b", raw[2:])]
    packed = raw[-16:]
    levels = [byte & 15 for byte in packed] + [byte >> 4 for byte in packed]
    if encoding == "q4_0":
        return [scale * (level - 8) for level in levels]
    return [scale * level + half(raw[2:4]) for level in levels]


def only_tensor(path: Path, shape: tuple[int, ...], encoding: str, data: bytes) -> GgufTensor:
    file = read_gguf(GgufFile(tensors=[("w", shape[::-1], TYPES[encoding], data)]).write(path / "w.gguf"))
    return GgufTensor("w", shape, encoding, file, file.tensors["w"])


@pytest.mark.parametrize("encoding", sorted(BLOCK_BYTES))
def test_blocks_follow_the_plain_formula(tmp_path: Path, encoding: str) -> None:
    generator = np.random.default_rng(3)
    size = BLOCK_BYTES[encoding]
    blocks = []
    for _ in range(6):
        raw = bytearray(generator.bytes(size))
        raw[:2] = struct.pack("<e", generator.normal())
        if encoding == "q4_1":
            raw[2:4] = struct.pack("<e", generator.normal())
        blocks.append(bytes(raw))
    tensor = only_tensor(tmp_path, (3, 64), encoding, b"".join(blocks))
    expected = np.array([plain_block(raw, encoding) for raw in blocks]).reshape(3, 64)
    np.testing.assert_allclose(tensor.float32(), expected, rtol=1e-6, atol=1e-6)
    stored = tensor.blocks()
    assert stored.values.dtype == np.int16
    assert stored.values.shape == (3, 2, 32)
    assert (stored.offsets is None) == (encoding != "q4_1")
    limits = {"q4_0": (-8, 7), "q4_1": (0, 15), "q8_0": (-128, 127)}[encoding]
    assert limits[0] <= stored.values.min() <= stored.values.max() <= limits[1]


@pytest.mark.parametrize(("encoding", "digits"), [("f32", 24), ("f16", 11), ("bf16", 8)])
def test_floats_are_read_to_their_precision(tmp_path: Path, encoding: str, digits: int) -> None:
    values = np.random.default_rng(4).normal(size=(5, 8)).astype(np.float32)
    tensor = only_tensor(tmp_path, (5, 8), encoding, tensor_bytes(values, encoding))
    assert tensor.float32().dtype == np.float32
    np.testing.assert_allclose(tensor.float32(), values, rtol=2.0 ** (1 - digits), atol=1e-7)


def test_float_tensors_have_no_blocks(tmp_path: Path) -> None:
    tensor = only_tensor(tmp_path, (1, 2), "f16", b"\0" * 4)
    with pytest.raises(CheckpointError, match=r"w\.gguf: tensor 'w' is stored as F16"):
        tensor.blocks()


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused(tmp_path: Path, value: float) -> None:
    tensor = only_tensor(tmp_path, (1, 2), "f32", struct.pack("<2f", 1.0, value))
    with pytest.raises(CheckpointError, match="tensor 'w' holds a value that is not finite"):
        tensor.float32()
    blocks = only_tensor(tmp_path, (1, 32), "q8_0", struct.pack("<e", value) + bytes(32))
    with pytest.raises(CheckpointError, match="holds a scale that is not finite"):
        blocks.blocks()


@pytest.mark.parametrize(("heads", "dim"), [(1, 2), (3, 8), (2, 64)])
def test_half_split_rows_undo_the_converters_permutation(heads: int, dim: int) -> None:
    rows = np.arange(heads * dim, dtype=np.float32)[:, None]
    np.testing.assert_array_equal(interleaved(rows, heads)[half_split_rows(heads, dim)], rows)


@pytest.mark.parametrize("encoding", ["q4_1", "f16"])
def test_row_order_moves_rows_and_leaves_blocks_alone(tmp_path: Path, encoding: str) -> None:
    values = np.random.default_rng(5).normal(size=(4, 64)).astype(np.float32)
    tensor = only_tensor(tmp_path, (4, 64), encoding, tensor_bytes(values, encoding))
    stored = tensor.float32()
    order = np.array([2, 0, 3, 1])
    tensor.row_order = order
    np.testing.assert_array_equal(tensor.float32(), stored[order])
