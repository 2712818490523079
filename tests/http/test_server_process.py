"""The whole server: supervisor, scripted engine and gunicorn, over real connections."""

from __future__ import annotations

import json
import os
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from server_process import ServerProcess, completion, descendants, read_all, running, wait_until
from toy_tokenizer import VOCAB_SIZE, write_toy_bundle

from runtime.executors.scripted import Script

STEP_SECONDS = 0.01


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer, and a script instead of a model."""
    path = write_toy_bundle(tmp_path_factory.mktemp("bundle"))
    script = Script(vocab_size=VOCAB_SIZE, first_token=98, step_seconds=STEP_SECONDS, max_sequence_tokens=1024)
    (path / "script.json").write_bytes(msgspec.json.encode(script))
    return path


def start(bundle: Path, *flags: str) -> ServerProcess:
    return ServerProcess(str(bundle), "--executor", "scripted", "--port", "0", *flags)


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[ServerProcess]:
    """A server with two HTTP workers for tests that leave it as it was."""
    with start(bundle, "--httpserver_workers", "2", "--max_body_bytes", "100000") as server:
        yield server.wait_until_serving()


@pytest.fixture
def own_server(bundle: Path) -> Iterator[ServerProcess]:
    """A server to be ended."""
    with start(bundle) as server:
        yield server.wait_until_serving()


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/health", 200),
        ("HEAD", "/health", 200),
        ("GET", "/readiness", 200),
        ("POST", "/liveness", 200),
        ("GET", "/token_load", 200),
        ("GET", "/get_model_name", 200),
        ("GET", "/tokens?text=hi", 200),
        ("GET", "/metrics", 200),
        ("GET", "/nowhere", 404),
        ("GET", "/generate", 405),
        ("POST", "/get_score", 417),
    ],
)
def test_every_endpoint_answers(server: ServerProcess, method: str, path: str, status: int) -> None:
    assert server.request(method, path)[0] == status


def test_a_plain_call_and_its_stream_say_the_same(server: ServerProcess) -> None:
    status, headers, body = server.request("POST", "/generate", completion(8))
    assert (status, headers["content-type"]) == (200, "application/json")
    _, headers, stream = server.request("POST", "/generate_stream", completion(8))
    assert headers["transfer-encoding"] == "chunked"
    events = [json.loads(frame[5:]) for frame in stream.decode().split("\n\n") if frame]
    assert len(events) == 8
    assert "".join(event["token"]["text"] for event in events) == json.loads(body)["generated_text"][0]


def test_every_event_is_a_chunk_of_its_own(server: ServerProcess) -> None:
    raw = read_all(server.stream(tokens=5)).partition(b"\r\n\r\n")[2]
    chunks = 0
    while (size := int(raw.partition(b"\r\n")[0], 16)) > 0:
        data = raw.partition(b"\r\n")[2][:size]
        assert data.startswith(b'data:{"token"')
        assert data.endswith(b"}\n\n")
        raw = raw.partition(b"\r\n")[2][size + 2 :]
        chunks += 1
    assert chunks == 5


def test_a_connection_serves_many_requests(server: ServerProcess) -> None:
    connection = server.connect()
    for _ in range(3):
        assert server.on(connection, "POST", "/generate", completion(1))[0] == 200
        assert server.on(connection, "POST", "/generate", {})[0] == 417
    connection.close()


@pytest.mark.parametrize("sent", [0, 20_000_000])
def test_a_huge_body_is_refused_and_the_connection_closed(server: ServerProcess, sent: int) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
        connection.sendall(b"x" * sent)
        answer = b""
        while part := connection.recv(65536):
            answer += part
    assert answer.startswith(b"HTTP/1.1 413 ")
    assert b'{"message":' in answer


@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
def test_a_disconnect_frees_the_engine_soon(server: ServerProcess, path: str) -> None:
    name = "vllm:num_requests_running"
    connection = server.stream(path, tokens=900)
    wait_until(lambda: server.metric(name) == 1, "the request does not run")
    connection.close()
    began = time.monotonic()
    wait_until(lambda: server.metric(name) == 0, "the request still runs")
    assert time.monotonic() - began < 2
    assert json.loads(server.request("GET", "/token_load")[2])["current_load"] == 0.0


def test_metrics_of_all_workers_add_up(server: ServerProcess) -> None:
    before = server.metric("lightllm_request_count_total")
    for _ in range(6):
        server.request("POST", "/generate", completion(1))
    assert server.metric("lightllm_request_count_total") == before + 6


def test_a_killed_engine_fails_what_is_open_and_comes_back(own_server: ServerProcess) -> None:
    server = own_server
    stream, plain = server.stream(tokens=900), server.stream("/generate", tokens=900)
    wait_until(lambda: server.metric("vllm:num_requests_running") == 2, "the requests do not run")
    began = time.monotonic()
    _kill(server.engine_pid())
    text = read_all(stream).decode()
    assert '"finish_reason":"error"' in text
    assert text.endswith("0\r\n\r\n")
    assert plain.recv(64).startswith(b"HTTP/1.1 503 ")
    plain.close()
    wait_until(lambda: server.request("POST", "/generate", completion(1))[0] == 200, "no recovery")
    assert time.monotonic() - began < 10
    assert server.request("GET", "/readiness")[0] == 200


def test_sigterm_lets_streams_finish_and_leaves_nothing(own_server: ServerProcess) -> None:
    server = own_server
    idle = server.connect()
    server.on(idle, "GET", "/health")
    stream = server.stream(tokens=150)
    processes = descendants(server.process.pid)
    server.signal(signal.SIGTERM)
    events = read_all(stream).count(b'"token"')
    assert events == 150
    assert server.exit_status(10) == 0
    assert not [pid for pid in processes if running(pid)]
    idle.close()
    with pytest.raises(ConnectionRefusedError):
        server.request("GET", "/health")


def test_while_draining_new_requests_are_turned_away(bundle: Path) -> None:
    with start(bundle, "--drain_seconds", "2") as server:
        server.wait_until_serving()
        stream = server.stream(tokens=900)
        waiting = server.connect()
        server.on(waiting, "GET", "/health")
        server.signal(signal.SIGTERM)
        server.wait_for("SIGTERM: stopping")
        status, headers, _ = server.on(waiting, "POST", "/generate", completion(1))
        assert (status, "retry-after" in headers) == (503, True)
        waiting.close()
        text = read_all(stream).decode()
        assert '"error":"the server is shutting down"' in text
        assert server.exit_status(15) == 0


def test_a_body_that_never_comes_does_not_hold_up_the_end(own_server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", own_server.port)) as connection:
        connection.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\n{")
        own_server.request("GET", "/health")
        own_server.signal(signal.SIGTERM)
        assert own_server.exit_status(10) == 0


def test_sigint_twice_ends_at_once(own_server: ServerProcess) -> None:
    server = own_server
    stream = server.stream(tokens=900)
    server.signal(signal.SIGINT)
    server.wait_for("SIGINT: stopping")
    server.signal(signal.SIGINT)
    assert server.exit_status(5) == 130
    stream.close()


def test_nothing_survives_a_killed_supervisor(own_server: ServerProcess) -> None:
    processes = descendants(own_server.process.pid)
    assert len(processes) == 3
    own_server.process.kill()
    wait_until(lambda: not any(map(running, processes)), "an orphan is left")


def test_engine_failure_can_end_the_server(bundle: Path) -> None:
    with start(bundle, "--engine_failure", "exit") as server:
        server.wait_until_serving()
        _kill(server.engine_pid())
        assert server.exit_status(20) == 1
        assert "engine ended" in server.output


def test_a_dead_http_server_ends_the_server(own_server: ServerProcess) -> None:
    engine, *_ = [pid for pid in descendants(own_server.process.pid) if pid == own_server.engine_pid()]
    master = next(pid for pid in descendants(own_server.process.pid) if pid != engine)
    _kill(master)
    assert own_server.exit_status(20) == 1
    assert not running(engine)


def test_a_taken_port_is_one_clear_message(bundle: Path, server: ServerProcess, tmp_path: Path) -> None:
    flags = ("--executor", "scripted", "--port", str(server.port))
    with ServerProcess(str(bundle), *flags, TMPDIR=str(tmp_path)) as second:
        assert second.exit_status() == 2
        assert f"--port {server.port}: Address already in use" in second.output
        assert "Traceback" not in second.output
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("flags", "names"),
    [
        (["--executor", "scripted", "/nonexistent"], "script.json"),
        (["--max_req_total_len", "0"], "--max_req_total_len"),
        (["--no_such_flag"], "--no_such_flag"),
        (["--first-token-constraint-mode"], "FIRST_ALLOWED_TOKENS"),
    ],
)
def test_mistakes_of_the_operator_are_one_clear_message(flags: list[str], names: str) -> None:
    with ServerProcess("--port", "0", *flags) as server:
        assert server.exit_status() == 2
        assert names in server.output
        assert "Traceback" not in server.output


def test_a_bundle_that_the_engine_refuses_leaves_nothing(bundle: Path) -> None:
    with start(bundle, "--max_req_total_len", "999999") as server:
        assert server.exit_status() == 2
        assert "error:" in server.output
        assert "Traceback" not in server.output


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
