"""Names of bundles in the cache: readable, and different for everything that makes an engine come out differently.

Standard library only: a second build of the same thing has to find the first one within milliseconds.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from build_engine.options import Profile
from runtime.bundle.manifest import SCHEMA_VERSION

_PACKAGES = ("onnx", "onnxruntime")
_COMPILERS = ("tensorrt", "tensorrt-rtx")
_BUILDER_PARTS = (
    "build_engine/checkpoint.py",
    "build_engine/build.py",
    "build_engine/families",
    "build_engine/graph",
    "build_engine/passes",
    "build_engine/quantize",
    "build_engine/readers",
    "build_engine/targets",
    "build_engine/tokenizers",
    "build_engine/verify",
    "runtime/reference",
)


def bundle_name(name: str, source_digest: str, profile: Profile) -> str:
    """``<name>-<target>-<precision>-<12 hexadecimal digits>``."""
    key = {
        "source": source_digest,
        "name": name,
        "profile": asdict(profile),
        "schema": SCHEMA_VERSION,
        "packages": {package: _version(package) for package in (*_PACKAGES, *_compiler(profile))},
        "builder": builder_digest(),
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()[:12]
    readable = re.sub(r"[^a-z0-9._]+", "-", f"{name}-{profile.target}-{profile.precision}".lower()).strip("-.")
    return f"{readable[:80]}-{digest}"


def _compiler(profile: Profile) -> tuple[str, ...]:
    return (profile.target,) if profile.target in _COMPILERS else ()


def builder_digest() -> str:
    """SHA-256 over the sources of the builder, so that no bundle outlives the code that made it."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256()
    for part in _BUILDER_PARTS:
        path = root / part
        for file in sorted(path.rglob("*.py")) if path.is_dir() else [path]:
            digest.update(f"{file.relative_to(root)}\0".encode() + file.read_bytes() + b"\0")
    return digest.hexdigest()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
