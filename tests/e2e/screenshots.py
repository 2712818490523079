"""Takes the pictures of ``/ui`` for the docs: ``screenshots.py DIRECTORY``, with the default model and a Chromium."""

from __future__ import annotations

import sys
import tempfile
import threading
from pathlib import Path

from browser import Browser, Page, find_browser
from serving import MODEL, Server

SECONDS = 45
"""Of traffic from others, so that the plots have something to show."""

QUESTION = "What is the capital of France, and what is it known for?"
TOPICS = ("rivers", "mountains", "harbours", "gardens", "bridges", "markets", "libraries")


def main(directory: Path) -> None:
    """Take them."""
    executable = find_browser()
    if executable is None:
        raise SystemExit("error: no Chromium: install it, or name one in PEREGRINE_BROWSER")
    server = Server("--model_name", MODEL)
    try:
        with tempfile.TemporaryDirectory() as profile, Browser(executable, Path(profile)) as browser:
            page = Page(browser, 1280, 780).open(f"{server.url}/ui")
            page.wait_for("document.getElementById('model').textContent")
            busy(server, page)
            shoot(page, directory / "ui-light.png")
            page.look(dark=True)
            page.screenshot(directory / "ui-dark.png")
    finally:
        server.stop()


def shoot(page: Page, path: Path) -> None:
    """Ask something, and look at what else a token might have been."""
    page.evaluate("document.querySelector('[name=seed]').value = 4")
    page.click("#message")
    page.type(QUESTION)
    page.press("Enter")
    page.wait_for("document.querySelectorAll('.token').length > 12 && !document.body.classList.contains('running')")
    page.hover(".token:nth-child(9)")
    page.screenshot(path)


def busy(server: Server, page: Page) -> None:
    """Let others ask for a while."""
    over = threading.Event()

    def ask(number: int) -> None:
        for round_ in range(1000):
            if over.is_set():
                return
            topic = TOPICS[(number + round_) % len(TOPICS)]
            prompt = (
                f"You are a travel guide who answers briefly and in good spirits. Tell me about the {topic} of France."
            )
            server.generate(prompt, max_new_tokens=20 + 30 * (number % 3), do_sample=True)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(4)]
    for number, thread in enumerate(threads):
        thread.start()
        page.evaluate(f"new Promise((done) => setTimeout(done, {1000 * SECONDS // len(threads)}))")
        if number == len(threads) - 1:
            over.set()
    for thread in threads:
        thread.join()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
