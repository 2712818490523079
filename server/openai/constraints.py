"""Which constraints on the output can be had. None yet: whoever asks for one is told so, and gets no free text."""

from __future__ import annotations

from server.errors import InvalidRequestError
from server.openai.sampling_fields import ConstraintFields
from server.openai.tool_types import NamedToolChoice, ToolChoice

_REFUSED = (
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "structured_outputs",
    "regular_constraint",
    "min_p",
    "use_beam_search",
)


def check_constraints(request: ConstraintFields) -> None:
    """Refuse what would change the output and is not done.

    Raises:
        InvalidRequestError: The request has some of it.
    """
    kind = "text" if request.response_format is None else request.response_format.type
    if kind != "text":
        raise _refusal(f"response_format of type {kind!r}", "response_format")
    for name in _REFUSED:
        if getattr(request, name):
            raise _refusal(name, name)


def check_tool_choice(choice: ToolChoice | None) -> None:
    """Refuse to force a call.

    Raises:
        InvalidRequestError: The output would have to be constrained to one.
    """
    if isinstance(choice, NamedToolChoice) or choice == "required":
        raise _refusal("tool_choice other than 'none' and 'auto'", "tool_choice")


def _refusal(what: str, field: str) -> InvalidRequestError:
    return InvalidRequestError(f"{what} is not supported by this build", "unsupported", field)
