"""Calls of tools as a constraint: for requests whose answer has to be one."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from runtime.constraints.specification import COMPACT, grammar, quoted
from runtime.request import Constraint

Marker = str | int
"""Text, or the id of a special token, which no text can stand for."""


@dataclass(frozen=True, slots=True)
class ToolSchema:
    """A tool that may be called.

    Attributes:
        name: As the model has to write it.
        parameters: JSON schema of its arguments, an object; references in it are to its own parts.
    """

    name: str
    parameters: Mapping[str, Any] = field(default_factory=lambda: {"type": "object"})


def tool_calls(
    tools: Sequence[ToolSchema],
    *,
    begin: Sequence[Marker] = (),
    end: Sequence[Marker] = (),
    separator: str = "",
    arguments: str = "arguments",
    many: bool = False,
) -> Constraint:
    """A JSON object with the name of one of ``tools`` and its arguments, and nothing else.

    Args:
        tools: At least one.
        begin: What stands before each call.
        end: What stands after it.
        separator: What stands between calls.
        arguments: Key of the arguments.
        many: Let the model go on with further calls.
    """
    calls = " | ".join(f"call_{index}" for index in range(len(tools)))
    lines = [
        f"start: call ({quoted(separator)} call)*" if many else "start: call",
        " ".join(["call:", *map(_marker, begin), f"({calls})", *map(_marker, end)]),
    ]
    for index, tool in enumerate(tools):
        head = f'{{"name": {json.dumps(tool.name, ensure_ascii=False)}, "{arguments}": '
        schema = {"x-guidance": json.loads(COMPACT), **tool.parameters}
        lines += [
            f"call_{index}: {quoted(head)} arguments_{index} {quoted('}')}",
            f"arguments_{index}: %json {json.dumps(schema)}",
        ]
    return grammar("\n".join(lines))


def _marker(marker: Marker) -> str:
    return f"<[{marker}]>" if isinstance(marker, int) else quoted(marker)
