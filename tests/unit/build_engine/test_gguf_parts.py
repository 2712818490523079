from pathlib import Path

import numpy as np
import pytest
from gguf_files import F32, U16, U32, GgufFile, model_file, split_files

from build_engine.errors import CheckpointError
from build_engine.readers.gguf_file import read_gguf
from build_engine.readers.gguf_parts import read_parts
from build_engine.readers.gguf_split import model_name, part_paths

FILE = model_file(num_layers=1)


def refused(path: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        read_parts(path)
    assert str(path.parent) in str(caught.value)
    return str(caught.value)


@pytest.fixture
def parts(tmp_path: Path) -> list[Path]:
    return split_files(FILE, tmp_path / "model.gguf", 3)


def test_a_file_that_is_no_part_stands_alone(tmp_path: Path) -> None:
    for name in ("model.gguf", "model-1-of-2.gguf", "model-00001-of-00001.gguf", "model-00001-of-00002.bin"):
        assert part_paths(tmp_path / name) == [tmp_path / name]
        assert model_name(tmp_path / name) == Path(name).stem


def test_any_part_names_all_of_them(parts: list[Path]) -> None:
    assert [path.name for path in parts] == [f"model-0000{index}-of-00003.gguf" for index in (1, 2, 3)]
    for path in parts:
        assert part_paths(path) == parts
        assert model_name(path) == "model"


def test_parts_hold_together_what_the_whole_file_held(parts: list[Path], tmp_path: Path) -> None:
    whole = read_gguf(FILE.write(tmp_path / "whole.gguf"))
    for path in parts:
        files = read_parts(path)
        assert [file.path for file in files] == parts
        held = {name: (file, info) for file in files for name, info in file.tensors.items()}
        assert set(held) == set(whole.tensors)
        for name, (file, info) in held.items():
            there = whole.tensors[name]
            stored = np.frombuffer(file.data, np.uint8, info.size, info.offset)
            np.testing.assert_array_equal(stored, np.frombuffer(whole.data, np.uint8, there.size, there.offset))
        assert files[0].metadata["general.architecture"] == "llama"


def test_missing_parts_are_named(parts: list[Path]) -> None:
    parts[1].unlink()
    parts[0].unlink()
    message = refused(parts[2])
    assert "2 of 3 parts missing beside it: 'model-00001-of-00003.gguf', 'model-00002-of-00003.gguf'" in message


def test_many_missing_parts_are_counted(tmp_path: Path) -> None:
    path = FILE.write(tmp_path / "model-00001-of-00009.gguf")
    assert "8 of 9 parts missing" in refused(path)
    assert "and 4 more" in refused(path)


def test_a_part_that_was_renamed_is_refused_with_the_name_it_had(parts: list[Path]) -> None:
    renamed = parts[1].rename(parts[1].with_name("other.gguf"))
    assert "is part 2 of 3, but not named so" in refused(renamed)
    assert "-00002-of-00003.gguf" in refused(renamed)


def test_a_part_number_beyond_the_count_is_refused(tmp_path: Path) -> None:
    assert "by its name it is part 4 of 3" in refused(FILE.write(tmp_path / "model-00004-of-00003.gguf"))


def test_parts_of_other_models_are_named(parts: list[Path]) -> None:
    first, second, third = (path.read_bytes() for path in parts)
    parts[1].write_bytes(third)
    assert f"{parts[1]}: belongs to another model: by its name it is part 2 of 3, but it holds part 3" in refused(
        parts[0]
    )
    parts[1].write_bytes(second)
    split_files(model_file(num_layers=2), parts[0].with_name("model.gguf"), 3)
    parts[0].write_bytes(first)
    assert f"{parts[1]}: belongs to another model than {parts[0].name}" in refused(parts[0])
    FILE.write(parts[2])
    assert f"{parts[2]}: belongs to another model" in refused(parts[0])


def test_a_tensor_in_two_parts_and_a_wrong_count_are_refused(tmp_path: Path) -> None:
    name, dimensions, kind, data = FILE.tensors[0]
    twice = GgufFile(metadata=FILE.metadata, tensors=[*FILE.tensors, (name, dimensions, kind, data)])
    count = len(twice.tensors)
    twice.tensors.insert(0, twice.tensors.pop())
    paths = split_files(twice, tmp_path / "model.gguf", 2)
    assert f"tensor {name!r} is in model-00001-of-00002.gguf too" in refused(paths[0])
    short = GgufFile(metadata=FILE.metadata, tensors=FILE.tensors)
    paths = split_files(short, tmp_path / "short.gguf", 2)
    own = [("split.no", U16, 1), ("split.count", U16, 2), ("split.tensors.count", 5, len(short.tensors))]
    GgufFile(metadata=own, tensors=short.tensors[1:-1:2]).write(paths[1])
    assert f"the model has {count - 1} tensors, but its 2 parts hold" in refused(paths[0])


def test_numbers_that_are_no_integers_are_refused(tmp_path: Path) -> None:
    path = GgufFile(metadata=[("split.no", F32, 0.5), ("split.count", U32, 2)]).write(tmp_path / "a.gguf")
    assert "split.no and split.count have to be integers" in refused(path)
