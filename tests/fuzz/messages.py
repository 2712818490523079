"""Hostile messages to sound templates."""

from __future__ import annotations

import sys
from functools import cache
from pathlib import Path

from fuzz.choices import Choices
from fuzz.templates import MAX_CHARACTERS, render, under_alarm

from server.template_renderer import Renderer


@cache
def real() -> tuple[Renderer, ...]:
    """Templates in the manner of published ones."""
    sys.path.append(str(Path(__file__).parents[1] / "unit/server"))
    import chat_templates

    tools = (chat_templates.TOOLS_QWEN, chat_templates.TOOLS_LLAMA, chat_templates.TOOLS_MISTRAL)
    return tuple(Renderer(source, MAX_CHARACTERS) for source in (*chat_templates.ALL.values(), *tools))


def one_input(data: bytes) -> None:
    """Render one chat."""
    choices = Choices(data)
    template = choices.pick(real())
    under_alarm(lambda: render(template, choices))


SEEDS = [bytes([index, 11, 3, 13, 2, 0, 5, 1, 1, 5, 3]) for index in range(9)]
