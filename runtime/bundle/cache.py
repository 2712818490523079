"""Where Peregrine keeps what it can make again."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "PEREGRINE_CACHE"


def cache_root() -> Path:
    """``$PEREGRINE_CACHE``, else ``peregrine`` in the XDG cache folder. Not created here."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    # NOTE: the XDG specification says that a relative path is to be ignored.
    base = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (base if base.is_absolute() else Path.home() / ".cache") / "peregrine"


def bundles_root() -> Path:
    """The folder of built bundles."""
    return cache_root() / "bundles"


def sources_root() -> Path:
    """The folder of downloaded checkpoints."""
    return cache_root() / "sources"
