import struct
from pathlib import Path

import pytest
from gguf_files import ARRAY, BOOL, STRING, TYPES, U8, U32, U64, GgufFile

from build_engine.errors import CheckpointError
from build_engine.readers import gguf_cursor
from build_engine.readers.gguf_file import read_gguf


def small_file(**changes: object) -> GgufFile:
    file = GgufFile(
        metadata=[
            ("general.architecture", STRING, "llama"),
            ("a.number", U32, 7),
            ("a.flag", BOOL, True),
            ("a.list", (ARRAY, STRING), ["x", "ÿz", ""]),
            ("a.bytes", (ARRAY, U8), [1, 2, 3]),
        ],
        tensors=[
            ("one", (4, 2), TYPES["f32"], struct.pack("<8f", *range(8))),
            ("two", (32,), TYPES["f16"], b"\0" * 64),
        ],
    )
    for name, value in changes.items():
        setattr(file, name, value)
    return file


def refused(path: Path, file: GgufFile) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_gguf(file.write(path))
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "model.gguf"


@pytest.mark.parametrize("version", [2, 3])
def test_metadata_and_tensor_places_are_read(path: Path, version: int) -> None:
    file = read_gguf(small_file(version=version).write(path))
    assert file.metadata["a.number"] == 7
    assert file.metadata["a.flag"] is True
    assert file.metadata["a.list"] == ["x", "ÿz", ""]
    assert file.metadata["a.bytes"] == [1, 2, 3]
    one = file.tensors["one"]
    assert one.shape == (2, 4)
    assert file.data[one.offset : one.offset + one.size] == struct.pack("<8f", *range(8))
    assert file.tensors["two"].offset % 32 == 0


def test_a_file_cut_at_any_section_boundary_is_refused(path: Path) -> None:
    whole, boundaries = small_file().build()
    cuts = {0, 1, *boundaries, *(end - 1 for end in boundaries), *(end + 1 for end in boundaries), len(whole) - 1}
    for cut in sorted(cuts):
        path.write_bytes(whole[:cut])
        with pytest.raises(CheckpointError, match=r"model\.gguf"):
            read_gguf(path)


def test_a_wrong_magic_is_refused(path: Path) -> None:
    assert "not a GGUF file" in refused(path, small_file(magic=b"GGML"))


@pytest.mark.parametrize(
    ("version", "said"), [(1, "version 1"), (4, "version 4"), (0x03000000, "big-endian"), (0, "version 0")]
)
def test_other_versions_are_refused(path: Path, version: int, said: str) -> None:
    assert said in refused(path, small_file(version=version))


@pytest.mark.parametrize("field", ["tensor_count", "metadata_count"])
@pytest.mark.parametrize("count", [1 << 20, 1 << 63, 2**64 - 1, 60_000])
def test_absurd_counts_are_refused_before_anything_is_allocated(path: Path, field: str, count: int) -> None:
    refused(path, small_file(**{field: count}))


