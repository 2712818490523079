"""Publishes directories whole or not at all: staging beside the target, fsync, rename, under a lock."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from pathlib import Path

from build_engine.errors import BuildError
from build_engine.locks import exclusive_lock, lock_if_free
from build_engine.progress import Progress
from runtime.bundle.bundle import BUNDLE_FILES
from runtime.bundle.cache import bundles_root
from runtime.bundle.manifest_file import MANIFEST_FILE
from runtime.bundle.stamp import STAMP_FILE

_PREFIX = ".peregrine-staging-"
_TOKEN_BYTES = 4
_STAGING = re.compile(rf"{re.escape(_PREFIX)}(.+)-[0-9a-f]{{{2 * _TOKEN_BYTES}}}")


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
        parts = _STAGING.fullmatch(staging.name)
        if parts is None:
            continue
        with lock_if_free(_lock_name(folder / parts[1])) as free:
            if free:
                shutil.rmtree(staging, ignore_errors=True)


def link(target: Path, alias: Path) -> bool:
    """Make ``alias`` a symbolic link to ``target``.

    Returns:
        ``False`` where something that is no link stands in its place, or the folder cannot be written.
    """
    if alias.exists() and not alias.is_symlink():
        return False
    temporary = alias.parent / f"{_PREFIX}{secrets.token_hex(_TOKEN_BYTES)}"
    try:
        alias.parent.mkdir(parents=True, exist_ok=True)
        temporary.symlink_to(target)
        temporary.replace(alias)
    except OSError:
        return False
    return True


def _check_replaceable(target: Path) -> None:
    if target.is_symlink():
        raise BuildError(f"{target}: is a symbolic link; pass the directory itself, or remove the link")
    if not target.exists() or target.parent == bundles_root():
        return
    if not target.is_dir():
        raise BuildError(f"{target}: exists and is not an engine bundle; it is left alone")
    names = {path.name for path in target.iterdir()}
    # NOTE: a manifest.json alone proves nothing: web pages and browser extensions have one too.
    foreign = sorted(name for name in names - BUNDLE_FILES if not name.startswith(f".{STAMP_FILE}."))
    if foreign or (names and MANIFEST_FILE not in names):
        held = f": it holds {foreign[0]!r}" if foreign else ""
        raise BuildError(f"{target}: exists and is not an engine bundle{held}; it is left alone")


def _swap(staging: Path, target: Path) -> None:
    """Rename ``staging`` to ``target``; an old bundle is moved aside first and removed last."""
    old = _beside(target) if target.exists() else None
    if old is not None:
        target.rename(old)
    try:
        staging.rename(target)
    except BaseException:
        if old is not None:
            old.rename(target)
        raise
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
