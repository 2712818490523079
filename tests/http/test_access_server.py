"""Keys and certificates against the whole server: supervisor, an engine with a scripted model, gunicorn."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest
from server_process import ServerProcess, completion, descendants
from toy_tokenizer import VOCAB_SIZE, write_toy_bundle

from runtime.executors.scripted import Script
from server.health_command import main as health

ALICE, BOB, CAROL = "alices-secret-key-1", "bobs-secret-key-22", "carols-secret-key-3"
TEXT = "a text of more than a block of tokens, " * 3


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer, and a script instead of a model."""
    path = write_toy_bundle(tmp_path_factory.mktemp("bundle"))
    script = Script(vocab_size=VOCAB_SIZE, first_token=98, step_seconds=0.002, max_sequence_tokens=1024)
    (path / "script.json").write_bytes(msgspec.json.encode(script))
    return path


def start(bundle: Path, *flags: str, **environ: str) -> ServerProcess:
    return ServerProcess(str(bundle), "--executor", "scripted", "--port", "0", *flags, **environ)


@pytest.fixture(scope="module")
def server(bundle: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with keys in a file and one in its environment; its run directory is under ``server.folder``."""
    folder = tmp_path_factory.mktemp("tmp")
    keys = folder / "keys.toml"
    keys.touch(0o600)
    keys.write_text(f'[alice]\nkey = "{ALICE}"\nmax_running = 1\n[bob]\nkey = "{BOB}"\n')
    flags = ("--api_key_file", str(keys), "--log_format", "json", "--max_body_bytes", "100000")
    with start(bundle, *flags, TMPDIR=str(folder), PEREGRINE_API_KEYS=f"carol:{CAROL}") as server:
        yield server.wait_until_serving()


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


def cached_tokens(server: ServerProcess, key: str) -> int:
    """How much of ``TEXT`` a tenant found in the prefix cache."""
    body = {"model": "default", "prompt": TEXT, "max_tokens": 1}
    status, _, content = server.request("POST", "/v1/completions", body, bearer(key))
    assert status == 200
    return int(json.loads(content)["usage"]["prompt_tokens_details"]["cached_tokens"])


def test_nobody_finds_another_ones_prompt_in_the_prefix_cache(server: ServerProcess) -> None:
    assert cached_tokens(server, ALICE) == 0
    assert cached_tokens(server, ALICE) > 16
    assert cached_tokens(server, BOB) == 0
    assert cached_tokens(server, BOB) > 16


def test_a_stranger_is_answered_whatever_he_sends(server: ServerProcess) -> None:
    with socket.create_connection(("127.0.0.1", server.port), timeout=30) as connection:
        connection.sendall(b"POST /generate HTTP/1.1\r\nHost: x\r\nContent-Length: 20000000\r\n\r\n")
        connection.sendall(b"x" * 20_000_000)
        answer = connection.recv(65536)
    assert answer.startswith(b"HTTP/1.1 401 ")
    assert b"www-authenticate: bearer" in answer.lower()


def test_a_connection_survives_a_refusal(server: ServerProcess) -> None:
    connection = server.connect()
    assert server.on(connection, "POST", "/generate", completion(1))[0] == 401
    assert server.on(connection, "POST", "/generate", completion(1), bearer(ALICE))[0] == 200
    connection.close()


def test_keys_are_nowhere_but_in_their_file(server: ServerProcess) -> None:
    server.request("POST", "/generate", completion(1), bearer(ALICE))
    server.request("POST", "/generate", completion(1), bearer(ALICE[:-1] + "2"))
    server.wait_for('"reason": "the API key is not valid"')
    (folder,) = [path for path in server_folder(server).iterdir() if path.is_dir()]
    shown = [server.output.encode()]
    shown += [path.read_bytes() for path in folder.rglob("*") if path.is_file()]
    for pid in descendants(server.process.pid):
        shown += [Path(f"/proc/{pid}/{name}").read_bytes() for name in ("cmdline", "environ")]
    for content in shown:
        for key in (ALICE, BOB, CAROL, "secret"):
            assert key.encode() not in content


def server_folder(server: ServerProcess) -> Path:
    environ = Path(f"/proc/{server.process.pid}/environ").read_bytes().split(b"\0")
    (folder,) = [entry.removeprefix(b"TMPDIR=") for entry in environ if entry.startswith(b"TMPDIR=")]
    return Path(folder.decode())


def test_every_line_is_json_where_that_is_asked_for(server: ServerProcess) -> None:
    lines = [json.loads(line) for line in server.output.splitlines()]
    assert {"http", "supervisor"} <= {line["process"] for line in lines}


def test_lines_of_json_tell_whose_request_it_was(server: ServerProcess) -> None:
    headers = bearer(CAROL) | {"X-Request-Id": "ticket-7"}
    _, found, _ = server.request("POST", "/generate", completion(2), headers)
    assert found["x-request-id"] == "ticket-7"
    line = json.loads(server.wait_for(r'\{.*"ticket-7".*\}')[0])
    expected = {"message": "request", "tenant": "carol", "process": "http", "finish": "length"}
    assert line | expected == line


@pytest.mark.parametrize(
    ("flags", "environ", "names"),
    [
        (["--api-key", "a-secret-of-somebody"], {}, "--api_key_file or PEREGRINE_API_KEYS"),
        (["--api_key_file", "/nonexistent"], {}, "--api_key_file /nonexistent: No such file"),
        ([], {"PEREGRINE_API_KEYS": "a-secret"}, "PEREGRINE_API_KEYS, entry 1"),
        (["--public_metrics"], {}, "with API keys only"),
        (["--cors_origin", "*"], {"PEREGRINE_API_KEYS": CAROL}, "with API keys the sites have to be named"),
        (["--cors_origin", "example.com"], {}, "--cors_origin example.com: need an origin"),
        (["--ssl_keyfile", "x"], {}, "need --ssl_certfile"),
        (["--ssl_certfile", "/nonexistent"], {}, "--ssl_certfile /nonexistent: No such file"),
        (["--ssl_certfile", __file__], {}, f"--ssl_certfile {__file__}: "),
    ],
)
def test_mistakes_of_the_operator_are_one_clear_message(flags: list[str], environ: dict[str, str], names: str) -> None:
    with ServerProcess("--port", "0", *flags, **environ) as server:
        assert server.exit_status() == 2
        assert names in server.output
        assert "Traceback" not in server.output
        assert "secret" not in server.output


def make_certificate(folder: Path, name: str) -> Path:
    """A certificate of its own authority, and its key, in one file."""
    path, key = folder / f"{name}.pem", folder / f"{name}.key"
    names = ("-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1")
    kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-noenc", "-days", "2")
    command = ["openssl", "req", "-x509", *kind, *names, "-keyout", str(key), "-out", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    path.write_text(path.read_text() + key.read_text())
    return path


needs_openssl = pytest.mark.skipif(shutil.which("openssl") is None, reason="openssl makes the certificates")


@pytest.fixture
def certificates(tmp_path: Path) -> tuple[Path, Path]:
    """A server's and a client's."""
    return make_certificate(tmp_path, "server"), make_certificate(tmp_path, "client")


def https(server: ServerProcess, authority: Path, certificate: Path | None = None) -> http.client.HTTPSConnection:
    context = ssl.create_default_context(cafile=str(authority))
    if certificate is not None:
        context.load_cert_chain(certificate)
    return http.client.HTTPSConnection("127.0.0.1", server.port, timeout=30, context=context)


def asked(connection: http.client.HTTPSConnection, path: str, body: Any) -> tuple[int, bytes]:
    connection.request("POST", path, json.dumps(body))
    response = connection.getresponse()
    return response.status, response.read()


@needs_openssl
def test_https_is_spoken_and_nothing_else(bundle: Path, certificates: tuple[Path, Path]) -> None:
    own, client = certificates
    key = own.with_suffix(".key")
    flags = ("--ssl-certfile", str(own), "--ssl-keyfile", str(key), "--ssl-ca-certs", str(client))
    with start(bundle, *flags) as server:
        server.wait_until_serving()
        assert f"on https://127.0.0.1:{server.port}" in server.output
        connection = https(server, own, client)
        assert asked(connection, "/generate", completion(3))[0] == 200
        status, stream = asked(connection, "/generate_stream", completion(300))
        assert (status, stream.count(b"data:")) == (200, 300)
        connection.close()
        with closing(https(server, own)) as stranger, pytest.raises((ssl.SSLError, ConnectionError)):
            asked(stranger, "/generate", completion(1))
        with pytest.raises((http.client.HTTPException, ConnectionError)):
            server.request("GET", "/health")
        server.signal(signal.SIGTERM)
        assert server.exit_status() == 0
        assert "Traceback" not in server.output


@needs_openssl
def test_a_health_check_asks_over_https(
    bundle: Path, certificates: tuple[Path, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    own, client = certificates
    with start(bundle, "--ssl_certfile", str(own), "--ssl_ca_certs", str(client)) as server:
        server.wait_until_serving()
        for flags, status, said in [
            (["--ssl_ca_certs", own, "--ssl_certfile", client], 0, "/readiness answers 200"),
            (["--insecure", "--ssl_certfile", client], 0, "/readiness answers 200"),
            (["--ssl_ca_certs", client, "--ssl_certfile", client], 1, "certificate verify failed"),
            (["--insecure"], 1, "does not answer"),
            (["--ssl_ca_certs", "/nonexistent"], 1, "No such file"),
            ([], 1, "does not answer"),
        ]:
            asking = ["--port", str(server.port), "--path", "/readiness", *map(str, flags)]
            assert health(asking) == status, flags
            assert said in "".join(capsys.readouterr())


@needs_openssl
def test_a_lost_certificate_ends_the_server_and_opens_no_plain_port(
    bundle: Path, certificates: tuple[Path, Path]
) -> None:
    own, _ = certificates
    with start(bundle, "--ssl_certfile", str(own)) as server:
        server.wait_until_serving()
        own.write_text("")
        master = next(pid for pid in descendants(server.process.pid) if pid != server.engine_pid())
        (worker,) = descendants(master)
        os.kill(worker, signal.SIGKILL)
        assert server.exit_status() == 1
        assert "the certificate cannot be used any more" in server.output


@needs_openssl
def test_a_key_with_a_passphrase_is_refused(certificates: tuple[Path, Path]) -> None:
    own, _ = certificates
    key = own.with_suffix(".key")
    locked = ["openssl", "pkcs8", "-topk8", "-in", str(key), "-out", str(key) + "8", "-passout", "pass:open sesame"]
    subprocess.run(locked, check=True, capture_output=True)
    with ServerProcess("--ssl_certfile", str(own), "--ssl_keyfile", f"{key}8") as server:
        assert server.exit_status() == 2
        assert "the key has a passphrase; need one without" in server.output
