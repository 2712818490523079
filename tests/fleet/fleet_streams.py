"""Many streams at once, and what became of each."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from e2e.serving import Server

from benchmarks.processes import process_tree

Fleet = Callable[..., Server]
ACTOR = b"ray::ServeReplica:peregrine:engine"
WORDS = ("rain", "bread", "stars", "trains", "music", "glass", "bees", "salt")


@dataclass(frozen=True)
class Outcome:
    """Of one request: its text, or why there is none.

    Attributes:
        error: A status that is not 200, or the error that ended the stream; empty if it ended well.
    """

    text: str
    error: str = ""


def prompt(number: int) -> str:
    return f"{number}. Tell me something about {WORDS[number % 8]} and {WORDS[number * 3 % 7]}:"


def stream(server: Server, number: int, tokens: int) -> Outcome:
    connection = server.connect()
    try:
        body = {"inputs": prompt(number), "parameters": {"max_new_tokens": tokens, "ignore_eos": True}}
        connection.request("POST", "/generate_stream", json.dumps(body))
        response = connection.getresponse()
        if response.status != 200:
            return Outcome("", f"{response.status} {response.read().decode()}")
        events = [json.loads(line[5:]) for line in response if line.startswith(b"data:")]
    finally:
        connection.close()
    text = "".join(event["token"]["text"] for event in events if event["token"] is not None)
    if not events or not events[-1]["finished"]:
        return Outcome(text, "the stream broke off")
    return Outcome(text, events[-1].get("error") or "")


def streams(pool: ThreadPoolExecutor, server: Server, count: int, tokens: int) -> list[Future[Outcome]]:
    return [pool.submit(stream, server, number, tokens) for number in range(count)]


def engine_replicas(server: Server) -> list[int]:
    """Process ids of the actors that have an engine."""
    return [pid for pid in process_tree(server.cluster_pid) if _command(pid).startswith(ACTOR)]


def engine_processes(server: Server) -> list[int]:
    """Process ids of the engines."""
    return [pid for pid in process_tree(server.cluster_pid) if b"runtime.engine" in _command(pid)]


def _command(pid: int) -> bytes:
    try:
        return (Path("/proc") / str(pid) / "cmdline").read_bytes()
    except OSError:
        return b""
