"""Chat templates: what transformers makes of them, and that none of them can hold the server up."""

from __future__ import annotations

import asyncio
import io
import re
import resource
import threading
from pathlib import Path
from typing import Any

import chat_templates
import msgspec
import pytest

from server.chat_template import RENDER_THREADS, ChatTemplate
from server.errors import InvalidRequestError, UnavailableError
from server.template_process import HEADER, Compiled, Job, Rendered, serve, write
from server.template_renderer import Renderer, RenderError

SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": " Is 1 < 2 & \"2\" > 'é'? \n"},
    {"role": "assistant", "content": "Yes.\n\nIt is {{ so }} {% if %}."},
    {"role": "user", "content": "日本語 🦅"},
]
SYSTEM: dict[str, Any] = {"role": "system", "content": "Be brief."}
TOOLS = [{"type": "function", "function": {"name": "find", "description": "<b>Ü</b>", "parameters": {}}}]


def render(source: str, messages: list[dict[str, Any]] = TURNS, **variables: Any) -> str:
    """In this process."""
    given = {"messages": messages, "tools": None, "add_generation_prompt": False} | variables
    return Renderer(source, 10_000).render(SPECIAL_TOKENS | given)


def refusal(source: str | None, messages: list[dict[str, Any]] = TURNS, **limits: Any) -> InvalidRequestError:
    """In a process of its own."""
    template, name = ChatTemplate(source, SPECIAL_TOKENS, **limits), "chat[3]"
    try:
        with pytest.raises(InvalidRequestError) as caught:
            asyncio.run(template.render(messages, name=name))
    finally:
        template.close()
    assert caught.value.error_code == "chat_template"
    assert caught.value.param == "chat"
    return caught.value


