import json
import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import pytest

from runtime.bundle import Architecture, BundleError, KvLayout, Manifest, Source, find_bundle, open_bundle
from runtime.bundle.bundle import file_entry
from runtime.bundle.manifest import SCHEMA_VERSION
from runtime.bundle.manifest_file import read_manifest, write_manifest
from runtime.bundle.stamp import STAMP_FILE, read_stamp, take_stamp, write_stamp

ARCHITECTURE = Architecture(
    family="llama",
    vocab_size=100,
    hidden_size=64,
    intermediate_size=96,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_dim=16,
    context_length=128,
)
FILES = {"model.onnx": b"graph", "weights.bin": b"12345678", "tokenizer.json": b"{}"}


def write_bundle(folder: Path, contents: dict[str, bytes] = FILES, **changes: Any) -> Path:
    folder.mkdir(parents=True)
    for name, content in contents.items():
        (folder / name).write_bytes(content)
    values: dict[str, Any] = {
        "name": "some-model",
        "source": Source(kind="gguf", name="some", path="/models/some.gguf", digest="ab" * 32, spec="some recipe"),
        "architecture": ARCHITECTURE,
        "target": "cpu",
        "target_versions": {"onnxruntime": "1"},
        "precision": "q8-g32",
        "kv": KvLayout(),
        "eos_token_ids": (2,),
        "files": tuple(file_entry(folder / name) for name in contents),
    }
    manifest = Manifest(**(values | changes))
    write_manifest(folder, manifest)
    write_stamp(folder, take_stamp(folder, ["manifest.json", *contents]))
    return folder


def refused(path: Path, **options: Any) -> str:
    with pytest.raises(BundleError) as caught:
        open_bundle(path, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path / "bundle")


def test_a_bundle_gives_its_manifest_and_directory(bundle: Path) -> None:
    opened = open_bundle(bundle)
    assert opened.path == bundle
    assert opened.manifest.name == "some-model"
    assert opened.manifest.architecture == ARCHITECTURE


def test_a_manifest_survives_writing_and_reading(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    write_manifest(bundle, manifest)
    assert read_manifest(bundle) == manifest


def test_digests_are_not_computed_while_the_stamp_fits(bundle: Path) -> None:
    stat = (bundle / "weights.bin").stat()
    (bundle / "weights.bin").write_bytes(b"abcdefgh")
    os.utime(bundle / "weights.bin", ns=(stat.st_atime_ns, stat.st_mtime_ns))
    open_bundle(bundle)
    assert "weights.bin: has SHA-256" in refused(bundle, verify=True)


def test_a_changed_file_is_noticed_without_being_asked_for(bundle: Path) -> None:
    stat = (bundle / "weights.bin").stat()
    (bundle / "weights.bin").write_bytes(b"abcdefgh")
    os.utime(bundle / "weights.bin", ns=(stat.st_atime_ns, stat.st_mtime_ns + 1))
    message = refused(bundle)
    assert "weights.bin: has SHA-256" in message
    assert "fix: python -m build_engine build 'some recipe' --force" in message


def test_a_shortened_or_missing_file_is_noticed(bundle: Path) -> None:
    (bundle / "weights.bin").write_bytes(b"1")
    assert "has 1 bytes" in refused(bundle)
    (bundle / "weights.bin").unlink()
    assert "weights.bin cannot be read" in refused(bundle)
    os.mkfifo(bundle / "weights.bin")
    assert "weights.bin cannot be read: not a regular file" in refused(bundle, verify=True)


def test_a_copied_bundle_is_checked_once_and_stamped_again(bundle: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(bundle, copy)
    assert open_bundle(copy).manifest == open_bundle(bundle).manifest
    assert read_stamp(copy) == take_stamp(copy, ["manifest.json", *FILES])
    assert read_stamp(copy) != read_stamp(bundle)


@pytest.mark.parametrize("stamp", [b"", b"[]", b'{"model.onnx": [1]}', None])
def test_a_lost_or_broken_stamp_costs_a_check_and_no_more(bundle: Path, stamp: bytes | None) -> None:
    if stamp is None:
        (bundle / STAMP_FILE).unlink()
    else:
        (bundle / STAMP_FILE).write_bytes(stamp)
    open_bundle(bundle)
    assert read_stamp(bundle) == take_stamp(bundle, ["manifest.json", *FILES])


def test_an_edited_manifest_is_read_again(bundle: Path) -> None:
    manifest = read_manifest(bundle)
    write_manifest(bundle, msgspec.structs.replace(manifest, eos_token_ids=(2, 3)))
    assert open_bundle(bundle).manifest.eos_token_ids == (2, 3)


def test_a_folder_without_a_manifest_is_no_bundle(tmp_path: Path) -> None:
    message = refused(tmp_path)
    assert "is not an engine bundle" in message
    assert "fix: python -m build_engine build smollm2-135m-instruct" in message
    assert "is not an engine bundle" in refused(tmp_path / "none")


def test_another_schema_version_says_which_is_needed(bundle: Path) -> None:
    values = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps(values | {"schema": 99, "architecture": "new"}))
    message = refused(bundle)
    assert "has schema version 99" in message
    assert f"need: schema version {SCHEMA_VERSION}" in message
    assert "build 'some recipe' --force" in message


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{",
        '{"schema": 1}',
        '{"schema": "1"}',
        "{" * 100_000,
        '{"schema": 1, "source":' + '{"a":' * 100_000,
        " " * (1 << 21),
    ],
)
def test_a_broken_manifest_is_one_message(bundle: Path, text: str) -> None:
    (bundle / "manifest.json").write_text(text)
    assert "manifest" in refused(bundle)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["removed", "emptied", "truncated", "flipped", "lengthened", "a directory"])
