"""Another bundle in the place of the one that is served, and the control socket that asks for it."""

from __future__ import annotations

import http.client
import json
import signal
import socket
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest
from server_process import ServerProcess, completion, descendants, read_all, running, wait_until
from toy_tokenizer import VOCAB_SIZE, write_toy_bundle

from runtime.executors.scripted import Script

FIRST, SECOND = 98, 99
COUNTERS = ("lightllm_request_success_total", "vllm:generation_tokens_total", "vllm:prompt_tokens_total")


def write_script(path: Path, first_token: int) -> Path:
    script = Script(vocab_size=VOCAB_SIZE, first_token=first_token, step_seconds=0.01, max_sequence_tokens=1024)
    (path / "script.json").write_bytes(msgspec.json.encode(script))
    return path


def write_bundles(folder: Path) -> tuple[Path, Path]:
    """Two models that begin their answers differently."""
    paths = []
    for name, token in (("first", FIRST), ("second", SECOND)):
        (folder / name).mkdir()
        paths.append(write_script(write_toy_bundle(folder / name), token))
    return paths[0], paths[1]


@pytest.fixture
def bundles(tmp_path: Path) -> tuple[Path, Path]:
    """Those of one test."""
    return write_bundles(tmp_path)


@pytest.fixture
def server(bundles: tuple[Path, Path], tmp_path: Path) -> Iterator[ServerProcess]:
    with start(bundles[0], tmp_path) as server:
        yield server.wait_until_serving()


@pytest.fixture(scope="module")
def lasting(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ServerProcess, Path]]:
    """A server for tests that leave it as it was, and where its control socket is."""
    folder = tmp_path_factory.mktemp("lasting")
    with start(write_bundles(folder)[0], folder) as server:
        yield server.wait_until_serving(), folder


def start(bundle: Path, tmp_path: Path, *flags: str, **environ: str) -> ServerProcess:
    where = ("--control_socket", str(tmp_path / "control"))
    return ServerProcess(str(bundle), "--executor", "scripted", "--port", "0", *where, *flags, **environ)


def control(tmp_path: Path, *command: str) -> tuple[int, str]:
    arguments = [sys.executable, "-m", "server.cli", "control", "--control_socket", str(tmp_path / "control"), *command]
    done = subprocess.run(arguments, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=60)
    return done.returncode, done.stdout


def status(tmp_path: Path) -> Any:
    return json.loads(control(tmp_path, "status")[1])


def text_of(server: ServerProcess) -> str:
    answer = server.request("POST", "/generate", completion(1))
    assert answer[0] == 200, answer
    return str(json.loads(answer[2])["generated_text"])


@contextmanager
def load(server: ServerProcess, clients: int) -> Iterator[Callable[[], int]]:
    """Clients that ask again as soon as they are answered, on one connection as long as it lasts; none may fail."""
    over, answered, failures = threading.Event(), [0] * clients, []

    def ask(number: int) -> None:
        connection = server.connect()
        while not over.is_set():
            try:
                path = "/generate_stream" if number % 2 else "/generate"
                code, headers, body = server.on(connection, "POST", path, completion(1 + number % 3))
            except (OSError, http.client.HTTPException) as error:
                failures.append(repr(error))
                return
            if code != 200 or b"error" in body:
                failures.append(f"{code} {body!r}")
            if headers.get("connection") == "close":
                connection.close()
                connection = server.connect()
            answered[number] += 1
        connection.close()

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    try:
        yield lambda: min(answered)
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert failures == []
    assert min(answered) > 0


def test_a_swap_under_load_drops_no_request(server: ServerProcess, bundles: tuple[Path, Path], tmp_path: Path) -> None:
    before = text_of(server)
    old = descendants(server.process.pid)
    with load(server, 8) as answered:
        wait_until(lambda: answered() > 3, "no load")
        counted = {name: server.metric(name) for name in COUNTERS}
        assert control(tmp_path, "swap", str(bundles[1])) == (0, f"generation 2 serves {bundles[1]}\n")
        reached = answered()
        wait_until(lambda: answered() > reached + 3, "no answers after the swap")
        wait_until(lambda: not any(running(pid) for pid in old), "the old generation stays")
        assert all(server.metric(name) > before for name, before in counted.items())
    assert text_of(server) != before
    assert (status(tmp_path)["serving"]["generation"], status(tmp_path)["retiring"]) == (2, [])


def test_sighup_takes_the_bundle_as_it_is_now(server: ServerProcess, bundles: tuple[Path, Path]) -> None:
    before = text_of(server)
    write_script(bundles[0], SECOND)
    server.signal(signal.SIGHUP)
    server.wait_for("generation 1 has ended")
    assert text_of(server) != before


