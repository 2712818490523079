"""What an installation takes on disk, package by package."""

from __future__ import annotations

import re
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path

SERVING = ("peregrine-llm", ("cpu",))
"""What has to be installed to serve a bundle on a CPU."""
OWN = ("runtime", "server", "build_engine", "models")


def installed_megabytes() -> dict[str, float]:
    """Of every package that serving on a CPU needs, the largest first; nothing where Peregrine is not installed."""
    if not _installed(SERVING[0]):
        return {}
    sizes = {name: package_bytes(name) / 1e6 for name in needed(*SERVING) if _installed(name)}
    sizes[SERVING[0]] = own_bytes() / 1e6
    return dict(sorted(sizes.items(), key=lambda item: -item[1]))


def package_bytes(name: str) -> int:
    """Size of a package's files; 0 where it is not installed. Bytecode that it came without is not counted."""
    files = metadata.files(name) or [] if _installed(name) else []
    paths = (Path(str(file.locate())) for file in files)
    return sum(path.stat().st_size for path in paths if path.is_file())


def own_bytes() -> int:
    """Size of Peregrine's own packages; an editable installation does not list them."""
    root = Path(__file__).parents[1]
    paths = (path for package in OWN for path in (root / package).rglob("*") if "__pycache__" not in path.parts)
    return sum(path.stat().st_size for path in paths if path.is_file())


def needed(name: str, extras: tuple[str, ...] = ()) -> set[str]:
    """Installed packages that ``name`` with these extras depends on, itself included.

    Markers other than ``extra`` are not evaluated: what is not installed takes no space.
    """
    found: set[str] = set()
    queue = [(name, extras)]
    while queue:
        package, wanted = queue.pop()
        found.add(canonical(package))
        queue += [need for need in _requirements(package, wanted) if canonical(need[0]) not in found]
    return found


def canonical(name: str) -> str:
    """A package's name as PyPI compares it (PEP 503)."""
    return re.sub(r"[-_.]+", "-", name).lower()


def _requirements(package: str, extras: tuple[str, ...]) -> Iterator[tuple[str, tuple[str, ...]]]:
    for line in metadata.requires(package) or [] if _installed(package) else []:
        requirement, _, marker = line.partition(";")
        named = re.findall(r"extra\s*==\s*['\"]([\w.-]+)['\"]", marker)
        match = re.match(r"\s*([\w.-]+)\s*(?:\[([^\]]*)\])?", requirement)
        if match and (not named or set(named) & set(extras)):
            yield match[1], tuple(part.strip() for part in (match[2] or "").split(",") if part.strip())


def _installed(package: str) -> bool:
    try:
        metadata.distribution(package)
    except metadata.PackageNotFoundError:
        return False
    return True
