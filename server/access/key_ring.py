"""The digests that the supervisor hands to the HTTP workers, and their search for a key's."""

from __future__ import annotations

import hashlib
import hmac
import logging
import os
from collections.abc import Sequence
from pathlib import Path

import msgspec

from server.access.tenant import Tenant

RING_FILE = "keys.json"
"""In the run directory."""

logger = logging.getLogger("peregrine.access")


def publish(tenants: Sequence[Tenant], directory: Path) -> Path:
    """Give workers these tenants; those that run have them from their next request on.

    Returns:
        The file, for ``KeyRing``.
    """
    path = directory / RING_FILE
    new = path.with_suffix(".new")
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(msgspec.json.encode(tenants))
    new.replace(path)
    return path


class KeyRing:
    """Finds whose key it is.

    Args:
        path: What ``publish`` wrote; looked at again whenever it changes.
    """

    _PREFIX = 8

    def __init__(self, path: Path) -> None:
        self._path = path
        self._stamp = (0, 0)
        self._known: dict[bytes, tuple[bytes, Tenant]] = {}
        self._load()

    def find(self, key: bytes) -> Tenant | None:
        """The tenant that has ``key``; ``None`` if nobody has.

        What the time of a search tells is whether some digest begins like that of the key: nothing that brings a
        client nearer to a key it does not have.
        """
        self._load()
        digest = hashlib.sha256(key).digest()
        found = self._known.get(digest[: self._PREFIX])
        if found is None:
            return None
        known, tenant = found
        return tenant if hmac.compare_digest(known, digest) else None

    def _load(self) -> None:
        about = self._path.stat()
        stamp = (about.st_ino, about.st_mtime_ns)
        if stamp == self._stamp:
            return
        tenants = msgspec.json.decode(self._path.read_bytes(), type=list[Tenant])
        digests = [(bytes.fromhex(text), tenant) for tenant in tenants for text in tenant.digests]
        self._known = {digest[: self._PREFIX]: (digest, tenant) for digest, tenant in digests}
        self._stamp = stamp
        logger.info("tenants with keys: %d", len(tenants))
