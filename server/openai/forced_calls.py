"""Calls that a request insists on, as a constraint on its output."""

from __future__ import annotations

from collections.abc import Sequence

from runtime.constraints import Marker, ToolSchema, tool_calls
from runtime.request import Constraint
from server.openai.tool_formats import ToolFormat
from server.openai.tool_types import NamedToolChoice, Tool, ToolChoice
from server.tokenizer import TextCodec


def forced_calls(
    form: ToolFormat, tools: Sequence[Tool], choice: ToolChoice | None, *, parallel: bool, codec: TextCodec
) -> tuple[Constraint, str] | None:
    """What the output has to be, and the name of the field that says so; ``None`` where it may be anything.

    Args:
        form: How the model writes calls.
        tools: All that are offered.
        choice: Which of them has to be called.
        parallel: Any of them may be called several times.
        codec: Of the model; marks that are special tokens in it are no text.
    """
    if isinstance(choice, NamedToolChoice):
        tools = [tool for tool in tools if tool.function.name == choice.function.name]
    elif choice != "required":
        return None
    constraint = tool_calls(
        [ToolSchema(tool.function.name, {"type": "object"} | (tool.function.parameters or {})) for tool in tools],
        begin=_markers(form.begin, form, codec),
        end=_markers(form.end, form, codec),
        separator=form.separator,
        arguments=form.arguments,
        many=parallel and choice == "required",
    )
    return constraint, "tool_choice"


def _markers(text: str, form: ToolFormat, codec: TextCodec) -> list[Marker]:
    """``text`` with the special tokens in it as ids."""
    for mark in form.marks:
        (*ids,) = codec.special_ids_of([mark])
        if ids and mark in text:
            before, _, after = text.partition(mark)
            return [*([before] if before else []), *ids, *_markers(after, form, codec)]
    return [text] if text else []