def test_whatever_happened_to_a_file_is_one_message_with_what_mends_it(bundle: Path, name: str, damage: str) -> None:
    path = bundle / name
    content = path.read_bytes()
    path.unlink()
    match damage:
        case "emptied":
            path.touch()
        case "truncated":
            path.write_bytes(content[:-1])
        case "flipped":
            path.write_bytes(bytes([content[0] ^ 1]) + content[1:])
        case "lengthened":
            path.write_bytes(content + b"\0")
        case "a directory":
            path.mkdir()
    message = refused(bundle)
    assert name in message
    assert "fix: python -m build_engine build 'some recipe' --force" in message


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (("architecture", "num_layers"), 0),
        (("architecture", "head_dim"), -1),
        (("architecture", "vocab_size"), 2**40),
        (("architecture", "context_length"), 10**30),
        (("architecture", "sliding_windows"), [-1]),
        (("kv", "block_size"), 0),
        (("kv", "dtype"), "float64"),
        (("limits", "slots"), 0),
        (("limits", "context_length"), -5),
        (("eos_token_ids",), [-1]),
        (("files",), [{"name": "model.onnx", "size": -1, "sha256": ""}]),
        (("schema",), True),
    ],
)
def test_a_manifest_with_values_that_nothing_has_is_refused(bundle: Path, place: tuple[str, ...], value: Any) -> None:
    values = json.loads((bundle / "manifest.json").read_text())
    inner = values
    for name in place[:-1]:
        inner = inner[name]
    inner[place[-1]] = value
    (bundle / "manifest.json").write_text(json.dumps(values))
    message = refused(bundle)
    assert "is not a valid manifest" in message
    assert place[0] in message


def test_a_manifest_and_a_stamp_that_are_not_utf8_are_broken(bundle: Path) -> None:
    (bundle / "stamp.json").write_bytes(b'{"\xff": [1, 2, 3]}')
    open_bundle(bundle)
    (bundle / "manifest.json").write_bytes(b'{"schema": 1, "source": {"spec": "\xff"}}')
    assert "is not a valid manifest" in refused(bundle)


@pytest.mark.parametrize("name", ["../model.onnx", "/etc/passwd", "..", ".", "manifest.json", "stamp.json", ""])
def test_a_manifest_cannot_point_out_of_its_bundle(bundle: Path, name: str) -> None:
    manifest = read_manifest(bundle)
    entries = (*manifest.files, msgspec.structs.replace(manifest.files[0], name=name))
    write_manifest(bundle, msgspec.structs.replace(manifest, files=entries))
    assert "plain file names" in refused(bundle)


def test_the_files_of_the_target_have_to_be_listed(tmp_path: Path) -> None:
    files = {name: content for name, content in FILES.items() if name != "model.onnx"}
    assert "does not list model.onnx" in refused(write_bundle(tmp_path / "a", files))
    assert "does not list engine.plan" in refused(write_bundle(tmp_path / "b", target="tensorrt"))
    assert "unknown target 'tpu'" in refused(write_bundle(tmp_path / "c", target="tpu"))
    entry = file_entry(tmp_path / "c" / "model.onnx")
    tokenizer = file_entry(tmp_path / "c" / "tokenizer.json")
    assert "lists a file twice" in refused(write_bundle(tmp_path / "d", files=(entry, entry, tokenizer)))


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    return tmp_path / "cache" / "bundles"


def test_bundles_are_found_by_path_by_link_and_by_name(cache: Path, tmp_path: Path) -> None:
    old = write_bundle(cache / "some-1", created="2026-01-01T00:00:00+00:00")
    new = write_bundle(cache / "some-2", created="2026-01-02T00:00:00+00:00")
    (cache / "broken").mkdir()
    (cache / "broken" / "manifest.json").write_text("")
    assert find_bundle(str(old)) == old
    assert find_bundle("some-model") == new
    alias = tmp_path / "models" / "some-model" / "cpu"
    alias.parent.mkdir(parents=True)
    alias.symlink_to(old)
    assert find_bundle("some-model").resolve() == old
    assert find_bundle("models/some-model").resolve() == old


@pytest.mark.parametrize("name", ["other-model", "../some-model", "/nowhere/some-model"])
def test_what_is_not_built_says_how_to_build_it(cache: Path, name: str) -> None:
    write_bundle(cache / "some-1")
    with pytest.raises(BundleError, match=f"fix: python -m build_engine build {name}"):
        find_bundle(name)


def test_a_bundle_of_another_target_does_not_count(cache: Path) -> None:
    write_bundle(cache / "some-1")
    with pytest.raises(BundleError, match="target cuda"):
        find_bundle("some-model", "cuda")
