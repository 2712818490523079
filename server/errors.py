"""What a client can be told went wrong, apart from wire format."""

from __future__ import annotations

import re


class ServerError(Exception):
    """Base of everything that is answered with an error body.

    Attributes:
        message: Text for the client.
        reason: Stable name of the kind of failure, for metrics and traces.
    """

    status = 500
    reason = "internal"

    def __init__(self, message: str) -> None:
        super().__init__(message)
        self.message = message


class InvalidRequestError(ServerError):
    """The request itself is wrong; LightLLM answers 417 to all of these.

    Attributes:
        error_code: Stable name of the kind of mistake.
        param: Name of the offending field, or ``None``.
    """

    status = 417

    def __init__(self, message: str, error_code: str = "invalid_value", param: str | None = None) -> None:
        super().__init__(message)
        self.error_code = self.reason = error_code
        self.param = param


class UnavailableError(ServerError):
    """The engine cannot take or finish the request now; another attempt may succeed.

    Attributes:
        retry_after: Whole seconds to wait.
    """

    status = 503
    reason = "unavailable"

    def __init__(self, message: str, retry_after: int = 1) -> None:
        super().__init__(message)
        self.retry_after = retry_after


class RefusedError(UnavailableError):
    """The engine is there and turned the request away: its queue is full, or it is about to stop."""

    reason = "refused"


class QueueFullError(RefusedError):
    """As many requests, or tokens, as may wait are waiting."""

    reason = "queue_full"


class TimeIsUpError(ServerError):
    """The request was not answered within the time that it was given.

    Not 503: that invites another attempt, from proxies too, and there is nobody to wait for its answer.
    """

    status = 504
    reason = "deadline"


class ClientGoneError(Exception):
    """The client closed its connection: nobody is left to answer."""


class StartError(Exception):
    """The server cannot start; the message is for the operator."""


def field_of(place: str) -> str:
    """The request's field that a place such as ``chat[1].content`` is in."""
    return re.split(r"[.\[]", place, maxsplit=1)[0]
