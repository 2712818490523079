"""Reads and writes ``manifest.json``."""

from __future__ import annotations

import shlex
from pathlib import Path

import msgspec

from runtime.bundle.errors import BundleError
from runtime.bundle.manifest import SCHEMA_VERSION, Manifest

MANIFEST_FILE = "manifest.json"
DEFAULT_RECIPE = "smollm2-135m-instruct"

_MAX_BYTES = 1 << 20


class _Versioned(msgspec.Struct):
    """What every schema version of a manifest has."""

    schema: int
    source: dict[str, object] = {}


def build_command(spec: str = "", *, force: bool = False) -> str:
    """The command that builds the bundle of ``spec``."""
    return f"python -m build_engine build {shlex.quote(spec or DEFAULT_RECIPE)}{' --force' if force else ''}"


def serve_command(spec: str, target: str) -> str:
    """The command that serves ``spec`` on ``target``, building it first where need be."""
    return f"peregrine serve {shlex.quote(spec or DEFAULT_RECIPE)} --target {target}"


def read_manifest(directory: Path) -> Manifest:
    """The manifest of the bundle at ``directory``.

    Raises:
        BundleError: There is none, it is not readable, or another version of Peregrine wrote it.
    """
    path = directory / MANIFEST_FILE
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise BundleError(f"{path}: is larger than {_MAX_BYTES} bytes", fix=build_command(force=True))
        data = path.read_bytes()
    except OSError:
        raise BundleError(
            f"{directory}: is not an engine bundle: it has no readable {MANIFEST_FILE}",
            need="a directory made by the build",
            fix=build_command(),
        ) from None
    spec = ""
    try:
        versioned = msgspec.json.decode(data, type=_Versioned)
        spec = str(versioned.source.get("spec") or "")
        if versioned.schema != SCHEMA_VERSION:
            raise BundleError(
                f"{path}: has schema version {versioned.schema}",
                need=f"schema version {SCHEMA_VERSION}",
                fix=build_command(spec, force=True),
            )
        return msgspec.json.decode(data, type=Manifest)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise BundleError(
            f"{path}: is not a valid manifest: {error}", need="an intact bundle", fix=build_command(spec, force=True)
        ) from None


def write_manifest(directory: Path, manifest: Manifest) -> None:
    """Write ``manifest`` into ``directory``."""
    text = msgspec.json.format(msgspec.json.encode(manifest), indent=2)
    (directory / MANIFEST_FILE).write_bytes(text + b"\n")
