"""What this machine has left for a build."""

from __future__ import annotations

import resource
import shutil
import sys
from pathlib import Path


def free_disk(directory: Path) -> int:
    """Bytes free where ``directory`` is, or will be."""
    existing = next(path for path in (directory, *directory.parents) if path.exists())
    return shutil.disk_usage(existing).free


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024
