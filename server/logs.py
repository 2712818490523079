"""Logging of this package's own messages."""

from __future__ import annotations

import logging
import sys

LEVELS = ("debug", "info", "warning", "error")


def configure_logging(level: str, process: str) -> None:
    """Send the ``peregrine`` loggers to standard error, once.

    Args:
        level: One of ``LEVELS``.
        process: Shown in each line.
    """
    logger = logging.getLogger("peregrine")
    logger.setLevel(level.upper())
    if not logger.handlers:
        handler = logging.StreamHandler(sys.stderr)
        handler.setFormatter(logging.Formatter(f"%(asctime)s {process}[%(process)d] %(levelname)s %(message)s"))
        logger.addHandler(handler)
        logger.propagate = False
