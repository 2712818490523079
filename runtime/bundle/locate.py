"""Finds a bundle by path or by model name."""

from __future__ import annotations

from pathlib import Path

from runtime.bundle.cache import bundles_root
from runtime.bundle.errors import BundleError
from runtime.bundle.manifest_file import MANIFEST_FILE, build_command, read_manifest


def alias_name(target: str, kv_kind: str) -> str:
    """What an engine goes by beside the model's others: its target, and its KV cache where that is not the usual."""
    return f"{target}-{kv_kind}" if (target, kv_kind) == ("cpu", "linear") else target


def find_bundle(name_or_path: str, target: str = "cpu") -> Path:
    """The bundle at the path ``name_or_path``, or the newest of the model of that name.

    Looks at the path itself, at ``models/<name>/<target>`` below the current directory, and into the cache; ``target``
    is an `alias_name`.

    Raises:
        BundleError: There is none.
    """
    given = Path(name_or_path).expanduser()
    for candidate in (given, given / target, Path("models") / name_or_path / target):
        if (candidate / MANIFEST_FILE).is_file():
            return candidate
    if given.name == name_or_path:
        built = _built(name_or_path, target)
        if built is not None:
            return built
    raise BundleError(
        f"{name_or_path!r} is neither an engine bundle nor the name of a built model (target {target})",
        fix=build_command(name_or_path),
    )


def _built(name: str, target: str) -> Path | None:
    """The newest bundle in the cache of the model ``name``."""
    found: list[tuple[str, Path]] = []
    for file in bundles_root().glob(f"*/{MANIFEST_FILE}"):
        try:
            manifest = read_manifest(file.parent)
        except BundleError:
            continue
        if (manifest.name, alias_name(manifest.target, manifest.kv.kind)) == (name, target):
            found.append((manifest.created, file.parent))
    return max(found)[1] if found else None
