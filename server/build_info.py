"""Which version this is."""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version

DISTRIBUTION = "peregrine-llm"


def server_version() -> str:
    """The installed version; 0 where the sources run without having been installed."""
    try:
        return version(DISTRIBUTION)
    except PackageNotFoundError:
        return "0"
