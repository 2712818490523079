"""Hostile chat templates, which stay in their sandbox. Time and memory are another process's to bound."""

from __future__ import annotations

import gc
import json
import signal
import sys
import threading
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import cache
from types import FrameType
from typing import Any

from fuzz.choices import Choices

from server.chat_template import ChatTemplate
from server.errors import InvalidRequestError, field_of
from server.template_renderer import Renderer, RenderError

MAX_CHARACTERS = 20_000
SECONDS = 0.02
KEYS = ("role", "content", "name", "tool_calls", "function", "arguments", "tool_call_id", "reasoning_content", "type")
FORBIDDEN = ("open", "os.", "subprocess.", "socket.", "import", "ctypes.", "shutil.", "sys.")
PIECES = (
    *(
        "{{",
        "}}",
        "{%",
        "%}",
        "{#",
        "#}",
        " ",
        "-",
        "|",
        "(",
        ")",
        "[",
        "]",
        ".",
        ",",
        "'",
        '"',
        "~",
        "+",
        "*",
        ":",
        "=",
    ),
    *(
        "for m in messages",
        "endfor",
        "if m",
        "endif",
        "else",
        "set x = ",
        "endset",
        "macro f(a)",
        "endmacro",
        "call f(1)",
    ),
    *("endcall", "filter upper", "endfilter", "block b", "endblock", "raw", "endraw", "generation", "endgeneration"),
    *("break", "continue", "include 'a'", "import 'a' as b", "extends 'a'", "with x = 1", "endwith", "autoescape true"),
    *("messages", "m", "x", "f", "loop", "self", "namespace", "dict", "range", "cycler", "joiner", "strftime_now"),
    *("raise_exception", "tojson", "join", "map", "select", "groupby", "attr", "format", "replace", "list", "sort"),
    *("__class__", "__globals__", "__init__", "__subclasses__()", "__mro__", "_x", "mro", "gi_frame", "f_globals"),
    *("caller", "loop.index0", "loop.cycle", "loop.changed", "varargs", "kwargs", "super()", "true", "none", "0", "1"),
    *("99", "'a'", "'%s'", "'{0.__class__}'", "m.content", "m['role']", "messages[0]", "messages[::-1]", "is defined"),
)


class InlineTemplate(ChatTemplate):
    """Renders in this process and thread."""

    def __init__(self, source: str) -> None:
        self.source = source
        self._renderer = Renderer(source, MAX_CHARACTERS)

    @property
    def problem(self) -> str:
        return self._renderer.problem

    def knows(self, variable: str) -> bool:
        return variable in self._renderer.variables

    async def render(
        self,
        messages: Sequence[dict[str, Any]],
        *,
        name: str = "messages",
        add_generation_prompt: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> str:
        variables = dict(extra or {}) | {"messages": messages, "tools": tools}
        try:
            return self._renderer.render(variables | {"add_generation_prompt": add_generation_prompt})
        except RenderError as error:
            raise InvalidRequestError(f"{name}: {error}", "chat_template", field_of(name)) from None


class LateError(BaseException):
    """Not to be caught by what is tested."""


def one_input(data: bytes) -> None:
    """Compile and render one."""
    choices = Choices(data)
    under_alarm(lambda: render(Renderer(source(choices), MAX_CHARACTERS), choices))


def under_alarm(work: Callable[[], None]) -> None:
    """Do ``work`` for a while."""
    watch()
    gc.disable()  # what an alarm raises in a callback of the collector's reaches nobody
    signal.setitimer(signal.ITIMER_REAL, SECONDS)
    try:
        state.interruptible = True
        work()
        state.interruptible = False
    except LateError:
        state.interruptible = False
    signal.setitimer(signal.ITIMER_REAL, 0)
    gc.enable()


def source(choices: Choices) -> str:
    """A template that is seldom sound, or one whose parts mostly fit."""
    if choices.byte() & 1:
        return "".join(choices.pick(PIECES) for _ in range(choices.byte() % 40))
    words = [choices.pick(PIECES) for _ in range(choices.byte() % 12)]
    return "{% for m in messages %}" + "".join(f"{{{{ {word} }}}}" for word in words) + "{% endfor %}"


def render(renderer: Renderer, choices: Choices) -> None:
    """A text of bounded length comes out, or an error with a reason; and nothing outside is touched."""
    variables = {
        "messages": _loose(choices, list),
        "tools": _loose(choices, list) if choices.byte() & 1 else None,
        "add_generation_prompt": bool(choices.byte() & 1),
        "bos_token": "<s>",
    }
    state.rendering = True
    try:
        text = renderer.render(variables)
    except RenderError as error:
        assert str(error)
    else:
        assert len(text) <= MAX_CHARACTERS
        text.encode()
    finally:
        state.rendering = False


def _loose(choices: Choices, kind: type) -> Any:
    """A value out of JSON, of the ``kind`` that it has to be where the bytes say so."""
    try:
        value = json.loads(choices.json(KEYS))
    except (ValueError, RecursionError):
        value = None
    if isinstance(value, kind) or choices.byte() & 3 == 0:
        return value
    return [{"role": choices.pick(("user", "system", "assistant", "tool")), "content": value}]


class State(threading.local):
    """What the hook goes by."""

    rendering = interruptible = False


state = State()


@cache
def watch() -> None:
    """Make an alarm end what is late, and any way out of the sandbox a finding."""
    for text in ("{{ [0] | tojson }}{{ strftime_now('%c') }}", "{{ a.b.c }}", "{%"):
        with suppress(RenderError):
            Renderer(text, MAX_CHARACTERS).render({})
    signal.signal(signal.SIGALRM, _late)
    sys.addaudithook(_audit)


def _late(_number: int, _frame: FrameType | None) -> None:
    if state.interruptible:
        raise LateError


def _audit(event: str, _arguments: tuple[Any, ...]) -> None:
    if state.rendering and event.startswith(FORBIDDEN):
        state.rendering = False
        raise EscapeError(event)


class EscapeError(BaseException):
    """A template has reached what it must not."""


SEEDS = [
    *(bytes([1, 1, index]) for index in range(len(PIECES))),
    *(bytes([0, 3, index, PIECES.index("."), index + 1]) for index in range(40, len(PIECES) - 1)),
]
