"""Errors of bundles that a person can act on."""

from __future__ import annotations


class BundleError(Exception):
    """A bundle cannot be used; the message says what is there, what is needed and the command that mends it."""

    def __init__(self, have: str, *, need: str = "", fix: str = "") -> None:
        parts = [have, f"need: {need}" if need else "", f"fix: {fix}" if fix else ""]
        super().__init__("; ".join(part for part in parts if part))
