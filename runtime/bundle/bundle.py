"""Opens a bundle: the manifest is checked against the files before anything of the engine is loaded."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from runtime.bundle.errors import BundleError
from runtime.bundle.manifest import FileEntry, Manifest
from runtime.bundle.manifest_file import MANIFEST_FILE, build_command, read_manifest
from runtime.bundle.stamp import STAMP_FILE, read_stamp, take_stamp, write_stamp

MODEL_FILE = "model.onnx"
WEIGHT_FILE = "weights.bin"
PLAN_FILE = "engine.plan"
TOKENIZER_FILE = "tokenizer.json"
CHAT_TEMPLATE_FILE = "chat_template.jinja"
GENERATION_CONFIG_FILE = "generation_config.json"
BUNDLE_FILES = frozenset(
    {MANIFEST_FILE, STAMP_FILE, MODEL_FILE, WEIGHT_FILE, PLAN_FILE, TOKENIZER_FILE, CHAT_TEMPLATE_FILE}
    | {GENERATION_CONFIG_FILE}
)
"""Every name that a build writes."""

_ENGINE_FILES = {"cpu": MODEL_FILE, "cuda": MODEL_FILE, "tensorrt": PLAN_FILE, "tensorrt-rtx": PLAN_FILE}


@dataclass(frozen=True, slots=True)
class Bundle:
    """An engine bundle whose files are those of its manifest."""

    path: Path
    manifest: Manifest


def open_bundle(path: Path | str, *, verify: bool = False) -> Bundle:
    """Open the bundle at ``path``.

    Manifest, sizes and stamps are checked always; SHA-256 digests only where a stamp does not fit (the bundle was
    copied or touched), or with ``verify``. Digests that fit renew the stamp, if the directory can be written.

    Raises:
        BundleError: It is not a bundle, is of another version, or its files are not those of the manifest.
    """
    directory = Path(path)
    manifest = read_manifest(directory)
    _check_entries(directory, manifest)
    names = [MANIFEST_FILE, *(entry.name for entry in manifest.files)]
    try:
        stamp = take_stamp(directory, names)
        for entry in manifest.files:
            if stamp[entry.name][2] != entry.size:
                raise _changed(directory, manifest, entry, f"has {stamp[entry.name][2]} bytes", f"{entry.size} bytes")
        fits = stamp == read_stamp(directory)
        if verify or not fits:
            _check_digests(directory, manifest)
    except OSError as error:
        missing = Path(error.filename or directory).name
        raise BundleError(
            f"{directory}: {missing} cannot be read: {error.strerror}",
            need="every file that the manifest lists",
            fix=build_command(manifest.source.spec, force=True),
        ) from None
    if not fits:
        with suppress(OSError):
            write_stamp(directory, stamp)
    return Bundle(path=directory, manifest=manifest)


def file_entry(path: Path) -> FileEntry:
    """The manifest's entry for the file at ``path``."""
    return FileEntry(name=path.name, size=path.stat().st_size, sha256=_sha256(path))


def _check_entries(directory: Path, manifest: Manifest) -> None:
    """Check that the manifest lists plain names, each once, and the files that its target needs."""
    fix = build_command(manifest.source.spec, force=True)
    if manifest.target not in _ENGINE_FILES:
        raise BundleError(f"{directory}: has the unknown target {manifest.target!r}", need=", ".join(_ENGINE_FILES))
    names = [entry.name for entry in manifest.files]
    for name in names:
        # NOTE: a manifest is untrusted; a name with folders in it could point out of the bundle.
        if Path(name).name != name or name in ("", ".", "..", MANIFEST_FILE, STAMP_FILE):
            raise BundleError(f"{directory}: the manifest lists the file {name!r}", need="plain file names", fix=fix)
    absent = {_ENGINE_FILES[manifest.target], TOKENIZER_FILE} - set(names)
    if absent or len(set(names)) != len(names):
        what = f"does not list {', '.join(sorted(absent))}" if absent else "lists a file twice"
        raise BundleError(f"{directory}: the manifest {what}", need="an intact bundle", fix=fix)


def _check_digests(directory: Path, manifest: Manifest) -> None:
    for entry in manifest.files:
        found = _sha256(directory / entry.name)
        if found != entry.sha256:
            have = f"has SHA-256 {found[:12]}..."
            raise _changed(directory, manifest, entry, have, f"{entry.sha256[:12]}...")


def _changed(directory: Path, manifest: Manifest, entry: FileEntry, have: str, need: str) -> BundleError:
    return BundleError(
        f"{directory / entry.name}: {have}: it was changed or cut short after the build",
        need=need,
        fix=build_command(manifest.source.spec, force=True),
    )


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
