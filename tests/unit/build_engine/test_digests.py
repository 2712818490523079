import hashlib
import os
from pathlib import Path

import pytest

from build_engine.digests import file_digest, tree_digest
from build_engine.errors import CheckpointError


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def hashed(path: Path) -> tuple[str, int]:
    """The digest, and how many bytes were read for it."""
    counts: list[int] = []
    return file_digest(path, counts.append), sum(counts)


def test_the_digest_is_sha256_and_computed_once(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc" * 1000)
    expected = hashlib.sha256(b"abc" * 1000).hexdigest()
    assert hashed(path) == (expected, 3000)
    assert hashed(path) == (expected, 0)


def test_a_changed_file_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    old, _ = hashed(path)
    stat = path.stat()
    path.write_bytes(b"new")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    new, read = hashed(path)
    assert read == 3
    assert new != old


def test_a_replaced_file_of_the_same_size_and_time_is_hashed_again(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"old")
    old, _ = hashed(path)
    stat = path.stat()
    (tmp_path / "other").write_bytes(b"new")
    os.utime(tmp_path / "other", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    (tmp_path / "other").replace(path)
    assert hashed(path)[0] != old


def test_a_broken_memory_is_ignored(tmp_path: Path, cache: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    digest, _ = hashed(path)
    (record,) = (cache / "digests").iterdir()
    for text in ("", "[]", '{"stamp": 1}', '{"sha256": 5}'):
        record.write_text(text)
        assert hashed(path) == (digest, 3)


def test_a_cache_that_cannot_be_written_costs_only_time(tmp_path: Path, cache: Path) -> None:
    cache.write_bytes(b"a file where the folder should be")
    path = tmp_path / "file"
    path.write_bytes(b"abc")
    assert hashed(path) == hashed(path)


def test_a_tree_digest_depends_on_names_and_contents_alone(tmp_path: Path) -> None:
    for folder, contents in (
        ("a", {"x": b"1", "y": b"2"}),
        ("b", {"x": b"1", "y": b"2"}),
        ("c", {"x": b"2", "y": b"1"}),
    ):
        (tmp_path / folder).mkdir()
        for name, content in contents.items():
            (tmp_path / folder / name).write_bytes(content)
    assert tree_digest(tmp_path / "a", ["x", "y"]) == tree_digest(tmp_path / "b", ["y", "x"])
    assert tree_digest(tmp_path / "a", ["x", "y"]) != tree_digest(tmp_path / "c", ["x", "y"])
    assert tree_digest(tmp_path / "a", ["x", "y"]) != tree_digest(tmp_path / "a", ["x"])


def test_a_file_that_is_not_there_is_one_message(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="No such file"):
        file_digest(tmp_path / "none")
