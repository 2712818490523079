"""The pages in a browser, on a whole server with a scripted engine. Skipped where there is no Chromium."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from browser import Browser, Page, find_browser
from openai_calls import with_template
from server_process import ServerProcess, wait_until
from toy_tokenizer import VOCAB_SIZE, write_toy_bundle

from runtime.executors.scripted import Script

EXECUTABLE = find_browser()
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="NO BROWSER: install chromium to test the pages")

TOKENS = "document.querySelectorAll('.token').length"
RUNS = "document.body.classList.contains('running')"
Serve = Callable[..., ServerProcess]


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with Browser(str(EXECUTABLE), tmp_path_factory.mktemp("profile")) as browser:
        yield browser


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server that chats, slowly enough to be stopped."""
    bundle = write_toy_bundle(tmp_path_factory.mktemp("bundle"))
    with_template(bundle)
    with serving(bundle, step_seconds=0.01) as server:
        yield server.wait_until_serving()


def serving(bundle: Path, key: str = "", **script: float) -> ServerProcess:
    scripted = Script(vocab_size=VOCAB_SIZE, first_token=98, max_sequence_tokens=4096, **script)  # type: ignore[arg-type]
    (bundle / "script.json").write_bytes(msgspec.json.encode(scripted))
    flags = ("--executor", "scripted", "--port", "0", "--model_name", "kestrel")
    return ServerProcess(str(bundle), *flags, **({"PEREGRINE_API_KEYS": key} if key else {}))


def open_ui(page: Page, server: ServerProcess, path: str = "/ui") -> Page:
    page.open(f"http://127.0.0.1:{server.port}{path}")
    if path == "/ui":
        page.wait_for("document.getElementById('model').textContent === 'kestrel'")
    return page


def check_quiet(page: Page, server: ServerProcess) -> None:
    """Nothing was said on the console, and nobody else was asked for anything."""
    assert page.problems == []
    assert {url.split("/")[2] for url in page.requests} == {f"127.0.0.1:{server.port}"}


def load(server: ServerProcess) -> float:
    return float(json.loads(server.request("GET", "/token_load")[2])["current_load"])


@pytest.mark.parametrize("dark", [False, True])
def test_an_answer_arrives_and_is_stopped(browser: Browser, server: ServerProcess, dark: bool) -> None:
    page = open_ui(Page(browser, dark=dark), server)
    page.evaluate("document.querySelector('[name=max_tokens]').value = 3000")
    page.type("hello")
    page.press("Enter")
    page.wait_for(f"{TOKENS} > 5")
    page.wait_for("document.querySelectorAll('.plot output')[1].value === '1'")
    assert load(server) > 0
    page.press("Escape")
    wait_until(lambda: load(server) == 0, "the request is not freed")
    page.wait_for(f"!{RUNS}")
    page.wait_for("document.querySelectorAll('.plot output')[1].value === '0'")
    assert page.text("#status").startswith("Stopped.")
    assert page.evaluate(TOKENS) < 3000
    light = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert (sum(map(int, light[4:-1].split(","))) < 3 * 128) == dark
    check_quiet(page, server)


def test_a_chat_goes_on(browser: Browser, server: ServerProcess) -> None:
    page = open_ui(Page(browser), server)
    page.evaluate("document.querySelector('[name=max_tokens]').value = 8")
    for turn in (1, 2):
        page.click("#message")
        page.type(f"turn {turn}")
        page.click("#chat [data-run]")
        page.wait_for(f"document.querySelectorAll('article').length === {2 * turn} && !{RUNS}")
    page.wait_for("document.getElementById('status').textContent.includes('ended by length')")
    assert page.evaluate("document.activeElement.id") == "message"
    said = page.evaluate("[...document.querySelectorAll('article.user .text')].map((each) => each.textContent)")
    assert said == ["turn 1", "turn 2"]
    page.click("#retry")
    page.wait_for(f"!{RUNS} && document.querySelectorAll('article').length === 4")
    page.click("#clear")
    assert page.evaluate("document.querySelectorAll('article').length") == 0
    check_quiet(page, server)


