"""Compiles and renders one chat template in this process, which a hostile one can fill or hold up."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jinja2 import Template, TemplateError, meta

from server.template_environment import ChatEnvironment

_MAX_REASON = 500
"""Characters of a template's own words that are passed on."""


class RenderError(Exception):
    """Nothing comes of it; the message is for whoever sent the chat."""


class Renderer:
    """A compiled template.

    Args:
        source: Jinja source.
        max_characters: Longest text that may come out.

    Attributes:
        problem: Why nothing can be rendered; empty where all is well.
        variables: Names that the template looks at.
    """

    def __init__(self, source: str, max_characters: int) -> None:
        self._max_characters = max_characters
        self._template: Template | None = None
        self.variables: frozenset[str] = frozenset()
        self.problem = ""
        try:
            environment = ChatEnvironment()
            self._template = environment.from_string(source)
            self.variables = frozenset(meta.find_undeclared_variables(environment.parse(source)))
        except Exception as error:
            # NOTE: besides Jinja's own errors, Python's compiler has its say on what Jinja makes of the source.
            self.problem = f"this model's chat template cannot be compiled ({_reason(error)})"

    def render(self, variables: Mapping[str, Any]) -> str:
        """The text of a chat.

        Raises:
            RenderError: There is no template, it refuses ``variables``, or writes too much for them.
        """
        if self._template is None:
            raise RenderError(self.problem)
        parts, size = [], 0
        try:
            for part in self._template.generate(variables):
                parts.append(part)
                size += len(part)
                if size > self._max_characters:
                    break
            text = "".join(parts)
            # NOTE: a template can write half of a surrogate pair, which is no text to a tokenizer.
            text.encode()
        except Exception as error:
            # NOTE: a template may do anything to data that it does not expect, so any exception may come.
            raise RenderError(f"the chat template refuses it: {_reason(error)}") from None
        if size > self._max_characters:
            raise RenderError(f"the chat template makes more than {self._max_characters} characters of it")
        return text


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())[:_MAX_REASON]
    return words if words and isinstance(error, TemplateError) else f"{type(error).__name__}: {words}"
