"""What processes do to each other: stopped, killed, poisoned; the whole server with a scripted engine."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from server_process import ServerProcess, command_line, completion, descendants, read_all, running, wait_until
from toy_tokenizer import VOCAB_SIZE, byte_id, write_toy_bundle

from runtime.executors.scripted import Script


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prompt with a ``!`` fails its steps, one with a ``?`` kills the engine, one with a ``#`` hangs it."""
    path = write_toy_bundle(tmp_path_factory.mktemp("bundle"))
    script = Script(
        vocab_size=VOCAB_SIZE,
        first_token=98,
        step_seconds=0.01,
        max_sequence_tokens=1024,
        fail_on_token=byte_id(ord("!")),
        die_on_token=byte_id(ord("?")),
        hang_on_token=byte_id(ord("#")),
    )
    (path / "script.json").write_bytes(msgspec.json.encode(script))
    return path


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[ServerProcess]:
    """Each test leaves it serving."""
    flags = ("--executor", "scripted", "--port", "0", "--step_timeout", "2", "--httpserver_workers", "2")
    with ServerProcess(str(bundle), *flags) as server:
        yield server.wait_until_serving()


def ask(server: ServerProcess, text: str, tokens: int = 3) -> tuple[int, bytes]:
    body: dict[str, Any] = completion(tokens) | {"inputs": text}
    status, _, answer = server.request("POST", "/generate", body)
    return status, answer


def test_a_stopped_engine_is_replaced_and_what_is_open_gets_an_error(server: ServerProcess) -> None:
    assert ask(server, "hi")[0] == 200  # before its first step an engine is given more time
    stream = server.stream(tokens=900)
    first = server.engine_pid()
    began = time.monotonic()
    os.kill(first, signal.SIGSTOP)
    assert '"finish_reason":"error"' in read_all(stream).decode()
    wait_until(lambda: ask(server, "hi")[0] == 200, "no recovery")
    assert time.monotonic() - began < 15
    assert not running(first)
    assert server.engine_pid() != first
    server.wait_for(r"ended with status -9 after it had hung for 2\.5 s")


def test_a_step_that_never_ends_costs_its_requests_and_is_the_last_of_its_engine(server: ServerProcess) -> None:
    assert ask(server, "hi")[0] == 200
    assert ask(server, "so #")[0] == 503
    wait_until(lambda: ask(server, "hi")[0] == 200, "no recovery")


def test_a_killed_http_worker_is_replaced_and_its_requests_are_freed(server: ServerProcess) -> None:
    (master,) = (p for p in children(server.process.pid) if "gunicorn" in command_line(p))
    streams = [server.stream(tokens=900) for _ in range(4)]
    wait_until(lambda: server.metric("vllm:num_requests_running") == 4, "the requests do not run")
    killed = children(master)[0]
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: len(children(master)) == 2 and killed not in children(master), "no new worker")
    for worker in children(master):
        if worker != killed:
            os.kill(worker, signal.SIGKILL)
    for stream in streams:  # nobody is left to say why: the connection closes without its end
        assert not read_all(stream).endswith(b"0\r\n\r\n")
    wait_until(lambda: ask(server, "hi")[0] == 200, "no recovery")
    wait_until(lambda: server.metric("vllm:num_requests_running") == 0, "the dead workers' requests still run")


def test_a_poisoned_request_ends_alone_and_its_like_is_refused(server: ServerProcess) -> None:
    stream = server.stream(tokens=100)
    status, answer = ask(server, "so what!")
    assert (status, b"the engine failed" in answer) == (503, True)
    assert read_all(stream).count(b'"token"') == 100
    status, answer = ask(server, "so what!")
    assert (status, b"made the engine fail" in answer) == (417, True)


def test_who_kills_the_engine_twice_is_refused_and_others_are_served(server: ServerProcess) -> None:
    for _ in range(2):
        assert ask(server, "who?")[0] == 503
        wait_until(lambda: ask(server, "hi")[0] == 200, "no recovery")
    status, answer = ask(server, "who?")
    assert (status, b"made the engine fail" in answer) == (417, True)
    assert ask(server, "hi")[0] == 200


def children(pid: int) -> list[int]:
    """Processes right below ``pid``."""
    below = descendants(pid)
    return [p for p in below if p not in {q for other in below for q in descendants(other)}]
