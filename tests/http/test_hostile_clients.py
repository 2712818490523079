"""What hostile clients send over raw connections, and that nobody else notices."""

from __future__ import annotations

import os
import re
import select
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from server_process import ServerProcess, command_line, completion, descendants, read_all, wait_until
from toy_tokenizer import VOCAB_SIZE, write_toy_bundle

from runtime.executors.scripted import Script

HEAD_SECONDS, BODY_SECONDS, CONNECTIONS, BODY_BYTES = 1.0, 3.0, 120, 100_000
GET = b"GET /liveness HTTP/1.1\r\nHost: x\r\n\r\n"
BODY = b'{"inputs":"hi","parameters":{"max_new_tokens":1}}'
CHUNKED = b"Transfer-Encoding: chunked"


def post(*headers: bytes, body: bytes = BODY, length: bytes | None = None) -> bytes:
    """A request with ``headers`` and its right length, or another one, or none where that is empty."""
    said = b"%d" % len(body) if length is None else length
    lines = [b"POST /generate HTTP/1.1", b"Host: x", *headers, *([b"Content-Length: " + said] if said else [])]
    return b"\r\n".join([*lines, b"", body])


def chunked(*chunks: bytes, header: bytes = CHUNKED) -> bytes:
    """A request whose chunks are written as they are."""
    return post(header, body=b"".join(chunks), length=b"")


def get(*headers: bytes, target: bytes = b"/liveness") -> bytes:
    """A request without a body."""
    return b"\r\n".join([b"GET " + target + b" HTTP/1.1", b"Host: x", *headers, b"", b""])


