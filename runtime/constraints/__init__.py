"""Output that has to be a word of a language: constraints are made, checked, compiled, and become masks over tokens.

What is named here takes no vocabulary and no NumPy: the HTTP workers need no more. The engine's side is in
``compiler``, ``compiled_grammar``, ``masks`` and ``vocabulary``.
"""

from runtime.constraints.check import check
from runtime.constraints.specification import ConstraintError, choice, grammar, json_object, json_schema, regex
from runtime.constraints.tool_calls import Marker, ToolSchema, tool_calls

__all__ = [
    "ConstraintError",
    "Marker",
    "ToolSchema",
    "check",
    "choice",
    "grammar",
    "json_object",
    "json_schema",
    "regex",
    "tool_calls",
]
