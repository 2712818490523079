"""K-quants and IQ4_NL against the formulas of the format's description, one value at a time."""

from __future__ import annotations

import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from gguf_files import TYPES, GgufFile

from build_engine.errors import CheckpointError
from build_engine.quantize.choose import quantise
from build_engine.readers.gguf_file import read_gguf
from build_engine.readers.gguf_tensors import GgufTensor

IQ4_LEVELS = [-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113]
ROWS, COLUMNS = 3, 512


def half(raw: bytes) -> float:
    return float(struct.unpack("<e", raw)[0])


def scale_and_offset(part: int, packed: bytes) -> tuple[int, int]:
    if part < 4:
        return packed[part] & 63, packed[part + 4] & 63
    low, high = packed[part + 4] & 15, packed[part + 4] >> 4
    return low | (packed[part - 4] >> 6) << 4, high | (packed[part] >> 6) << 4


def plain_q4_k(raw: bytes) -> list[float]:
    d, dmin, scales, qs = half(raw[:2]), half(raw[2:4]), raw[4:16], raw[16:]
    values = []
    for part in range(8):
        scale, offset = scale_and_offset(part, scales)
        for byte in qs[part // 2 * 32 :][:32]:
            level = byte >> 4 if part % 2 else byte & 15
            values.append(d * scale * level - dmin * offset)
    return values


def plain_q5_k(raw: bytes) -> list[float]:
    d, dmin, scales, qh, qs = half(raw[:2]), half(raw[2:4]), raw[4:16], raw[16:48], raw[48:]
    values = []
    for part in range(8):
        scale, offset = scale_and_offset(part, scales)
        for high, byte in zip(qh, qs[part // 2 * 32 :][:32], strict=True):
            level = (byte >> 4 if part % 2 else byte & 15) + 16 * (high >> part & 1)
            values.append(d * scale * level - dmin * offset)
    return values


def plain_q6_k(raw: bytes) -> list[float]:
    ql, qh, scales, d = raw[:128], raw[128:192], struct.unpack("<16b", raw[192:208]), half(raw[208:])
    values = []
    for index in range(256):
        part, place = index % 128 // 32, index % 32
        low = ql[index // 128 * 64 + part % 2 * 32 + place]
        low = low >> 4 if part > 1 else low & 15
        high = qh[index // 128 * 32 + place] >> 2 * part & 3
        values.append(d * scales[index // 16] * ((low | high << 4) - 32))
    return values


def plain_iq4_nl(raw: bytes) -> list[float]:
    levels = [byte & 15 for byte in raw[2:]] + [byte >> 4 for byte in raw[2:]]
    return [half(raw[:2]) * IQ4_LEVELS[level] for level in levels]


Plain = Callable[[bytes], list[float]]
FORMATS: dict[str, tuple[int, tuple[int, ...], Plain]] = {
    "q4_k": (144, (0, 2), plain_q4_k),
    "q5_k": (176, (0, 2), plain_q5_k),
    "q6_k": (210, (208,), plain_q6_k),
    "iq4_nl": (18, (0,), plain_iq4_nl),
}
"""Bytes of a block, where its halves are, and its values."""


def random_tensor(folder: Path, encoding: str) -> tuple[GgufTensor, np.ndarray]:
    generator = np.random.default_rng(7)
    size, halves, plain = FORMATS[encoding]
    blocks = []
    for _ in range(ROWS * COLUMNS // len(plain(bytes(size)))):
        raw = bytearray(generator.bytes(size))
        for place in halves:
            raw[place : place + 2] = struct.pack("<e", abs(generator.normal()) / 64)
        blocks.append(bytes(raw))
    path = GgufFile(tensors=[("w", (COLUMNS, ROWS), TYPES[encoding], b"".join(blocks))]).write(folder / "w.gguf")
    file = read_gguf(path)
    expected = np.array([plain(raw) for raw in blocks]).reshape(ROWS, COLUMNS)
    return GgufTensor("w", (ROWS, COLUMNS), encoding, file, file.tensors["w"]), expected


@pytest.mark.parametrize("encoding", FORMATS)
def test_values_follow_the_plain_formula(tmp_path: Path, encoding: str) -> None:
    tensor, expected = random_tensor(tmp_path, encoding)
    np.testing.assert_allclose(tensor.float32(), expected, rtol=1e-5, atol=1e-6)
    assert tensor.blocks().values.shape == (ROWS, COLUMNS // 32, 32)


@pytest.mark.parametrize(("encoding", "bits"), [("q4_k", 4), ("q5_k", 8), ("iq4_nl", 8)])
def test_blocks_of_32_are_imported_exactly(tmp_path: Path, encoding: str, bits: int) -> None:
    tensor, _ = random_tensor(tmp_path, encoding)
    matrix = quantise(tensor, "import")
    assert (matrix.bits, matrix.group) == (bits, 32)
    np.testing.assert_array_equal(matrix.float32(), tensor.float32())


def test_blocks_of_16_are_rounded_to_255_levels_in_groups_of_32(tmp_path: Path) -> None:
    tensor, expected = random_tensor(tmp_path, "q6_k")
    matrix = quantise(tensor, "import")
    assert (matrix.bits, matrix.group) == (8, 32)
    blocks = expected.reshape(ROWS, -1, 32)
    error = np.abs(matrix.float32().reshape(blocks.shape) - blocks).max(axis=2)
    assert (error <= np.abs(blocks).max(axis=2) / 254 * 1.01 + 1e-6).all()


@pytest.mark.parametrize("encoding", ["q4_k", "q5_k", "q6_k"])
def test_super_blocks_have_to_divide_the_columns(tmp_path: Path, encoding: str) -> None:
    file = GgufFile(tensors=[("w", (128, 2), TYPES[encoding], bytes(FORMATS[encoding][0]))])
    with pytest.raises(CheckpointError, match="blocks of 256"):
        read_gguf(file.write(tmp_path / "w.gguf"))
