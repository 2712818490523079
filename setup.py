"""Compiles the native op library; everything else is in pyproject.toml."""

from __future__ import annotations

import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

sys.path.insert(0, str(Path(__file__).parent / "build_backend"))

from native_backend import load_compiler_module

SOURCES = Path("runtime", "native", "src")


class BuildLibrary(build_ext):
    """Builds a plain shared library where setuptools expects an extension module."""

    def get_ext_filename(self, fullname: str) -> str:
        """``a.b.name`` is ``a/b/name.so``, without Python's ABI tag."""
        return str(Path(*fullname.split("."))) + ".so"

    def build_extension(self, ext: Extension) -> None:
        """Compiles it."""
        compiler = load_compiler_module()
        try:
            compiler.build_library(Path(self.get_ext_fullpath(ext.name)))
        except compiler.BuildError as error:
            raise SystemExit(f"error: {error}") from None


class PlatformWheel(bdist_wheel):
    """Tags the wheel for its platform, and for any Python: nothing in it is compiled against Python."""

    def get_tag(self) -> tuple[str, str, str]:
        """Python, ABI and platform tag."""
        return "py3", "none", super().get_tag()[2]


setup(
    cmdclass={"build_ext": BuildLibrary, "bdist_wheel": PlatformWheel},
    ext_modules=[
        Extension(
            "runtime.native.libperegrine_ops",
            sources=sorted(map(str, SOURCES.glob("*.cc"))),
            depends=sorted(map(str, SOURCES.glob("*.h"))),
            language="c++",
        )
    ],
)
