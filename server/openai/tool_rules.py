"""What tools have to be."""

from __future__ import annotations

from typing import Any

import msgspec

from server.errors import InvalidRequestError
from server.openai.tool_parsers.call_object import is_name
from server.openai.tool_types import MAX_TOOLS, FunctionDefinition, NamedToolChoice, Tool, ToolChoice

MAX_SCHEMA_BYTES = 2**15
MAX_SCHEMA_DEPTH = 32


def check_tools(tools: list[Tool] | None, choice: ToolChoice | None = None) -> None:
    """Refuse tools that no model could call, or that are too large.

    Raises:
        InvalidRequestError: One of them is, or ``choice`` is none of them.
    """
    tools = tools or []
    if len(tools) > MAX_TOOLS:
        raise _refusal(f"there may be at most {MAX_TOOLS}, not {len(tools)}", "tools")
    for index, tool in enumerate(tools):
        _check_function(tool.function, f"tools[{index}].function")
    if not tools and (choice == "required" or isinstance(choice, NamedToolChoice)):
        raise _refusal("there are no tools to choose from", "tool_choice")
    if isinstance(choice, NamedToolChoice) and all(tool.function.name != choice.function.name for tool in tools):
        raise _refusal("none of the tools has this name", "tool_choice.function.name")


def _check_function(function: FunctionDefinition, place: str) -> None:
    if not is_name(function.name):
        raise _refusal("must be 1 to 64 letters, digits, underscores and dashes", f"{place}.name")
    schema = function.parameters or {}
    if schema.get("type", "object") != "object":
        raise _refusal('must be a JSON schema of {"type": "object"}', f"{place}.parameters")
    if _depth(schema) > MAX_SCHEMA_DEPTH:
        raise _refusal(f"is nested more than {MAX_SCHEMA_DEPTH} deep", f"{place}.parameters")
    size = len(msgspec.json.encode(schema))
    if size > MAX_SCHEMA_BYTES:
        raise _refusal(f"may have at most {MAX_SCHEMA_BYTES} bytes, not {size}", f"{place}.parameters")


def _depth(value: Any) -> int:
    """Objects and arrays within each other."""
    depth, level = 0, [value]
    while level := [one for one in level if isinstance(one, dict | list)]:
        depth += 1
        level = [inner for one in level for inner in (one.values() if isinstance(one, dict) else one)]
    return depth


def _refusal(what: str, place: str) -> InvalidRequestError:
    return InvalidRequestError(f"{place}: {what}", param=place)
