"""Where the keys come from: a TOML file, and an environment variable."""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import MutableMapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import msgspec

from runtime.tenants import TenantLimits
from server.access.tenant import DIGEST_PREFIX, Tenant, check_name, digest_of
from server.errors import StartError

VARIABLE = "PEREGRINE_API_KEYS"
UNNAMED = "default"
"""The tenant of keys without a name."""

MAX_FILE_BYTES = 2**24
_FLAG = "--api_key_file"
_LIMITS = ("weight", "max_running", "max_queued", "max_queued_tokens")


class _Entry(msgspec.Struct, kw_only=True, forbid_unknown_fields=True, omit_defaults=True):
    """A table of the file; the numbers as in ``TenantLimits``."""

    key: str | list[str]
    weight: float | None = None
    max_running: int | None = None
    max_queued: int | None = None
    max_queued_tokens: int | None = None
    max_priority: Annotated[int, msgspec.Meta(ge=-8, le=8)] = 0
    metrics: bool = False


@dataclass(frozen=True, slots=True)
class KeySource:
    """What ``read`` reads, now and whenever it changes.

    Attributes:
        path: The file; ``None`` for none.
        inherited: Tenants from the environment.
    """

    path: Path | None = None
    inherited: tuple[Tenant, ...] = ()

    def __bool__(self) -> bool:
        """Whether keys are wanted at all."""
        return self.path is not None or bool(self.inherited)

    def read(self) -> tuple[Tenant, ...]:
        """All tenants; none only where no keys are wanted.

        Raises:
            StartError: The file cannot be read, can be read by others, or is wrong; or a key is there twice.
        """
        tenants = self.inherited
        if self.path is not None:
            tenants += _parse(_read_private(self.path), self.path)
        for what, values in (
            ("tenant", [tenant.name for tenant in tenants]),
            ("key", [digest for tenant in tenants for digest in tenant.digests]),
        ):
            if len({*values}) < len(values):
                raise StartError(f"{_FLAG} and {VARIABLE}: the same {what} is there twice")
        return tenants


def take_environment(environ: MutableMapping[str, str]) -> tuple[Tenant, ...]:
    """The tenants in the environment, which has them no more afterwards: children are not to inherit keys.

    Keys of one name are one tenant's. They may read ``/metrics``, since there is no place to say otherwise.

    Raises:
        StartError: The variable cannot be understood; the message has no key.
    """
    if VARIABLE not in environ:
        return ()
    digests: dict[str, list[str]] = {}
    for place, text in enumerate(environ.pop(VARIABLE).split(","), 1):
        part = text.strip()
        if not part:
            continue
        name, colon, key = part.partition(":")
        if not colon or part.startswith(DIGEST_PREFIX):
            name, key = UNNAMED, part
        try:
            digests.setdefault(check_name(name), []).append(digest_of(key))
        except ValueError as error:
            raise StartError(f"environment variable {VARIABLE}, entry {place}: {error}") from None
    if not digests:
        # NOTE: a secret that got lost on its way must not open the door to everybody.
        raise StartError(f"environment variable {VARIABLE} is there and has no key in it")
    return tuple(
        Tenant(limits=TenantLimits(name=name), digests=tuple(keys), metrics=True) for name, keys in digests.items()
    )


def _read_private(path: Path) -> bytes:
    """The content of a file that nobody else can read or change."""
    try:
        with path.open("rb") as file:
            about = os.fstat(file.fileno())
            problem = exposure(about.st_mode, about.st_uid, os.geteuid())
            if problem:
                raise StartError(f"{_FLAG} {path}: {problem}")
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise StartError(f"{_FLAG} {path}: {error.strerror}") from None
    if len(content) > MAX_FILE_BYTES:
        raise StartError(f"{_FLAG} {path}: it has more than {MAX_FILE_BYTES} bytes")
    return content


def exposure(mode: int, owner: int, user: int) -> str:
    """Why a file of that mode is no place for secrets; empty if it is one.

    A file of root's may be readable by a group: that is how container platforms hand out secrets.
    """
    if not stat.S_ISREG(mode):
        return "it is no regular file"
    if owner not in (user, 0):
        return "it belongs to another user"
    if mode & (0o077 if owner == user else 0o027):
        return f"others can read or change it (mode {stat.S_IMODE(mode):03o}); need: chmod 600"
    return ""


def _parse(content: bytes, path: Path) -> tuple[Tenant, ...]:
    try:
        tables = tomllib.loads(content.decode())
    except UnicodeDecodeError:
        raise StartError(f"{_FLAG} {path}: it is not UTF-8") from None
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise StartError(f"{_FLAG} {path}: {error}") from None
    if not tables:
        raise StartError(f"{_FLAG} {path}: it has no keys")
    tenants = []
    for place, (name, table) in enumerate(tables.items(), 1):
        # NOTE: what is no table with a proper name may be a key in the wrong place, and is not shown.
        where = f"entry {place}"
        try:
            if not isinstance(table, dict):
                raise ValueError('need a table: a line [NAME], then key = "..."')
            check_name(name)
            where = f"[{name}]"
            tenants.append(_tenant(name, table))
        except ValueError as error:
            raise StartError(f"{_FLAG} {path}: {where}: {error}") from None
    return tuple(tenants)


def _tenant(name: str, table: dict[str, Any]) -> Tenant:
    entry = msgspec.convert(table, _Entry)
    keys: Sequence[str] = [entry.key] if isinstance(entry.key, str) else entry.key
    if not keys:
        raise ValueError("it has no key")
    limits = {field: value for field in _LIMITS if (value := getattr(entry, field)) is not None}
    return Tenant(
        limits=msgspec.convert({"name": name} | limits, TenantLimits),
        digests=tuple(map(digest_of, keys)),
        max_priority=entry.max_priority,
        metrics=entry.metrics,
    )
