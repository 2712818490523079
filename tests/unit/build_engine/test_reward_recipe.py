"""A recipe with a head: another source than the recipe without it."""

from pathlib import Path

import pytest

from build_engine.errors import CheckpointError
from build_engine.sources import CheckpointSource, resolve_source

RECIPE = 'description = "x"\nlicence = "y"\n[source]\nkind = "path"\npath = "m.gguf"\n'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))


def source(folder: Path, head: bytes | None) -> CheckpointSource:
    (folder / "m.gguf").write_bytes(b"GGUF")
    recipe = folder / "reward.toml"
    if head is None:
        recipe.write_text(RECIPE)
    else:
        recipe.write_text(RECIPE + '[head]\nfile = "h.safetensors"\n')
        (folder / "h.safetensors").write_bytes(head)
    return resolve_source(str(recipe))


def test_the_digest_follows_checkpoint_and_head(tmp_path: Path) -> None:
    folders = [tmp_path / name for name in ("none", "one", "other", "again")]
    for folder in folders:
        folder.mkdir()
    heads = (None, b"one", b"other", b"one")
    sources = [source(folder, head) for folder, head in zip(folders, heads, strict=True)]
    digests = [each.digest() for each in sources]
    assert digests[1] == digests[3]
    assert len(set(digests)) == 3
    assert {each.backbone_digest() for each in sources} == {digests[0]}


def test_a_source_keeps_its_names_with_a_head(tmp_path: Path) -> None:
    found = source(tmp_path, b"head")
    assert (found.kind, found.name, found.path) == ("gguf", "reward", tmp_path / "m.gguf")
    assert found.head == tmp_path / "h.safetensors"
    assert found.spec == str(tmp_path / "reward.toml")


def test_a_head_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    found = source(tmp_path, b"head")
    (tmp_path / "h.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"h\.safetensors: cannot be read"):
        found.digest()
