"""The model's chat template: from messages to the text that the model was trained on."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

from runtime.bundle.bundle import CHAT_TEMPLATE_FILE
from server.errors import InvalidRequestError, UnavailableError, field_of
from server.template_client import DiedError, LateError, TemplateProcess
from server.template_process import MEMORY_BYTES, Compiled, Job
from server.template_renderer import RenderError

logger = logging.getLogger("peregrine.chat")

START_SECONDS = 20.0
RENDER_SECONDS = 5.0
MAX_RENDERED_CHARACTERS = 8 * 2**20
RENDER_THREADS = 2

ERROR_CODE = "chat_template"

Message = dict[str, Any]
"""``role``, ``content`` and whatever else the template knows; plain data as it comes from JSON."""


class ChatTemplate:
    """Renders messages in processes of their own, within bounds of time, size and memory.

    There is one process for each thread that ever renders at the same time as another; one that is late, or that the
    template has filled, is ended, and another one takes its place.

    Args:
        source: Jinja source, or ``None`` where the model has none.
        special_tokens: Texts that the template may ask for by name, such as ``bos_token``.
        seconds: Time to render one chat, waiting for a thread included.
        max_characters: Longest text that may come out.

    Attributes:
        source: Jinja source; empty where there is none.
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
        self._job = Job(self.source, max_characters)
        self._special_tokens = dict(special_tokens or {})
        self._seconds = seconds
        self._max_characters = max_characters
        self._pool = ThreadPoolExecutor(RENDER_THREADS, thread_name_prefix="render")
        # NOTE: it compiles while the rest of the server is being put together; ``_compiled`` waits for it.
        self._first = None if source is None else TemplateProcess(self._job)
        self._idle: list[TemplateProcess] = []
        self._closed = False

    @classmethod
    def load(cls, bundle: Path, special_tokens: Mapping[str, str]) -> ChatTemplate:
        """The template of a bundle. One that cannot be used has a ``problem``: all but chats works without it."""
        path = bundle / CHAT_TEMPLATE_FILE
        source = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else None
        return cls(source, special_tokens)

    @property
    def problem(self) -> str:
        """Why nothing can be rendered; empty where all is well."""
        return self._compiled.problem

    def knows(self, variable: str) -> bool:
        """Whether the template looks at ``variable``."""
        return variable in self._compiled.variables

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
            InvalidRequestError: There is no template, it refuses the messages, or it takes too long, writes too much
                or needs too much memory for them.
            UnavailableError: So much is being rendered that it was never this chat's turn.
        """
        if self.problem:
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
        job = self._pool.submit(self._render, variables, time.monotonic() + self._seconds)
        try:
            return await asyncio.wait_for(asyncio.wrap_future(job), self._seconds)
        except (TimeoutError, LateError):
            if job.cancelled():
                raise UnavailableError("too many chats are being rendered") from None
            reason = f"the chat template takes longer than {self._seconds:g} s for it"
        except DiedError:
            reason = f"the chat template needs more than {MEMORY_BYTES >> 20} MiB for it"
        except RenderError as error:
            reason = str(error)
        raise InvalidRequestError(f"{name}: {reason}", ERROR_CODE, field_of(name))

    def close(self) -> None:
        """Stop the threads once they are idle, and the processes."""
        self._closed = True
        self._pool.shutdown(wait=False, cancel_futures=True)
        for process in (*self._idle, *([self._first] if self._first else [])):
            process.close()

    @cached_property
    def _compiled(self) -> Compiled:
        if self._first is None:
            return Compiled("this model has no chat template", [])
        try:
            compiled = self._first.compiled(time.monotonic() + START_SECONDS)
            self._idle.append(self._first)
        except (LateError, DiedError) as error:
            self._first.close()
            what = "time" if isinstance(error, LateError) else "memory"
            compiled = Compiled(f"this model's chat template cannot be compiled (it takes too much {what})", [])
        if compiled.problem:
            logger.warning("chats cannot be rendered: %s", compiled.problem)
        return compiled

    def _render(self, variables: dict[str, Any], end: float) -> str:
        process = self._take()
        try:
            rendered = process.render(variables, end)
        except BaseException:
            process.close()
            raise
        self._idle.append(process)
        if self._closed:
            self.close()
        if rendered.problem:
            raise RenderError(rendered.problem)
        return rendered.text

    def _take(self) -> TemplateProcess:
        with suppress(IndexError):
            return self._idle.pop()
        process = TemplateProcess(self._job)
        try:
            process.compiled(time.monotonic() + START_SECONDS)
        except BaseException:
            process.close()
            raise
        return process
