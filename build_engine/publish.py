"""Publishes directories whole or not at all: staging beside the target, fsync, rename, under a lock."""

from __future__ import annotations

import hashlib
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from build_engine.errors import BuildError
from build_engine.locks import exclusive_lock, lock_if_free
from build_engine.progress import Progress
from runtime.bundle.manifest_file import MANIFEST_FILE

_PREFIX = ".staging-"
_TOKEN_BYTES = 4


def publishing(target: Path, progress: Progress) -> AbstractContextManager[None]:
    """Hold the lock of ``target``: one process at a time builds it."""
    return exclusive_lock(_lock_name(target), progress)


@contextmanager
def staged(target: Path) -> Iterator[Path]:
    """An empty directory that becomes ``target`` when the block ends, and vanishes when it raises.

    The caller holds the lock of ``target``. A bundle that is there already is replaced; anything else is refused.

    Raises:
        BuildError: ``target`` is something else than a bundle, or its folder cannot be written.
    """
    _check_replaceable(target)
    staging = _beside(target)
    try:
        staging.mkdir(parents=True)
    except OSError as error:
        raise BuildError(f"{target.parent}: cannot be written: {error.strerror}") from None
    try:
        yield staging
        _sync(staging)
        _swap(staging, target)
    except BaseException:
        shutil.rmtree(staging, ignore_errors=True)
        raise


def remove_leftovers(folder: Path) -> None:
    """Remove staging directories in ``folder`` whose builders have died: those whose lock is free."""
    for staging in folder.glob(f"{_PREFIX}*"):
        name = staging.name.removeprefix(_PREFIX)[: -2 * _TOKEN_BYTES - 1]
        with lock_if_free(_lock_name(folder / name)) as free:
            if free:
                shutil.rmtree(staging, ignore_errors=True)


def link(target: Path, alias: Path) -> bool:
    """Make ``alias`` a symbolic link to ``target``; ``False`` where something that is no link stands in its place."""
    if alias.exists() and not alias.is_symlink():
        return False
    alias.parent.mkdir(parents=True, exist_ok=True)
    temporary = alias.parent / f"{_PREFIX}{secrets.token_hex(_TOKEN_BYTES)}"
    temporary.symlink_to(target)
    temporary.replace(alias)
    return True


def _check_replaceable(target: Path) -> None:
    if target.is_symlink():
        raise BuildError(f"{target}: is a symbolic link; pass the directory itself, or remove the link")
    if not target.exists():
        return
    if not target.is_dir() or (any(target.iterdir()) and not (target / MANIFEST_FILE).is_file()):
        raise BuildError(f"{target}: exists and is not an engine bundle; it is left alone")


def _swap(staging: Path, target: Path) -> None:
    """Rename ``staging`` to ``target``; an old bundle is moved aside first and removed last."""
    old = _beside(target) if target.exists() else None
    if old is not None:
        target.rename(old)
    staging.rename(target)
    _sync_folder(target.parent)
    if old is not None:
        shutil.rmtree(old, ignore_errors=True)


def _beside(target: Path) -> Path:
    return target.parent / f"{_PREFIX}{target.name}-{secrets.token_hex(_TOKEN_BYTES)}"


def _lock_name(target: Path) -> str:
    path = target.absolute()
    return f"{path.name}-{hashlib.sha256(str(path.parent.resolve()).encode()).hexdigest()[:12]}"


def _sync(directory: Path) -> None:
    for path in directory.iterdir():
        with path.open("rb") as file:
            os.fsync(file.fileno())
    _sync_folder(directory)


def _sync_folder(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        # NOTE: some network file systems refuse to sync a directory; the rename is then as safe as they make it.
        with suppress(OSError):
            os.fsync(handle)
    finally:
        os.close(handle)
