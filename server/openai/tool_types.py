"""Tools that a chat may call, and calls that it has made."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

MAX_TOOLS = 128


class FunctionDefinition(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A function, described to the model."""

    name: Annotated[str, Meta(description="1 to 64 letters, digits, underscores and dashes.")]
    description: str | None = None
    parameters: Annotated[dict[str, Any], Meta(description="JSON schema of an object; up to 32 KiB.")] | None = None
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

    id: str | None = None
    type: Literal["function"] = "function"
    function: FunctionCall


class FunctionDelta(msgspec.Struct, kw_only=True):
    """What is new of a call: its name first, then more of its arguments."""

    name: str | UnsetType = UNSET
    arguments: str


class ToolCallDelta(msgspec.Struct, kw_only=True):
    """What is new of the call number ``index``; the first has its id."""

    index: int
    id: str | UnsetType = UNSET
    type: Literal["function"] | UnsetType = UNSET
    function: FunctionDelta