def test_a_swap_reads_the_keys_again(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    keys = tmp_path / "keys.toml"
    keys.touch(0o600)
    keys.write_text('[alice]\nkey = "alices-secret-key-1"\n')

    def asked(key: str) -> int:
        return server.request("POST", "/generate", completion(1), {"X-API-Key": key})[0]

    environ = {"PEREGRINE_API_KEYS": "carol:carols-secret-key-3"}
    with start(bundles[0], tmp_path, "--api_key_file", str(keys), **environ) as server:
        server.wait_until_serving()
        keys.write_text("no table")
        assert control(tmp_path, "swap")[0] == 1
        assert [asked(key) for key in ("alices-secret-key-1", "carols-secret-key-3")] == [200, 200]
        keys.write_text('[bob]\nkey = "bobs-secret-key-22"\n')
        assert control(tmp_path, "swap")[0] == 0
        answers = [asked(key) for key in ("alices-secret-key-1", "bobs-secret-key-22", "carols-secret-key-3")]
        assert answers == [401, 200, 200]


def test_a_bundle_that_cannot_be_served_changes_nothing(lasting: tuple[ServerProcess, Path]) -> None:
    server, folder = lasting
    before, processes = text_of(server), descendants(server.process.pid)
    code, told = control(folder, "swap", str(folder / "nothing"))
    assert (code, "the old bundle goes on serving" in told, "script.json" in told) == (1, True, True)
    assert "Traceback" not in server.output
    assert text_of(server) == before
    assert descendants(server.process.pid) == processes


def test_streams_and_idle_connections_outlive_a_swap(
    server: ServerProcess, bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    idle = server.connect()
    before = json.loads(server.on(idle, "POST", "/generate", completion(1))[2])
    stream = server.stream(tokens=200)
    assert control(tmp_path, "swap", str(bundles[1]))[0] == 0
    assert [instance["generation"] for instance in status(tmp_path)["retiring"]] == [1]
    code, headers, body = server.on(idle, "POST", "/generate", completion(1))
    assert (code, headers["connection"], json.loads(body)) == (200, "close", before)
    assert read_all(stream).count(b'"token"') == 200
    server.wait_for("generation 1 has ended")
    idle.close()


def test_what_takes_longer_than_its_time_after_a_swap_ends_with_an_error(
    bundles: tuple[Path, Path], tmp_path: Path
) -> None:
    with start(bundles[0], tmp_path, "--swap_drain_seconds", "1") as server:
        stream = server.wait_until_serving().stream(tokens=900)
        assert control(tmp_path, "swap")[0] == 0
        text = read_all(stream).decode()
        assert '"finish_reason":"error"' in text
        server.wait_for("generation 1 has ended")
        assert server.request("GET", "/health")[0] == 200


def test_the_end_of_the_server_ends_all_generations(server: ServerProcess, tmp_path: Path) -> None:
    streams = [server.stream(tokens=100)]
    assert control(tmp_path, "swap")[0] == 0
    streams.append(server.stream(tokens=100))
    processes = descendants(server.process.pid)
    assert control(tmp_path, "stop") == (0, "stopping\n")
    assert [read_all(stream).count(b'"token"') for stream in streams] == [100, 100]
    assert server.exit_status(15) == 0
    assert not [pid for pid in processes if running(pid)]
    assert not (tmp_path / "control").exists()


def test_a_signal_ends_a_swap_too(server: ServerProcess, bundles: tuple[Path, Path]) -> None:
    (bundles[0] / "script.json").unlink()
    server.signal(signal.SIGHUP)
    server.wait_for("SIGHUP: swapping")
    server.signal(signal.SIGTERM)
    assert server.exit_status(10) == 0


def test_before_the_port_closes_readiness_says_so(bundles: tuple[Path, Path], tmp_path: Path) -> None:
    with start(bundles[0], tmp_path, "--drain_delay", "1.5") as server:
        server.wait_until_serving()
        began = time.monotonic()
        server.signal(signal.SIGTERM)
        wait_until(lambda: server.request("GET", "/readiness")[0] == 503, "it is still ready")
        assert server.request("GET", "/liveness")[0] == 200
        code, headers, _ = server.request("POST", "/generate", completion(1))
        assert (code, headers["connection"]) == (200, "close")
        assert server.exit_status(15) == 0
        assert time.monotonic() - began > 1.5


def test_a_drained_server_can_be_resumed(lasting: tuple[ServerProcess, Path]) -> None:
    server, folder = lasting
    for command, ready in (("drain", 503), ("resume", 200)):
        assert control(folder, command)[0] == 0
        assert server.request("GET", "/readiness")[0] == ready
        assert server.request("POST", "/generate", completion(1))[0] == 200


def test_the_control_socket_is_private_and_audited(lasting: tuple[ServerProcess, Path]) -> None:
    server, folder = lasting
    assert stat.S_IMODE((folder / "control").stat().st_mode) == 0o600
    control(folder, "resume")
    server.wait_for(r"control: 'resume' by uid \d+ \(pid \d+\)")


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"nonsense\n", b'{"command":"shoot"}\n', b'{"command":"stop","now":1}\n', b"[" * 8000]
)
def test_what_is_no_command_is_refused(lasting: tuple[ServerProcess, Path], line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(lasting[1] / "control"))
        connection.sendall(line)
        connection.shutdown(socket.SHUT_WR)
        assert b"that is no command" in connection.recv(1000)


def test_an_endless_command_is_cut_off(lasting: tuple[ServerProcess, Path]) -> None:
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(20)
        connection.connect(str(lasting[1] / "control"))
        with pytest.raises(ConnectionError):
            connection.sendall(b"x" * 10_000_000)
    assert status(lasting[1])["state"] == "serving"
