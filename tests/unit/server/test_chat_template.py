"""Chat templates: what transformers makes of them, and that none of them can hold the server up."""

from __future__ import annotations

import asyncio
import threading
from pathlib import Path
from typing import Any

import chat_templates
import pytest

from server.chat_template import RENDER_THREADS, ChatTemplate
from server.errors import InvalidRequestError, UnavailableError

SPECIAL_TOKENS = {"bos_token": "<s>", "eos_token": "</s>"}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": " Is 1 < 2 & \"2\" > 'é'? \n"},
    {"role": "assistant", "content": "Yes.\n\nIt is {{ so }} {% if %}."},
    {"role": "user", "content": "日本語 🦅"},
]
SYSTEM: dict[str, Any] = {"role": "system", "content": "Be brief."}
TOOLS = [{"type": "function", "function": {"name": "find", "description": "<b>Ü</b>", "parameters": {}}}]


def render(source: str | None, messages: list[dict[str, Any]] = TURNS, **options: Any) -> str:
    limits = {name: options.pop(name) for name in ("seconds", "max_characters") if name in options}
    template = ChatTemplate(source, SPECIAL_TOKENS, **limits)
    try:
        return asyncio.run(template.render(messages, **options))
    finally:
        template.close()


def refusal(source: str | None, messages: list[dict[str, Any]] = TURNS, **options: Any) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        render(source, messages, **options)
    assert caught.value.error_code == "chat_template"
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
        assert "System role not supported" in refusal(source, messages, **options).message
        return
    (expected,), _ = reference.render_jinja_template(
        conversations=[messages], chat_template=source, **options, **SPECIAL_TOKENS
    )
    assert render(source, messages, **options) == expected


def test_a_templates_own_refusal_is_passed_on() -> None:
    error = refusal(chat_templates.GEMMA, [SYSTEM], name="chat[3]")
    assert error.message == "chat[3]: the chat template refuses it: System role not supported"
    assert error.param == "chat"


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
    error = refusal(source)
    assert error.message.startswith("messages: the chat template refuses it: ")
    assert len(error.message) < 600
    assert "\n" not in error.message


ENDLESS = (
    "{% for a in range(9999) %}{% for b in range(9999) %}{% for c in range(9999) %}{% endfor %}{% endfor %}{% endfor %}"
)


@pytest.mark.parametrize(
    "source",
    [
        ENDLESS,
        "{% for a in range(99999) %}{% for b in messages * 9999 %}x{% endfor %}{% endfor %}",
        "{% set r = range(99999) %}{% for a in r %}{% for b in r %}{% set x = b + 1 %}{% endfor %}{% endfor %}",
        "{% macro m(n) %}{% for a in range(99) if n %}{{ m(n - 1) }}{% endfor %}{% endmacro %}{{ m(9) }}",
        "{% set n = namespace(a=0) %}{% for a in range(99999) %}{% for b in messages * 999 %}{% set n.a = b.role %}"
        "{% endfor %}{% endfor %}",
    ],
)
def test_a_template_without_end_is_stopped(source: str) -> None:
    template = ChatTemplate(source, seconds=0.1)
    with pytest.raises(InvalidRequestError, match=r"longer than 0\.1 s"):
        asyncio.run(template.render(TURNS))
    template.close()
    for thread in template._pool._threads:
        thread.join(10)
        assert not thread.is_alive()


def test_a_long_text_is_cut_off() -> None:
    source = "{% for a in range(99999) %}{{ messages[0].content }}{% endfor %}"
    assert "more than 1000 characters" in refusal(source, max_characters=1000).message


def test_a_chat_whose_turn_never_comes_can_try_again() -> None:
    template, free = ChatTemplate(chat_templates.CHATML, seconds=0.1), threading.Event()
    for _ in range(RENDER_THREADS):
        template._pool.submit(free.wait, 30)
    with pytest.raises(UnavailableError, match="too many chats"):
        asyncio.run(template.render(TURNS))
    free.set()
    assert asyncio.run(template.render(TURNS[:1])).startswith("<|im_start|>user")
    template.close()


def test_without_a_template_the_text_is_asked_for() -> None:
    assert refusal(None).message == "messages: this model has no chat template; send the chat as one text"


@pytest.mark.parametrize(
    "source", ["{% if %}", "{{ x", "{% generation %}", "{% for a in b %}" * 40 + "{% endfor %}" * 40]
)
def test_a_broken_template_breaks_chats_alone(source: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "chat_template.jinja").write_text(source)
    template = ChatTemplate.load(tmp_path, {})
    assert "cannot be compiled" in template.problem
    assert "cannot be compiled" in caplog.text
    assert "send the chat as one text" in refusal(source).message


def test_a_bundle_may_be_without_a_template(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    assert ChatTemplate.load(tmp_path, {}).problem == "this model has no chat template"
    assert caplog.text == ""
