"""The PEP 517 build backend: setuptools, with Zig's C++ compiler among the requirements where no other is found."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

from setuptools import build_meta
from setuptools.build_meta import (
    build_editable,
    build_sdist,
    build_wheel,
    get_requires_for_build_sdist,
    prepare_metadata_for_build_editable,
    prepare_metadata_for_build_wheel,
)

__all__ = [
    "build_editable",
    "build_sdist",
    "build_wheel",
    "get_requires_for_build_editable",
    "get_requires_for_build_sdist",
    "get_requires_for_build_wheel",
    "load_compiler_module",
    "prepare_metadata_for_build_editable",
    "prepare_metadata_for_build_wheel",
]

_ZIG = "ziglang==0.17.*"
_ROOT = Path(__file__).resolve().parents[1]


def get_requires_for_build_wheel(config_settings: dict[str, str | list[str] | None] | None = None) -> list[str]:
    """What to install before a wheel is built."""
    return [*build_meta.get_requires_for_build_wheel(config_settings), *_compiler_requirements()]


def get_requires_for_build_editable(config_settings: dict[str, str | list[str] | None] | None = None) -> list[str]:
    """What to install before an editable install."""
    return [*build_meta.get_requires_for_build_editable(config_settings), *_compiler_requirements()]


def load_compiler_module() -> ModuleType:
    """``runtime.native.build``, loaded from its file: the package itself cannot be imported yet."""
    name = "peregrine_native_build"
    spec = importlib.util.spec_from_file_location(name, _ROOT / "runtime" / "native" / "build.py")
    if spec is None or spec.loader is None:
        raise ImportError(name)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _compiler_requirements() -> list[str]:
    return [] if load_compiler_module().has_compiler() else [_ZIG]
