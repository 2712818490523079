"""Real processes: an engine that is killed under ``--replay``, and clients that do not wait for their parsing."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from server_process import ServerProcess, completion, descendants, read_all, wait_until
from toy_tokenizer import VOCAB_SIZE, write_toy_bundle

from runtime.executors.scripted import Script
from server.tokenizer import LONG_TEXT


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A tokenizer, and a script instead of a model."""
    path = write_toy_bundle(tmp_path / "bundle")
    script = Script(vocab_size=VOCAB_SIZE, first_token=98, step_seconds=0.005, max_sequence_tokens=1024)
    (path / "script.json").write_bytes(msgspec.json.encode(script))
    return path


def start(bundle: Path, *flags: str) -> ServerProcess:
    return ServerProcess(str(bundle), "--executor", "scripted", "--port", "0", "--httpserver_workers", "1", *flags)


def test_with_replay_no_client_sees_the_engine_die(bundle: Path) -> None:
    with start(bundle, "--replay") as server, ThreadPoolExecutor(4) as threads:
        server.wait_until_serving()
        undisturbed = server.request("POST", "/generate", completion(120))[2]
        stream = server.stream(tokens=120)
        plain = [threads.submit(server.request, "POST", "/generate", completion(120)) for _ in range(3)]
        wait_until(lambda: server.metric("vllm:num_requests_running") == 4, "the requests do not run")
        os.kill(server.engine_pid(), signal.SIGKILL)
        later = server.request("POST", "/generate", completion(120))
        assert [answer[::2] for answer in (later, *(each.result() for each in plain))] == [(200, undisturbed)] * 4
        texts = re.findall(r'"text":"(.*?)","logprob"', read_all(stream).decode())
        assert len(texts) == 120
        assert json.loads("".join(['"', *texts, '"'])) == json.loads(undisturbed)["generated_text"][0]
        assert server.metric("peregrine_request_replays_total") in (4, 5), "the last may have been sent in vain too"


def test_a_client_that_leaves_while_it_is_parsed_costs_the_engine_nothing(bundle: Path) -> None:
    with start(bundle, "--long_truncation_mode", "head") as server:
        server.wait_until_serving()
        # NOTE: long texts are tokenized one after the other, so the second waits for the first.
        threads = _threads(server)
        staying = _send(server, "a" * 3_000_000)
        wait_until(lambda: _threads(server) > threads, "the first text is not being tokenized")
        leaving = _send(server, "b" * LONG_TEXT)
        leaving.close()
        assert staying.recv(12) == b"HTTP/1.1 200"
        staying.close()
        last = _send(server, "c" * LONG_TEXT)
        assert last.recv(12) == b"HTTP/1.1 200"
        last.close()
        wait_until(lambda: server.metric("lightllm_request_inference_duration_count") >= 2, "the last is not counted")
        assert server.metric("lightllm_request_inference_duration_count") == 2


def _threads(server: ServerProcess) -> int:
    """Of the HTTP side."""
    engine = server.engine_pid()
    return sum(len([*Path(f"/proc/{pid}/task").iterdir()]) for pid in descendants(server.process.pid) if pid != engine)


def _send(server: ServerProcess, text: str) -> socket.socket:
    body: dict[str, Any] = completion(1) | {"inputs": text}
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=30)
    encoded = json.dumps(body).encode()
    connection.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(encoded))
    connection.sendall(encoded)
    return connection
