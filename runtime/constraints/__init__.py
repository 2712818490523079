"""Output that has to be a word of a language: constraints are made, checked, compiled, and become masks over tokens."""

from runtime.constraints.check import check
from runtime.constraints.compiler import GrammarCompiler
from runtime.constraints.grammar import Grammar, compile_grammar
from runtime.constraints.masks import MaskRows
from runtime.constraints.specification import ConstraintError, choice, grammar, json_object, json_schema, regex
from runtime.constraints.tool_calls import Marker, ToolSchema, tool_calls
from runtime.constraints.vocabulary import Vocabulary, load_vocabulary

__all__ = [
    "ConstraintError",
    "Grammar",
    "GrammarCompiler",
    "Marker",
    "MaskRows",
    "ToolSchema",
    "Vocabulary",
    "check",
    "choice",
    "compile_grammar",
    "grammar",
    "json_object",
    "json_schema",
    "load_vocabulary",
    "regex",
    "tool_calls",
]