def test_arrays_are_bounded_all_together(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lists = [(f"a.{index}", (ARRAY, U8), [0] * 60) for index in range(2)]
    monkeypatch.setattr(gguf_cursor, "MAX_ITEMS", 120)
    read_gguf(small_file(metadata=lists).write(path))
    monkeypatch.setattr(gguf_cursor, "MAX_ITEMS", 119)
    assert "key 'a.1' claims 60 items; at most 119" in refused(path, small_file(metadata=lists))


def test_a_string_longer_than_the_file_is_refused(path: Path) -> None:
    whole, boundaries = small_file().build()
    path.write_bytes(whole[: boundaries[3]] + struct.pack("<Q", 1 << 62) + whole[boundaries[3] + 8 :])
    with pytest.raises(CheckpointError, match="key of metadata entry 0 claims"):
        read_gguf(path)


@pytest.mark.parametrize("element", [STRING, U8, U64, BOOL])
def test_an_array_longer_than_the_file_is_refused(path: Path, element: int) -> None:
    file = small_file(metadata=[("a.list", (ARRAY, element), [])])
    whole, boundaries = file.build()
    path.write_bytes(whole[: boundaries[4] - 8] + struct.pack("<Q", 1 << 60) + whole[boundaries[4] :])
    with pytest.raises(CheckpointError, match=r"a\.list"):
        read_gguf(path)


def test_an_array_of_strings_that_runs_off_the_file_is_refused(path: Path) -> None:
    file = small_file(metadata=[("a.list", (ARRAY, STRING), ["x"])])
    whole, boundaries = file.build()
    path.write_bytes(whole[: boundaries[4] - 9] + struct.pack("<Q", 1 << 63) + whole[boundaries[4] - 1 :])
    with pytest.raises(CheckpointError, match=r"a\.list"):
        read_gguf(path)


def test_a_name_of_a_page_is_refused_without_repeating_it(path: Path) -> None:
    assert len(refused(path, small_file(metadata=[("a" * 300, U32, 1)]))) < 260
    assert len(refused(path, small_file(tensors=[("a" * 300, (1,), TYPES["f32"], b"\0" * 4)]))) < 260


def test_text_that_is_not_utf8_is_refused(path: Path) -> None:
    assert "UTF-8" in refused(path, small_file(metadata=[("a", STRING, b"\xff")]))
    assert "string 1 of metadata key 'a' is not" in refused(
        path, small_file(metadata=[("a", (ARRAY, STRING), [b"x", b"\xff"])])
    )


def test_unknown_value_types_and_nested_arrays_are_refused(path: Path) -> None:
    whole, boundaries = small_file(metadata=[("a", U32, 7)]).build()
    path.write_bytes(whole[: boundaries[4] - 8] + struct.pack("<I", 99) + whole[boundaries[4] - 4 :])
    with pytest.raises(CheckpointError, match="unknown value type 99"):
        read_gguf(path)
    path.write_bytes(whole[: boundaries[4] - 8] + struct.pack("<IIQ", ARRAY, ARRAY, 0) + whole[boundaries[4] :])
    with pytest.raises(CheckpointError, match="unsupported value type 9"):
        read_gguf(path)


def test_a_boolean_is_zero_or_one(path: Path) -> None:
    whole, boundaries = small_file(metadata=[("a", BOOL, True)]).build()
    path.write_bytes(whole[: boundaries[4] - 1] + b"\x02" + whole[boundaries[4] :])
    with pytest.raises(CheckpointError, match="neither 0 nor 1"):
        read_gguf(path)


def test_duplicate_names_are_refused(path: Path) -> None:
    tensor = ("one", (1,), TYPES["f32"], b"\0" * 4)
    assert "tensor 'one' appears twice" in refused(path, small_file(tensors=[tensor, tensor]))
    assert "key 'a' appears twice" in refused(path, small_file(metadata=[("a", U32, 1), ("a", U32, 1)]))


@pytest.mark.parametrize("dimensions", [(1 << 62, 1 << 62), (2**64 - 1,), (1 << 40, 2), (0,), (4, 0), (1,) * 5, ()])
def test_shapes_that_cannot_be_are_refused(path: Path, dimensions: tuple[int, ...]) -> None:
    assert "'one'" in refused(path, small_file(tensors=[("one", dimensions, TYPES["f32"], b"\0" * 32)]))


def test_blocks_have_to_divide_the_columns(path: Path) -> None:
    assert "blocks of 32" in refused(path, small_file(tensors=[("one", (33, 2), TYPES["q8_0"], b"\0" * 128)]))
    assert "one dimension" in refused(path, small_file(tensors=[("one", (32,), TYPES["q8_0"], b"\0" * 34)]))


@pytest.mark.parametrize(("kind", "said"), [(10, "Q2_K"), (11, "Q3_K"), (99, "unknown type 99")])
def test_encodings_that_are_not_read_are_named_with_those_that_are(path: Path, kind: int, said: str) -> None:
    message = refused(path, small_file(tensors=[("one", (32, 1), kind, b"\0" * 64)]))
    assert said in message
    assert "F32, F16, Q4_0, Q4_1, Q8_0, Q4_K, Q5_K, Q6_K, IQ4_NL, BF16" in message


def test_tensor_offsets_have_to_be_aligned_and_inside_the_file(path: Path) -> None:
    assert "not a multiple of 32" in refused(path, small_file(offsets={"two": 33}))
    assert "truncated or corrupt" in refused(path, small_file(offsets={"two": 1 << 40}))
    assert "truncated or corrupt" in refused(path, small_file(offsets={"two": 2**64 - 32}))


def test_tensors_may_not_overlap(path: Path) -> None:
    assert "overlap" in refused(path, small_file(offsets={"two": 0}))


@pytest.mark.parametrize("alignment", [0, 7, 24, 1 << 31])
def test_an_alignment_that_is_no_power_of_two_is_refused(path: Path, alignment: int) -> None:
    message = refused(path, small_file(metadata=[("general.alignment", U32, alignment)]))
    assert "general.alignment" in message


def test_a_larger_alignment_is_kept(path: Path) -> None:
    file = small_file(alignment=256, metadata=[("general.alignment", U32, 256)])
    assert read_gguf(file.write(path)).tensors["two"].offset % 256 == 0


def test_missing_and_empty_files_and_folders_are_refused(path: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        read_gguf(path)
    path.write_bytes(b"")
    with pytest.raises(CheckpointError, match="is empty"):
        read_gguf(path)
    with pytest.raises(CheckpointError, match="cannot be read"):
        read_gguf(tmp_path)
