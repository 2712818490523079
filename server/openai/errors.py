"""Errors in OpenAI's shape, for the paths that speak it."""

from __future__ import annotations

import msgspec
from msgspec import UNSET, UnsetType

from server.errors import InvalidRequestError, QueueFullError, ServerError


class ErrorDetail(msgspec.Struct):
    """What OpenAI's clients make an exception of."""

    message: str
    type: str
    param: str | None
    code: str | None


class Problem(msgspec.Struct):
    """What is wrong where, in LightLLM's words for a body that is none."""

    type: str
    loc: list[str]
    msg: str


class ErrorBody(msgspec.Struct):
    """Answer of a call that fails; ``detail`` goes with 422."""

    error: ErrorDetail
    detail: list[Problem] | UnsetType = UNSET


PATHS = ("/v1", "/tokenize", "/detokenize")

_SCHEMA_CODES = frozenset({"invalid_json", "invalid_type", "missing_field"})
"""What LightLLM answers with 422 and a ``detail``: the body is not what the API takes, whatever the values."""

_CODES = {"too_long": "context_length_exceeded", "request_too_large": "context_length_exceeded"}
_REASONS = {429: "queue_full", 504: "deadline_exceeded"}
_KINDS = {429: "rate_limit_error", 503: "service_unavailable_error", 504: "timeout_error"}


def speaks_openai(path: str) -> bool:
    """Whether errors of ``path`` are in OpenAI's shape."""
    return any(path == known or path.startswith(f"{known}/") for known in PATHS)


def error_body(status: int, message: str, *, code: str | None = None, param: str | None = None) -> ErrorBody:
    """The answer with ``status``."""
    kind = _KINDS.get(status, "server_error" if status >= 500 else "invalid_request_error")
    return ErrorBody(ErrorDetail(message, kind, param, code))


def status_of(error: ServerError) -> int:
    """The status that ``error`` is answered with."""
    match error:
        case InvalidRequestError(error_code=code):
            return 422 if code in _SCHEMA_CODES else 400
        case QueueFullError():
            return 429
        case _:
            return error.status


def body_of(error: ServerError) -> ErrorBody:
    """The body that ``error`` is answered with; LightLLM's ``detail`` goes with a 422."""
    status = status_of(error)
    if not isinstance(error, InvalidRequestError):
        return error_body(status, error.message, code=_REASONS.get(status))
    code = _CODES.get(error.error_code, error.error_code)
    content = error_body(status, error.message, code=code, param=error.param)
    if status == 422:
        place = ["body"] if error.param is None else ["body", error.param]
        content.detail = [Problem(error.error_code, place, error.message)]
    return content
