"""The API's description in OpenAPI 3.1, made of the table of routes and of the types that parse and write it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any

import msgspec

from server.build_info import server_version
from server.operations import EVENTS, JSON, Kind, Operation, Route
from server.parameters import Parameters

Schema = dict[str, Any]

_REFERENCE = "#/components/schemas/{name}"
_FIELD = re.compile(r"\{(\w+)(?::\w+)?\}")

_KEYS: Schema = {
    "bearer": {"type": "http", "scheme": "bearer"},
    "header": {"type": "apiKey", "in": "header", "name": "X-API-Key"},
}

_REASONS = {
    200: "The answer.",
    304: "Nothing has changed.",
    400: "A value that cannot be had.",
    404: "There is no such thing.",
    408: "The body did not come in time.",
    413: "The body is larger than --max_body_bytes.",
    415: "The body is compressed.",
    417: "The request is not valid, too long, or asks for what this server does not do.",
    422: "No request at all: not JSON, a field missing, or of another type.",
    429: "The queue is full; on LightLLM's paths only with --overload_status 429.",
    503: "Not now: the queue is full, the server is stopping, or its engine does not answer.",
    504: "The request was not answered within the time that it was given.",
}


def describe(routes: Sequence[Route], locked: Collection[str] = ()) -> Schema:
    """The document that ``/openapi.json`` answers with.

    Args:
        routes: What is served.
        locked: Paths of those that want a key.
    """
    operations = [operation for route in routes for operation in route.operations.values()]
    types = [kind for operation in operations for kind in operation.types]
    # NOTE: no body has this type in one piece, see ``ParametersObject``.
    kinds = [*dict.fromkeys([*types, Parameters])]
    references, components = msgspec.json.schema_components(kinds, ref_template=_REFERENCE)
    schemas = dict(zip(kinds, references, strict=True))
    return {
        "openapi": "3.1.0",
        "info": {"title": "Peregrine", "version": server_version()},
        "paths": {
            _FIELD.sub(r"{\1}", route.path): {
                method.lower(): _operation(route.path, operation, schemas) | _lock(route.path, locked)
                for method, operation in route.operations.items()
            }
            for route in routes
        },
        "components": {"schemas": _worded(components)} | ({"securitySchemes": _KEYS} if locked else {}),
    }


def _lock(path: str, locked: Collection[str]) -> Schema:
    return {"security": [{name: []} for name in _KEYS]} if path in locked else {}


def _operation(path: str, operation: Operation, schemas: Mapping[Kind, Schema]) -> Schema:
    content: Schema = {"tags": [operation.tag], "summary": operation.summary}
    places = [(name, "path", True, {"type": "string"}) for name in _FIELD.findall(path)]
    places += [(name, "query", False, {"type": "string", "description": t}) for name, t in operation.query.items()]
    if places:
        content["parameters"] = [
            {"name": name, "in": place, "required": required, "schema": schema}
            for name, place, required, schema in places
        ]
    if operation.body:
        bodies = [schemas[kind] for kind in operation.body]
        media: Schema = {"schema": bodies[0] if len(bodies) == 1 else {"allOf": bodies}}
        if operation.example is not None:
            media["example"] = operation.example
        content["requestBody"] = {"required": True, "content": {JSON: media}}
    content["responses"] = _responses(operation, schemas)
    return content


def _responses(operation: Operation, schemas: Mapping[Kind, Schema]) -> Schema:
    if isinstance(operation.answer, tuple):
        media = {kind: {"schema": {"type": "string"}} for kind in operation.answer}
    else:
        media = {JSON: {"schema": schemas[operation.answer]}}
    if operation.events:
        media[EVENTS] = {"schema": _event([schemas[kind] for kind in operation.events], operation.last)}
    responses: Schema = {"200": {"description": _REASONS[200], "content": media}}
    for status, kind in sorted(operation.failures.items()):
        response: Schema = {"description": _REASONS[status]}
        if kind is not None:
            response["content"] = {JSON: {"schema": schemas[kind]}}
        responses[str(status)] = response
    return responses


def _event(kinds: Sequence[Schema], last: str) -> Schema:
    """An event of a stream, as OpenAPI before 3.2 has it: the schema of the answer is that of each event."""
    content = kinds[0] if len(kinds) == 1 else {"anyOf": kinds}
    data: Schema = {"type": "string", "contentMediaType": JSON, "contentSchema": content}
    if last:
        data = {"anyOf": [{"const": last}, data]}
    return {"type": "object", "properties": {"data": data}, "required": ["data"]}


def _worded(schema: Any) -> Any:
    """``schema`` with docstrings cut to what readers of the API need: the first paragraph, in Markdown."""
    if isinstance(schema, list):
        return [_worded(item) for item in schema]
    if not isinstance(schema, dict):
        return schema
    return {
        name: value.partition("\n\n")[0].replace("\n", " ").replace("``", "`")
        if name == "description" and isinstance(value, str)
        else _worded(value)
        for name, value in schema.items()
    }