SIZE, END = b"%x\r\n" % len(BODY), b"\r\n0\r\n\r\n"
WHOLE = SIZE + BODY + END
NESTED = b"[" * 40_000 + b"]" * 40_000
ATTACKS: dict[str, tuple[bytes, list[int]]] = {
    "both lengths": (post(CHUNKED, body=b"0\r\n\r\n" + GET), [400]),
    "both lengths, the second one short": (post(CHUNKED, body=WHOLE, length=b"3"), [400]),
    "two lengths": (post(b"Content-Length: 5"), [400]),
    "a length twice": (post(b"Content-Length: %d" % len(BODY)), [400]),
    "a list of lengths": (post(length=b"5, 5"), [400]),
    "a signed length": (post(length=b"+5"), [400]),
    "a negative length": (post(length=b"-5"), [400]),
    "a length in hexadecimal": (post(length=b"0x5"), [400]),
    "a length with an underscore": (post(length=b"5_0"), [400]),
    "a length of a thousand digits": (post(length=b"9" * 1000), [413]),
    "a length that is too short": (post(length=b"2", body=b"{}" + GET), [417, 200]),
    "a length that is too long": (post(length=b"50", body=b"{}"), [408]),
    "a folded header": (post(b"X: a\r\n b"), [400]),
    "bare line feeds": (GET.replace(b"\r\n", b"\n"), [400]),
    "one bare line feed": (get(b"A: b\nC: d"), [400]),
    "a blank before a colon": (post(b"Content-Length : 5", length=b""), [400]),
    "a tab before a colon": (chunked(WHOLE, header=b"Transfer-Encoding\t: chunked"), [400]),
    "an unknown transfer coding": (chunked(WHOLE, header=b"Transfer-Encoding: xchunked"), [501]),
    "a transfer coding behind chunked": (chunked(WHOLE, header=b"Transfer-Encoding: chunked, identity"), [400]),
    "a transfer coding before chunked": (chunked(WHOLE, header=b"Transfer-Encoding: gzip, chunked"), [415]),
    "a transfer coding with a control character": (chunked(WHOLE, header=b"Transfer-Encoding: \x0bchunked"), [400]),
    "chunked twice": (chunked(WHOLE, header=CHUNKED + b"\r\n" + CHUNKED), [400]),
    "chunked in HTTP/1.0": (chunked(WHOLE).replace(b"HTTP/1.1", b"HTTP/1.0"), [400]),
    "a chunk extension": (chunked(SIZE.replace(b"\r", b";a=b\r"), BODY, END) + GET, [200, 200]),
    "a line feed in a chunk extension": (chunked(SIZE.replace(b"\r", b";a\nb\r"), BODY, END), [400]),
    "a chunk's size with a prefix": (chunked(b"0x5\r\nhello", END), [400]),
    "a chunk's size below zero": (chunked(b"-1\r\nhello", END), [400]),
    "a chunk that is longer than its size": (chunked(b"3\r\nhello", END), [400]),
    "a chunk of 2^68 bytes": (chunked(b"F" * 17, b"\r\n", b"x" * 2 * BODY_BYTES), [413]),
    "a chunk's size without end": (chunked(b"0" * 100_000), [400]),
    "trailers without end": (chunked(b"0\r\n", b"A: b\r\n" * 50_000), [431]),
    "a length among the trailers": (chunked(SIZE, BODY, b"\r\n0\r\nContent-Length: 5\r\n\r\n"), [400]),
    "a request behind an error": (post(body=b"{") + GET, [417, 200]),
    "a request behind too much": (post(body=b"x" * 2 * BODY_BYTES) + GET, [413]),
    "a hundred requests at once": (GET * 100, [200] * 100),
    "chunks without end": (chunked(b"2000\r\n%b\r\n" % (b"x" * 0x2000) * 500), [413]),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0\0", [400]),
    "an upgrade to HTTP/2": (
        get(b"Upgrade: h2c", b"Connection: Upgrade, HTTP2-Settings", b"HTTP2-Settings: AAMA"),
        [200],
    ),
    "TLS": (bytes.fromhex("16030100f8010000f40303") + bytes(200), []),
    "a WebSocket": (
        get(
            b"Upgrade: websocket",
            b"Connection: Upgrade",
            b"Sec-WebSocket-Version: 13",
            b"Sec-WebSocket-Key: " + b"A" * 22 + b"==",
        ),
        [403],
    ),
    "a tunnel": (b"CONNECT example.org:443 HTTP/1.1\r\nHost: example.org\r\n\r\n", [404]),
    "an absolute address": (get(target=b"http://example.org/liveness"), [404]),
    "the way up": (get(target=b"/ui/%2e%2e/%2e%2e/etc/passwd"), [404]),
    "a long path": (get(target=b"/" + b"a" * 5000), [414]),
    "a path without end": (b"GET /" + b"a" * 500_000, [414]),
    "many headers": (get(*[b"A: b"] * 500), [431]),
    "a large header": (get(b"A: " + b"b" * 9000), [431]),
    "a header without end": (get(b"A: " + b"b" * 900_000)[:-4], [431]),
    "NUL in a header": (get(b"A: \0"), [400]),
    "NUL in a path": (get(target=b"/live\0ness"), [400]),
    "two hosts": (get(b"Host: y"), [400]),
    "an expectation": (post(b"Expect: 100-continue"), [200]),
    "an unknown method": (b"B\xffD / HTTP/1.1\r\nHost: x\r\n\r\n", [400]),
    "an unknown version": (GET.replace(b"1.1", b"3.0"), [400]),
    "HTTP/0.9": (b"GET /\r\n", [400]),
    "line ends alone": (b"\r\n" * 200_000, [400]),
    "all bytes": (bytes(range(256)) * 10, [400]),
    "compressed": (post(b"Content-Encoding: gzip", body=b"\x1f\x8b" + bytes(50)) + GET, [415, 200]),
    "deep arrays": (post(body=NESTED), [417]),
    "deep objects": (post(body=b'{"a":' * 15_000), [417]),
    "deep values of unknown names": (post(body=b'{"inputs":"a","parameters":{"x":%b}}' % NESTED), [417]),
    "a number of many digits": (post(body=b'{"inputs":"a","parameters":{"seed":%b}}' % (b"9" * 90_000)), [417]),
    "broken UTF-8": (post(body=b'{"inputs":"\xff","parameters":{}}'), [417]),
    "NUL in a text": (post(body=b'{"inputs":"a\0","parameters":{}}'), [417]),
    "half a surrogate pair": (post(body=b'{"inputs":"\\ud800","parameters":{}}'), [417]),
    "a name twice": (post(body=b'{"inputs":7,' + BODY[1:]), [417]),
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """A server with one HTTP worker and little patience."""
    bundle = write_toy_bundle(tmp_path_factory.mktemp("bundle"))
    script = Script(vocab_size=VOCAB_SIZE, first_token=98, step_seconds=0.002, max_sequence_tokens=1024)
    (bundle / "script.json").write_bytes(msgspec.json.encode(script))
    flags = [str(bundle), "--executor", "scripted", "--port", "0", "--httpserver_workers", "1"]
    limits = {"head_seconds": HEAD_SECONDS, "body_seconds": BODY_SECONDS, "worker_connections": CONNECTIONS}
    for name, value in (limits | {"max_body_bytes": BODY_BYTES}).items():
        flags += [f"--{name}", f"{value:g}"]
    with ServerProcess(*flags, LIGHTLMM_GUNICORN_KEEP_ALIVE="1") as server:
        yield server.wait_until_serving()


@pytest.fixture(autouse=True)
def unharmed(server: ServerProcess) -> Iterator[None]:
    """After each attack the same worker answers soon, with no more files open and not much more memory."""
    pid = worker(server)
    assert server.request("POST", "/generate", completion(1))[0] == 200
    files, memory = open_files(pid), resident(pid)
    yield
    began = time.monotonic()
    assert server.request("POST", "/generate", completion(1))[0] == 200
    assert time.monotonic() - began < 5
    assert worker(server) == pid
    wait_until(lambda: open_files(pid) <= files, "connections are left open")
    assert resident(pid) - memory < 64 * 2**20
    assert "Traceback" not in server.output


@pytest.fixture(scope="module")
def outcomes(server: ServerProcess) -> dict[str, list[int]]:
    """What each attack is answered, all of them at once, each on a connection of its own until that is closed."""
    left = {name: connect(server) for name in ATTACKS}
    unsent = {name: memoryview(data) for name, (data, _) in ATTACKS.items()}
    answers = dict.fromkeys(ATTACKS, b"")
    deadline = time.monotonic() + 20
    while left:
        assert time.monotonic() < deadline, f"still open: {[*left]}"
        readable, writable, _ = select.select([*left.values()], [left[name] for name in unsent if name in left], [], 5)
        for name, connection in [*left.items()]:
            try:
                if connection in writable:
                    unsent[name] = unsent[name][connection.send(unsent[name]) :]
                if not unsent.get(name, b"x"):
                    del unsent[name]
                part = connection.recv(2**16) if connection in readable else None
            except OSError:
                part = b""
            answers[name] += part or b""
            if part == b"":
                left.pop(name).close()
    return {
        name: [int(status) for status in re.findall(rb"HTTP/1\.[01] (\d+) ", data)] for name, data in answers.items()
    }


@pytest.mark.parametrize("name", ATTACKS)
def test_each_real_request_is_answered_once_and_what_is_none_is_refused(
    name: str, outcomes: dict[str, list[int]]
) -> None:
    assert [status for status in outcomes[name] if status != 100] == ATTACKS[name][1]


@pytest.mark.parametrize(
    "start", [b"", GET[:1], post(body=b"", length=b"%d" % BODY_BYTES)], ids=["silent", "slow head", "slow body"]
)
def test_who_sends_slowly_is_closed_and_keeps_nobody_waiting(start: bytes, server: ServerProcess) -> None:
    slow = [connect(server) for _ in range(20)]
    for connection in slow:
        connection.sendall(start)
    began, answers = time.monotonic(), dict.fromkeys(slow, b"")
    while slow:
        assert time.monotonic() - began < 20 * BODY_SECONDS
        assert server.request("GET", "/liveness")[0] == 200
        for connection in select.select(slow, [], [], 0.1)[0]:
            try:
                part = connection.recv(1000)
            except ConnectionResetError:
                part = b""
            answers[connection] += part
            if not part:
                slow.remove(connection)
                connection.close()
        for connection in slow if start else ():
            with suppress(OSError):  # it may have been closed since
                connection.sendall(b"X")
    wanted = b"HTTP/1.1 408 " if start.startswith(b"POST") else b""
    assert {answer[:13] for answer in answers.values()} == {wanted}


def test_idle_connections_make_room_for_others(server: ServerProcess) -> None:
    idle = [connect(server) for _ in range(CONNECTIONS + 10)]
    assert server.request("GET", "/liveness")[0] == 200
    for connection in idle:
        connection.setblocking(True)
        assert connection.recv(1) == b""
        connection.close()


def test_more_busy_connections_than_there_may_be_are_turned_away(server: ServerProcess) -> None:
    busy = []
    for _ in range(CONNECTIONS):
        connection = connect(server)
        busy.append(connection)
        connection.setblocking(True)
        connection.sendall(post(b"Expect: 100-continue")[: -len(BODY)])
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
    status, headers, _ = server.request("GET", "/liveness")
    assert (status, headers["retry-after"]) == (503, "1")
    for connection in busy:
        assert connection.recv(13) == b"HTTP/1.1 408 "
        connection.close()


def test_417_has_its_own_name(server: ServerProcess) -> None:
    connection = connect(server)
    connection.setblocking(True)
    connection.sendall(post(body=b"{"))
    assert connection.recv(100).startswith(b"HTTP/1.1 417 Expectation Failed\r\n")
    connection.close()


def test_a_stream_goes_on_beside_an_attack(server: ServerProcess) -> None:
    stream = server.stream(tokens=100)
    bombs = [connect(server) for _ in range(10)]
    for bomb in bombs:
        bomb.send(b"GET / HTTP/1.1\r\n" + b"A: b\r\n" * 10_000)
        bomb.close()
    assert read_all(stream).count(b'"token"') == 100


def connect(server: ServerProcess) -> socket.socket:
    """A connection that never waits."""
    connection = socket.create_connection(("127.0.0.1", server.port), timeout=20)
    connection.setblocking(False)
    return connection


def worker(server: ServerProcess) -> int:
    """The HTTP worker: gunicorn's only child."""
    (pid,) = [
        pid
        for master in descendants(server.process.pid)
        if "gunicorn" in command_line(master)
        for pid in descendants(master)
        if "gunicorn" in command_line(pid)
    ]
    return pid


def open_files(pid: int) -> int:
    """Descriptors of a process."""
    return len([*Path(f"/proc/{pid}/fd").iterdir()])


def resident(pid: int) -> int:
    """Bytes of a process in memory."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