def test_tokens_tell_what_else_was_likely(browser: Browser, server: ServerProcess) -> None:
    page = open_ui(Page(browser), server)
    page.evaluate("document.querySelector('[name=max_tokens]').value = 40")
    page.click("#tab-completion")
    page.click("#prompt")
    page.press("Control+Enter")
    page.wait_for(f"{TOKENS} > 3 && !{RUNS}")
    assert page.evaluate("document.getElementById('alternatives').hidden")
    page.hover(".token:nth-child(2)")
    page.wait_for("document.querySelectorAll('#alternatives .chosen').length")
    assert page.evaluate("document.querySelectorAll('#alternatives > div').length") >= 5
    before = page.text("#alternatives")
    page.evaluate("document.querySelector('#text [tabindex]').focus()")
    page.press("ArrowRight")
    assert page.evaluate("document.querySelector('.current') === document.querySelectorAll('.token')[2]")
    assert page.text("#alternatives") != before
    page.press("Escape")
    assert page.evaluate("document.getElementById('alternatives').hidden")
    check_quiet(page, server)


def test_output_is_text_and_never_markup(browser: Browser, server: ServerProcess) -> None:
    page = open_ui(Page(browser), server)
    page.evaluate("document.querySelector('[name=max_tokens]').value = 1")
    page.type("<img src=x onerror=alert(1)>")
    page.press("Enter")
    page.wait_for(f"document.querySelectorAll('article').length === 2 && !{RUNS}")
    assert page.text("article.user .text") == "<img src=x onerror=alert(1)>"
    assert page.evaluate("document.querySelectorAll('main img').length") == 0
    check_quiet(page, server)


def test_a_refusal_is_told(browser: Browser, server: ServerProcess) -> None:
    page = open_ui(Page(browser), server)
    page.evaluate("document.querySelector('[name=max_tokens]').value = 100000")
    page.type("too long")
    page.press("Enter")
    page.wait_for("document.getElementById('status').classList.contains('bad')")
    assert "4096" in page.text("#status")
    assert page.evaluate("document.getElementById('message').value") == "too long"


def test_everything_is_in_reach_at_the_width_of_a_phone(browser: Browser, server: ServerProcess) -> None:
    for path in ("/ui", "/docs"):
        page = open_ui(Page(browser, 360, 740), server, path)
        page.wait_for("document.querySelector('.card')")
        assert page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_api_is_to_be_read(browser: Browser, server: ServerProcess) -> None:
    page = open_ui(Page(browser), server, "/docs")
    page.wait_for("document.querySelectorAll('main section').length > 20")
    assert f"curl http://127.0.0.1:{server.port}/generate -H" in page.text("#post-generate")
    page.click("#post-v1-chat-completions summary")
    page.wait_for("document.querySelector('#post-v1-chat-completions details dl')")
    check_quiet(page, server)


def test_a_model_without_a_chat_template_completes(browser: Browser, tmp_path: Path) -> None:
    with serving(write_toy_bundle(tmp_path / "bundle")) as server:
        page = open_ui(Page(browser), server.wait_until_serving())
        page.wait_for("document.getElementById('tab-completion').ariaSelected === 'true'")
        assert "no chat template" in page.text("#note")
        assert page.evaluate("document.getElementById('tab-chat').disabled")
        check_quiet(page, server)


def test_a_reward_model_scores(browser: Browser, tmp_path: Path) -> None:
    bundle = write_toy_bundle(tmp_path / "bundle")
    with_template(bundle)
    with serving(bundle, scores=True) as server:
        page = open_ui(Page(browser), server.wait_until_serving())
        page.wait_for("!document.getElementById('score').hidden")
        page.click("#score [data-run]")
        page.wait_for("document.querySelectorAll('#scores li').length === 1")
        float(page.text("#scores output"))
        assert "Completion" not in page.text(".tabs")
        check_quiet(page, server)


def test_a_locked_server_is_opened_with_a_key(browser: Browser, tmp_path: Path) -> None:
    bundle = write_toy_bundle(tmp_path / "bundle")
    with_template(bundle)
    with serving(bundle, key="the-key-of-the-page") as server:
        page = Page(browser)
        page.open(f"http://127.0.0.1:{server.wait_until_serving().port}/ui")
        page.wait_for("document.getElementById('health').textContent === 'locked'")
        page.evaluate("document.getElementById('key').focus()")
        page.type("the-key-of-the-page")
        page.press("Enter")
        page.wait_for("document.getElementById('model').textContent === 'kestrel'")
        assert page.evaluate("document.getElementById('key-form').hidden")
        page.evaluate("document.getElementById('message').focus()")
        page.type("hello")
        page.press("Enter")
        page.wait_for(f"{TOKENS} > 5")
        assert page.evaluate("localStorage.length + sessionStorage.length") == 0
        assert "key-of-the-page" not in str(page.requests) + server.output