@pytest.mark.parametrize("tools", [None, TOOLS])
@pytest.mark.parametrize("add_generation_prompt", [False, True])
@pytest.mark.parametrize("messages", [TURNS[:1], TURNS, [SYSTEM, *TURNS]], ids=["one", "three", "system"])
@pytest.mark.parametrize("name", chat_templates.ALL)
def test_texts_are_those_of_transformers(
    name: str,
    messages: list[dict[str, Any]],
    add_generation_prompt: bool,
    tools: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
    reference = pytest.importorskip("transformers.utils.chat_template_utils")
    options = {"add_generation_prompt": add_generation_prompt, "tools": tools}
    source = chat_templates.ALL[name]
    if name == "gemma" and messages[0] is SYSTEM:
        with pytest.raises(RenderError, match="System role not supported"):
            render(source, messages, **options)
        return
    (expected,), _ = reference.render_jinja_template(
        conversations=[messages], chat_template=source, **options, **SPECIAL_TOKENS
    )
    assert render(source, messages, **options) == expected


def test_a_process_says_the_same() -> None:
    template = ChatTemplate(chat_templates.LLAMA3, SPECIAL_TOKENS)
    assert template.knows("tools")
    text = asyncio.run(template.render(TURNS, tools=TOOLS, extra={"date_string": "1 May"}))
    assert text == render(chat_templates.LLAMA3, tools=TOOLS, date_string="1 May")
    template.close()


def test_a_templates_own_refusal_is_passed_on() -> None:
    error = refusal(chat_templates.GEMMA, [SYSTEM])
    assert error.message == "chat[3]: the chat template refuses it: System role not supported"


@pytest.mark.parametrize(
    "source",
    [
        "{{ messages[9].content.text }}",
        "{{ messages + 1 }}",
        "{{ 1 / 0 }}",
        "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}",
        "{{ messages.append(1) }}",
        "{{ ''.__class__.__mro__[1].__subclasses__() }}",
        "{{ namespace(__class__=1) }}",
        "{% set n = namespace() %}{% set n._x = 1 %}",
        "{% include 'other' %}",
        "{{ '\\ud800' }}",
        "{{ lipsum(n=99999999) }}",
    ],
)
def test_whatever_goes_wrong_inside_is_a_refusal(source: str) -> None:
    with pytest.raises(RenderError) as caught:
        render(source)
    message = str(caught.value)
    assert message.startswith("the chat template refuses it: ")
    assert len(message) < 600
    assert "\n" not in message


@pytest.mark.parametrize(
    "source",
    [
        "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}"
        "{% endfor %}",
        "{% set x = 9 ** (9 ** (messages | length + 5)) %}",
    ],
)
def test_a_template_without_end_is_stopped_and_the_next_chat_rendered(source: str) -> None:
    template = ChatTemplate("{% if messages[1:] %}" + source + "{% endif %}done", seconds=0.5)
    with pytest.raises(InvalidRequestError, match=r"longer than 0\.5 s"):
        asyncio.run(template.render(TURNS))
    template._seconds = 100.0
    assert asyncio.run(template.render(TURNS[:1])) == "done"
    template.close()


@pytest.mark.parametrize(
    "source",
    [
        "{{ 'a' * 10 ** messages | length ** 2 }}",
        "{{ messages[0].content.ljust(10 ** 10) }}",
        "{% set n = namespace(a='aaaaaaaa') %}{% for i in range(99) %}{% set n.a = n.a ~ n.a %}{% endfor %}{{ n.a }}",
        "{% set n = namespace(a=[0]) %}{% for i in range(99) %}{% set n.a = n.a + n.a %}{% endfor %}{{ n.a }}",
    ],
)
def test_memory_is_bounded(source: str) -> None:
    turns = TURNS * 2
    began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    message = refusal(source, turns, seconds=100.0).message
    assert "MemoryError" in message or "MiB" in message or "more than" in message
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - began < 100_000


def test_a_bomb_that_goes_off_while_compiling_breaks_chats_alone() -> None:
    template = ChatTemplate("{{ 'a' * 10 ** 10 }}")
    assert "memory" in template.problem.lower() or refusal(template.source)
    template.close()


def test_the_process_answers_until_its_input_ends() -> None:
    requests, answers = io.BytesIO(), io.BytesIO()
    for message in (Job("{{ a }}{{ b.c }}", 5), {"a": "x"}, {"a": 1, "b": {"c": 2}}, {"a": "long", "b": {"c": "er"}}):
        write(requests, message)
    requests.seek(0)
    serve(requests, answers)
    answers.seek(0)
    frames = []
    while header := answers.read(HEADER.size):
        frames.append(answers.read(HEADER.unpack(header)[0]))
    assert msgspec.json.decode(frames[0], type=Compiled) == Compiled("", ["a", "b"])
    said = [msgspec.json.decode(frame, type=Rendered) for frame in frames[1:]]
    assert said[1] == Rendered("12")
    assert ["undefined" in said[0].problem, "more than 5 characters" in said[2].problem] == [True, True]


def test_no_secret_and_no_file_is_within_reach(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_SECRET", "x")
    template = ChatTemplate("{{ messages[0].content }}")
    assert template._first is not None
    pid = asyncio.run(_pid_of(template))
    environment = Path(f"/proc/{pid}/environ").read_bytes()
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert b"PEREGRINE_SECRET" not in environment
    assert re.search(r"Max open files\s+0\s+0", limits)
    assert re.search(r"Max processes\s+0\s+0", limits)
    template.close()


async def _pid_of(template: ChatTemplate) -> int:
    await template.render(TURNS[:1])
    return template._idle[0]._process.pid


def test_a_long_text_is_cut_off() -> None:
    source = "{% for a in range(99999) %}{{ messages[0].content }}{% endfor %}"
    assert "more than 1000 characters" in refusal(source, max_characters=1000).message


def test_a_chat_whose_turn_never_comes_can_try_again() -> None:
    template, free = ChatTemplate(chat_templates.CHATML, seconds=0.1), threading.Event()
    assert template.problem == ""
    for _ in range(RENDER_THREADS):
        template._pool.submit(free.wait, 30)
    with pytest.raises(UnavailableError, match="too many chats"):
        asyncio.run(template.render(TURNS))
    free.set()
    template._seconds = 100.0
    assert asyncio.run(template.render(TURNS[:1])).startswith("<|im_start|>user")
    template.close()


def test_without_a_template_the_text_is_asked_for() -> None:
    assert refusal(None).message == "chat[3]: this model has no chat template; send the chat as one text"


@pytest.mark.parametrize("source", ["{% if %}", "{% for a in b %}" * 40 + "{% endfor %}" * 40])
def test_a_broken_template_breaks_chats_alone(source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "chat_template.jinja").write_text(source)
    template = ChatTemplate.load(tmp_path, {})
    assert "cannot be compiled" in template.problem
    assert "cannot be compiled" in caplog.text
    template.close()


def test_a_bundle_may_be_without_a_template(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert ChatTemplate.load(tmp_path, {}).problem == "this model has no chat template"
    assert caplog.text == ""
