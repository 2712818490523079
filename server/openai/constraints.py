"""The constraint that a request asks for, in any of the ways that clients know."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from runtime.constraints import choice, grammar, json_object, json_schema, regex
from runtime.request import Constraint
from server.errors import InvalidRequestError
from server.openai.sampling_fields import ConstraintFields, ResponseFormat

_REFUSED = ("min_p", "use_beam_search")

MAX_CHOICES = 1000


def asked_constraint(request: ConstraintFields) -> tuple[Constraint, str] | None:
    """What the output has to be, and the name of the field that says so; ``None`` for free text.

    Raises:
        InvalidRequestError: A field has a wrong value, there are two of them, or the request wants something else that
            is not done.
    """
    for name in _REFUSED:
        if getattr(request, name):
            raise _refusal(name, name)
    asked: list[tuple[Constraint, str]] = []
    for name, make in _MAKERS.items():
        value = getattr(request, name)
        constraint = None if value is None or value == "" else make(value, name)
        if constraint is not None:
            asked.append((constraint, name))
    if len(asked) > 1:
        names = " and ".join(name for _, name in asked)
        raise InvalidRequestError(f"{names} exclude each other", param=asked[1][1])
    return asked[0] if asked else None


def _of_response_format(format_: ResponseFormat, name: str) -> Constraint | None:
    """``strict`` makes no difference: what is asked for is enforced, or refused."""
    match format_.type:
        case "text":
            return None
        case "json_object":
            return json_object() if format_.schema is None else _of_json(format_.schema, name)
        case "json_schema":
            schema = format_.schema if format_.json_schema is None else format_.json_schema.schema
            if schema is None:
                raise InvalidRequestError("response_format has no schema", "missing_field", name)
            return _of_json(schema, name)
        case _:
            raise _refusal(f"response_format of type {format_.type!r}", name)


def _of_json(schema: Any, name: str) -> Constraint:
    if isinstance(schema, dict):
        return json_schema(msgspec.json.encode(schema).decode())
    return json_schema(_text(schema, name))


def _of_choice(texts: Any, name: str) -> Constraint:
    if not isinstance(texts, list) or not 1 <= len(texts) <= MAX_CHOICES:
        raise InvalidRequestError(f"{name} has to be a list of 1 to {MAX_CHOICES} texts", "invalid_type", name)
    return choice([_text(text, name) for text in texts])


def _of_structured_outputs(outputs: Any, name: str) -> Constraint | None:
    """What vLLM has instead of ``guided_*`` today."""
    if not isinstance(outputs, dict):
        raise InvalidRequestError(f"{name} has to be an object", "invalid_type", name)
    wanted = {key: value for key, value in outputs.items() if value not in (None, False)}
    unknown = sorted(wanted.keys() - _STRUCTURED.keys())
    if unknown:
        raise _refusal(f"{name}.{unknown[0]}", name)
    if len(wanted) > 1:
        raise InvalidRequestError(f"{name}: {' and '.join(wanted)} exclude each other", param=name)
    return next((_STRUCTURED[key](value, name) for key, value in wanted.items()), None)


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str):
        raise InvalidRequestError(f"{name}: expected a text", "invalid_type", name)
    return value


_STRUCTURED: dict[str, Callable[[Any, str], Constraint]] = {
    "json": _of_json,
    "regex": lambda value, name: regex(_text(value, name)),
    "choice": _of_choice,
    "grammar": lambda value, name: grammar(_text(value, name)),
    "json_object": lambda _value, _name: json_object(),
}

_MAKERS: dict[str, Callable[[Any, str], Constraint | None]] = {
    "response_format": _of_response_format,
    "guided_json": _of_json,
    "guided_regex": _STRUCTURED["regex"],
    "regular_constraint": _STRUCTURED["regex"],
    "guided_choice": _of_choice,
    "guided_grammar": _STRUCTURED["grammar"],
    "structured_outputs": _of_structured_outputs,
}


def _refusal(what: str, field: str) -> InvalidRequestError:
    return InvalidRequestError(f"{what} is not supported by this build", "unsupported", field)
