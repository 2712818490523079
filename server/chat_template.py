"""The model's chat template: from messages to the text that the model was trained on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from jinja2 import Template, TemplateError, meta

from runtime.bundle.bundle import CHAT_TEMPLATE_FILE
from server.errors import InvalidRequestError, UnavailableError, field_of
from server.template_environment import ChatEnvironment, RenderTimeoutError, check_deadline, deadline

logger = logging.getLogger("peregrine.chat")

RENDER_SECONDS = 5.0
MAX_RENDERED_CHARACTERS = 8 * 2**20
RENDER_THREADS = 2

_MAX_REASON = 500
"""Characters of a template's own words that are passed on."""

ERROR_CODE = "chat_template"

Message = dict[str, Any]
"""``role``, ``content`` and whatever else the template knows; plain data as it comes from JSON."""


class ChatTemplate:
    """Renders messages off the event loop, within bounds of time and size.

    The sandbox keeps a template away from the interpreter. It is part of the model all the same: one made to
    exhaust memory, or to compute numbers of a billion digits, can do so.

    Args:
        source: Jinja source, or ``None`` where the model has none.
        special_tokens: Texts that the template may ask for by name, such as ``bos_token``.
        seconds: Time to render one chat, waiting for a thread included.
        max_characters: Longest text that may come out.

    Attributes:
        source: Jinja source; empty where there is none.
        problem: Why nothing can be rendered; empty where all is well.
    """

    def __init__(
        self,
        source: str | None,
        special_tokens: Mapping[str, str] | None = None,
        *,
        seconds: float = RENDER_SECONDS,
        max_characters: int = MAX_RENDERED_CHARACTERS,
    ) -> None:
        self.source = source or ""
        self._template, self._variables, self.problem = _compile(source)
        self._special_tokens = dict(special_tokens or {})
        self._seconds = seconds
        self._max_characters = max_characters
        self._pool = ThreadPoolExecutor(RENDER_THREADS, thread_name_prefix="render")

    @classmethod
    def load(cls, bundle: Path, special_tokens: Mapping[str, str]) -> ChatTemplate:
        """The template of a bundle. One that cannot be used has a ``problem``: all but chats works without it."""
        path = bundle / CHAT_TEMPLATE_FILE
        source = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
        template = cls(source, special_tokens)
        if source is not None and template.problem:
            logger.warning("chats cannot be rendered: %s", template.problem)
        return template

    def knows(self, variable: str) -> bool:
        """Whether the template looks at ``variable``."""
        return variable in self._variables

    async def render(
        self,
        messages: Sequence[Message],
        *,
        name: str = "messages",
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        """The text of a chat.

        Args:
            messages: The chat; the template judges the roles.
            name: Of the request's field, for error messages.
            add_generation_prompt: End with the beginning of an answer.
            tools: JSON schemas of functions that the model may call.
            extra: More variables, under names that have no meaning yet.

        Raises:
            InvalidRequestError: There is no template, it refuses the messages, or it takes too long or writes too
                much for them.
            UnavailableError: So much is being rendered that it was never this chat's turn.
        """
        if self._template is None:
            raise InvalidRequestError(f"{name}: {self.problem}; send the chat as one text", ERROR_CODE, field_of(name))
        variables = (
            self._special_tokens
            | dict(extra or {})
            | {
                "messages": list(messages),
                "tools": None if tools is None else list(tools),
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
            }
        )
        end = time.monotonic() + self._seconds
        job = self._pool.submit(self._render, self._template, variables, end)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job), self._seconds)
        except (TimeoutError, RenderTimeoutError):
            if job.cancelled():
                raise UnavailableError("too many chats are being rendered") from None
            reason = f"the chat template takes longer than {self._seconds:g} s for it"
        except _TooLongError:
            reason = f"the chat template makes more than {self._max_characters} characters of it"
        except Exception as error:
            # NOTE: a template may do anything to data that it does not expect, so any exception may come.
            reason = f"the chat template refuses it: {_reason(error)}"
        raise InvalidRequestError(f"{name}: {reason}", ERROR_CODE, field_of(name))

    def close(self) -> None:
        """Stop the threads once they are idle."""
        self._pool.shutdown(wait=False, cancel_futures=True)

    def _render(self, template: Template, variables: dict[str, Any], end: float) -> str:
        parts, size = [], 0
        with deadline(end):
            for part in template.generate(variables):
                check_deadline()
                parts.append(part)
                size += len(part)
                if size > self._max_characters:
                    raise _TooLongError
        text = "".join(parts)
        # NOTE: a template can write half of a surrogate pair, which is no text to a tokenizer.
        text.encode()
        return text


class _TooLongError(Exception):
    pass


def _compile(source: str | None) -> tuple[Template | None, set[str], str]:
    """The template and the variables it looks at, or why there is none."""
    if source is None:
        return None, set(), "this model has no chat template"
    try:
        environment = ChatEnvironment()
        template = environment.from_string(source)
        return template, meta.find_undeclared_variables(environment.parse(source)), ""
    except Exception as error:
        # NOTE: besides Jinja's own errors, Python's compiler has its say on what Jinja makes of the source.
        return None, set(), f"this model's chat template cannot be compiled ({_reason(error)})"


def _reason(error: Exception) -> str:
    words = " ".join(str(error).split())[:_MAX_REASON]
    return words if words and isinstance(error, TemplateError) else f"{type(error).__name__}: {words}"
