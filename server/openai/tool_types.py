"""Tools that a chat may call, and calls that it has made."""

from __future__ import annotations

from typing import Any, Literal

import msgspec


class FunctionDefinition(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A function, described to the model."""

    name: str
    description: str | None = None
    parameters: dict[str, Any] | None = None
    strict: bool | None = None


class Tool(msgspec.Struct, kw_only=True):
    """A tool."""

    type: Literal["function"]
    function: FunctionDefinition


class FunctionName(msgspec.Struct, kw_only=True):
    """A function, named."""

    name: str


class NamedToolChoice(msgspec.Struct, kw_only=True):
    """The one tool to call."""

    type: Literal["function"]
    function: FunctionName


ToolChoice = Literal["none", "auto", "required"] | NamedToolChoice


class FunctionCall(msgspec.Struct, kw_only=True):
    """A call; ``arguments`` is JSON in a string."""

    name: str
    arguments: str


class ToolCall(msgspec.Struct, kw_only=True):
    """A call that an assistant has made."""

    function: FunctionCall
    id: str | None = None
    type: Literal["function"] = "function"
