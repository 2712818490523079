"""What a method of a path takes and answers: types that parse and write it, and the ways in which it fails."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import UnionType
from typing import Any

import msgspec

from server.native_types import Message, Refusal
from server.openai.errors import ErrorBody

JSON = "application/json"
EVENTS = "text/event-stream"

Kind = type | UnionType

Failures = Mapping[int, type | None]
"""Status -> type of the answer; ``None`` for one without a body."""


class HttpFailure(msgspec.Struct):
    """No such path, or not with this method."""

    detail: str


UNAVAILABLE: Failures = {503: Message}
OVERLOADED: Failures = {429: Message, 504: Message}
NATIVE: Failures = {408: Message, 413: Message, 415: Message, 417: Refusal, **UNAVAILABLE}
OPENAI: Failures = dict.fromkeys((400, 408, 413, 415, 422, 503), ErrorBody)
NATIVE_GENERATION: Failures = {**NATIVE, **OVERLOADED}
GENERATION: Failures = {**OPENAI, 429: ErrorBody, 504: ErrorBody}
CACHED: Failures = {304: None}


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """A method of a path, as clients know it.

    Attributes:
        tag: Heading that it belongs under.
        summary: What it does.
        body: Types that the body has to have, all of them at once; none for no body.
        query: Parameters in the query, and what they mean.
        answer: Type of the answer, or its media types where it is no JSON.
        events: Types of an event, one of them each time, where the answer may be a stream.
        last: What comes after them and is no JSON.
        failures: What other answers there are.
        example: A body that works.
    """

    tag: str
    summary: str
    body: tuple[type, ...] = ()
    query: Mapping[str, str] = field(default_factory=dict)
    answer: Kind | tuple[str, ...] = ()
    events: tuple[type, ...] = ()
    last: str = ""
    failures: Failures = field(default_factory=dict)
    example: Any = None

    @property
    def types(self) -> list[Kind]:
        """All types that it needs explained."""
        answer = [] if isinstance(self.answer, tuple) else [self.answer]
        return [*self.body, *answer, *self.events, *(kind for kind in self.failures.values() if kind is not None)]


@dataclass(frozen=True, slots=True)
class Route:
    """A path, who answers there, and what.

    Attributes:
        path: Falcon's template.
        resource: Falcon's resource.
        operations: By method.
        suffix: Of the resource's responders.
    """

    path: str
    resource: object
    operations: Mapping[str, Operation]
    suffix: str | None = None
