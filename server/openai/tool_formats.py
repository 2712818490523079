"""The ways in which models write calls of tools, and which of them a model has."""

from __future__ import annotations

import json
import secrets
import string
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from server.chat_template import ChatTemplate
from server.openai.tool_parsers import hermes, llama3, mistral
from server.openai.tool_parsers.events import ToolParser

if TYPE_CHECKING:
    from tokenizers import Tokenizer

_ALPHANUMERIC = string.ascii_letters + string.digits


def _long_id() -> str:
    return f"call_{secrets.token_hex(12)}"


def _short_id() -> str:
    """Mistral's templates take ids of nine letters and digits, and no others."""
    return "".join(secrets.choice(_ALPHANUMERIC) for _ in range(9))


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolFormat:
    """How calls are written and read.

    Attributes:
        marks: Texts, often special tokens, by which the format is known.
        begin: What stands before each call.
        end: What stands behind it.
        separator: What stands between calls.
        arguments: Key of the arguments.
        parser: Makes the scanner of an output, given the tools' names.
        new_id: Makes an id for a call.
    """

    marks: tuple[str, ...]
    begin: str = ""
    end: str = ""
    separator: str
    arguments: str = "arguments"
    parser: Callable[[Collection[str]], ToolParser]
    new_id: Callable[[], str] = _long_id

    def write(self, name: str, arguments: str) -> str:
        """A call; ``arguments`` are JSON."""
        return f'{self.begin}{{"name": {json.dumps(name)}, "{self.arguments}": {arguments}}}{self.end}'


HERMES = ToolFormat(
    marks=(hermes.BEGIN, hermes.END),
    begin=f"{hermes.BEGIN}\n",
    end=f"\n{hermes.END}",
    separator="\n",
    parser=lambda _: hermes.HermesParser(),
)
LLAMA3 = ToolFormat(marks=(llama3.MARK,), separator="; ", arguments="parameters", parser=llama3.Llama3Parser)
MISTRAL = ToolFormat(
    marks=(mistral.MARK, mistral.CALL_ID, mistral.ARGUMENTS),
    begin=f"{mistral.MARK}[",
    end="]",
    separator="",
    parser=lambda _: mistral.MistralParser(),
    new_id=_short_id,
)

TOOL_FORMATS = {
    "qwen25": HERMES,
    "qwen": HERMES,
    "qwen3": HERMES,
    "hermes": HERMES,
    "llama3": LLAMA3,
    "llama3_json": LLAMA3,
    "mistral": MISTRAL,
}
"""By the names that ``--tool_call_parser`` takes: LightLLM's, and those of other servers."""


def choose_format(name: str | None, template: ChatTemplate, tokenizer: Tokenizer) -> ToolFormat | None:
    """The format that the operator names, or the one whose marks the model has.

    The template's word counts before the vocabulary's. A template without tools gets them described in its messages,
    calls included, which is always done in one format.

    Returns:
        ``None`` where that leaves none, or more than one.
    """
    if name is not None:
        return TOOL_FORMATS[name]
    if not template.knows("tools"):
        return HERMES
    added = [token.content for token in tokenizer.get_added_tokens_decoder().values()]
    for has in (template.source.__contains__, added.__contains__):
        found = [form for form in (HERMES, LLAMA3, MISTRAL) if has(form.marks[0])]
        if found:
            return found[0] if len(found) == 1 else None
    return None


@dataclass(frozen=True, slots=True)
class ToolUse:
    """What an output may call.

    Attributes:
        form: How the model writes calls.
        names: Of the tools.
        parallel: It may have more than one call.
    """

    form: ToolFormat
    names: frozenset[str]
    parallel: bool
