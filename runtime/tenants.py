"""What the engine knows of those who share it."""

from __future__ import annotations

from typing import Annotated

import msgspec

NOBODY = ""
"""The tenant of requests that came without a key."""


class TenantLimits(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One tenant's share. ``None`` leaves only the server's own limits.

    Attributes:
        name: As in ``AddRequest.tenant``.
        weight: Share of the engine, relative to the other tenants who want it at the moment.
        max_running: Samples in flight.
        max_queued: Requests that may wait.
        max_queued_tokens: Prompt tokens of those.
    """

    name: str
    weight: Annotated[float, msgspec.Meta(gt=0, le=1000)] = 1.0
    max_running: Annotated[int, msgspec.Meta(ge=1)] | None = None
    max_queued: Annotated[int, msgspec.Meta(ge=0)] | None = None
    max_queued_tokens: Annotated[int, msgspec.Meta(ge=0)] | None = None
