"""Clients that keep their connections and never try twice: whatever a server drops, they have lost."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

PROMPTS = [f"Tell me something about {thing}:" for thing in ("rain", "bread", "stars", "trains", "glass", "bees")]
TOKENS = 16
THINKING_SECONDS = 3.0
PATIENCE_SECONDS = 60.0

KINDS = ("whole", "stream", "thinking", "fresh")
"""Whole answers and streams without a pause; pauses, in which the connection idles; a connection for each request."""


@dataclass
class Client:
    """One client, and what it saw.

    Attributes:
        texts: The right text for each prompt.
        asked: When each request began and how long its answer took, in seconds.
        failures: What went wrong, in words.
        moved: Answers that said that the connection closes.
    """

    port: int
    kind: str
    seed: int
    texts: dict[str, str]
    asked: list[tuple[float, float]] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    moved: int = 0

    def run(self, over: threading.Event) -> None:
        """Ask until told to end."""
        chosen, connection = random.Random(self.seed), _connect(self.port)
        while not over.is_set():
            prompt, began = chosen.choice(PROMPTS), time.monotonic()
            try:
                text, closes = ask(connection, prompt, streams=self.kind == "stream")
                if text != self.texts[prompt]:
                    self.failures.append(f"{prompt!r} was answered with {text!r}")
            except (OSError, http.client.HTTPException, ValueError) as error:
                self.failures.append(repr(error))
                closes = True
            self.asked.append((began, time.monotonic() - began))
            self.moved += closes
            if closes or self.kind == "fresh":
                connection.close()
                connection = _connect(self.port)
            if self.kind == "thinking":
                over.wait(chosen.uniform(0, THINKING_SECONDS))
        connection.close()


@contextmanager
def clients_of(port: int, each: int, texts: dict[str, str]) -> Iterator[list[Client]]:
    """So many clients of each kind, at work until the end of the block."""
    over = threading.Event()
    clients = [Client(port, kind, seed, texts) for seed, kind in enumerate(KINDS * each)]
    threads = [threading.Thread(target=client.run, args=(over,)) for client in clients]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        over.set()
        for thread in threads:
            thread.join()


def right_texts(port: int) -> dict[str, str]:
    """What a server without load answers to each prompt."""
    with closing(_connect(port)) as connection:
        return {prompt: ask(connection, prompt, streams=False)[0] for prompt in PROMPTS}


def ask(connection: http.client.HTTPConnection, prompt: str, *, streams: bool) -> tuple[str, bool]:
    """One request: its text, and whether the server closes the connection.

    Raises:
        ValueError: The answer is an error, or not whole.
    """
    body = {"inputs": prompt, "parameters": {"max_new_tokens": TOKENS, "ignore_eos": True, "do_sample": False}}
    connection.request("POST", "/generate_stream" if streams else "/generate", json.dumps(body))
    response = connection.getresponse()
    raw, closes = response.read(), response.getheader("Connection") == "close"
    if response.status != 200:
        message = f"{response.status}: {raw!r}"
        raise ValueError(message)
    if not streams:
        return str(json.loads(raw)["generated_text"][0]), closes
    events = [json.loads(frame[5:]) for frame in raw.decode().split("\n\n") if frame]
    if len(events) != TOKENS or events[-1]["finish_reason"] != "length":
        message = f"a stream ended early: {raw[-300:]!r}"
        raise ValueError(message)
    return "".join(event["token"]["text"] for event in events), closes


def _connect(port: int) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
