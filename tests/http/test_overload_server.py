"""Deadlines, limits and clients that do not read, on a whole server over real connections."""

from __future__ import annotations

import json
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import msgspec
import pytest
from server_process import ServerProcess, command_line, completion, descendants, read_all, wait_until
from toy_tokenizer import VOCAB_SIZE, write_toy_bundle

from runtime.executors.scripted import Script

STALL_SECONDS = 1.0
STALLED = 12
CAPACITY = STALLED + 4
RUNNING, WAITING = "vllm:num_requests_running", "vllm:num_requests_waiting"
CUT_OFF = 'vllm:request_success_total{finished_reason="abort"'


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Few places in the queue, and little patience with clients that do not read."""
    bundle = write_toy_bundle(tmp_path_factory.mktemp("bundle"))
    script = Script(vocab_size=VOCAB_SIZE, first_token=98, step_seconds=0.002, max_sequence_tokens=2048)
    (bundle / "script.json").write_bytes(msgspec.json.encode(script))
    flags = ["--running_max_req_size", CAPACITY, "--max_total_token_num", 2048 * CAPACITY, "--max_queued", CAPACITY]
    flags += ["--write_stall_seconds", STALL_SECONDS, "--overload_status", 429, "--max_queued_tokens", 500]
    with ServerProcess(str(bundle), "--executor", "scripted", "--port", "0", *map(str, flags)) as server:
        yield server.wait_until_serving()


def post(server: ServerProcess, path: str, body: object, *headers: str, buffer: int = 0) -> socket.socket:
    """A request whose answer nobody has begun to read."""
    connection = socket.socket()
    if buffer:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
    connection.settimeout(30)
    connection.connect(("127.0.0.1", server.port))
    data = json.dumps(body).encode()
    head = [f"POST {path} HTTP/1.1", "Host: x", "Content-Type: application/json", f"Content-Length: {len(data)}"]
    connection.sendall("\r\n".join([*head, *headers, "", ""]).encode() + data)
    return connection


def memory(server: ServerProcess) -> int:
    """Bytes of resident memory of the HTTP side."""
    pids = [pid for pid in descendants(server.process.pid) if "gunicorn" in command_line(pid)]
    assert pids
    return sum(int((Path("/proc") / str(pid) / "statm").read_text().split()[1]) * 4096 for pid in pids)


def stalled_streams(server: ServerProcess, stack: ExitStack) -> None:
    """Streams of some megabyte each, of which nobody reads more than the status line."""
    body = {"model": "m", "prompt": "hi", "max_tokens": 2000, "ignore_eos": True, "stream": True, "logprobs": 5}
    streams = [stack.enter_context(post(server, "/v1/completions", body, buffer=4096)) for _ in range(STALLED)]
    for stream in streams:
        assert stream.recv(15) == b"HTTP/1.1 200 OK"


def test_clients_that_do_not_read_cost_neither_memory_nor_the_engine(server: ServerProcess) -> None:
    with ExitStack() as stack:
        stalled_streams(server, stack)
        wait_until(lambda: server.metric(RUNNING) == 0, "streams that nobody reads run on")
    before = memory(server)
    for _ in range(2):
        with ExitStack() as stack:
            stalled_streams(server, stack)
            assert server.request("POST", "/generate", completion(3))[0] == 200, "others do not notice"
            wait_until(lambda: server.metric(RUNNING) == 0, "streams that nobody reads run on")
            assert memory(server) - before < 8 * 2**20
    assert server.metric(CUT_OFF) == 3 * STALLED


def test_a_stream_ends_with_its_time(server: ServerProcess) -> None:
    began = time.monotonic()
    answer = read_all(post(server, "/generate_stream", completion(2000), "X-Request-Timeout: 0.3"))
    assert 0.3 <= time.monotonic() - began < 2
    assert answer.startswith(b"HTTP/1.1 200 ")
    assert b'"finish_reason":"error"' in answer
    assert answer.count(b'"token":') > 10
    assert server.metric(RUNNING) == 0


def test_what_waits_expires_too_and_the_queue_is_bounded(server: ServerProcess) -> None:
    expired = server.metric("peregrine_expired_requests_total")
    with ExitStack() as stack:
        for _ in range(CAPACITY):
            stack.enter_context(post(server, "/generate", completion(2000)))
        wait_until(lambda: server.metric(RUNNING) == CAPACITY, "the engine is not full")
        late = [
            stack.enter_context(post(server, "/generate", completion(1), "X-Request-Timeout: 2"))
            for _ in range(CAPACITY)
        ]
        wait_until(lambda: server.metric(WAITING) == CAPACITY, "nobody waits")
        status, headers, _ = server.request("POST", "/generate", completion(1))
        assert (status, int(headers["retry-after"]) >= 1) == (429, True)
        for connection in late:
            assert connection.recv(4096).startswith(b"HTTP/1.1 504 ")
        assert server.metric("peregrine_expired_requests_total") == expired + CAPACITY
    wait_until(lambda: server.metric(RUNNING) == 0, "what nobody waits for runs on")
    assert server.metric('peregrine_shed_requests_total{reason="queue_full"}') == 1
    assert server.metric("peregrine_queued_tokens") == 0
