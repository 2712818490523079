"""Whose requests a key lets in, and what they may do."""

from __future__ import annotations

import hashlib
import re

import msgspec

from runtime.tenants import TenantLimits

MIN_KEY_LENGTH = 16
"""Shorter keys can be guessed, and found from their digest."""

DIGEST_PREFIX = "sha256:"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_KEY = re.compile(rf"[\x21-\x7e]{{{MIN_KEY_LENGTH},512}}")
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")


class Tenant(msgspec.Struct, frozen=True, kw_only=True):
    """One who has a key, or several. Keys are known by their digests alone.

    Attributes:
        limits: Name and share of the engine.
        digests: SHA-256 of each key, in hexadecimal.
        max_priority: Ceiling of what requests may ask for.
        metrics: May read ``/metrics``, which tells of all tenants.
    """

    limits: TenantLimits
    digests: tuple[str, ...]
    max_priority: int = 0
    metrics: bool = False

    @property
    def name(self) -> str:
        """As in logs and metrics."""
        return self.limits.name


def check_name(name: str) -> str:
    """A tenant's name as it is.

    Raises:
        ValueError: It cannot be one; the message does not have it.
    """
    if not _NAME.fullmatch(name):
        raise ValueError("a name has 1 to 64 letters, digits, _ and -")
    return name


def digest_of(key: str) -> str:
    """The digest of a key as operators write it: the key itself, or ``sha256:`` and its digest.

    Raises:
        ValueError: It is neither; the message does not have it.
    """
    if key.startswith(DIGEST_PREFIX):
        digest = key.removeprefix(DIGEST_PREFIX).lower()
        if not _DIGEST.fullmatch(digest):
            raise ValueError(f"a digest is {DIGEST_PREFIX} and 64 hexadecimal digits")
        return digest
    if not _KEY.fullmatch(key):
        raise ValueError(f"a key has {MIN_KEY_LENGTH} to 512 visible ASCII characters")
    return hashlib.sha256(key.encode()).hexdigest()
