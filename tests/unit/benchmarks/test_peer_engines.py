"""How engines are spoken to: the worker protocol, and the dialects of HTTP."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import ClassVar

import pytest

from benchmarks.peers import contender
from benchmarks.peers.errors import PeerError, last_line
from benchmarks.peers.http_engine import LIGHTLLM, LLAMA, OPENAI, Dialect, HttpEngine
from benchmarks.peers.processes import limited, started
from benchmarks.peers.worker_engine import WorkerEngine
from benchmarks.processes import process_tree

WORKER = """
import sys
sys.path.insert(0, {folder!r})
import protocol

def generate(model, prompts, new_tokens, clock):
    print("noise on standard output")
    if new_tokens > 8:
        raise ValueError("too long")
    if new_tokens == 7:
        raise SystemExit("out of memory")
    for _ in range(new_tokens):
        for request in range(len(prompts)):
            clock.got(request)

protocol.serve(lambda: print("loading"), generate)
"""


@contextmanager
def worker(folder: Path, script: str = WORKER) -> Iterator[WorkerEngine]:
    path, log = folder / "worker.py", folder / "log"
    path.write_text(script.format(folder=str(Path(contender.__file__).parent / "workers")))
    with started([sys.executable, str(path)], log, {}, pipes=True) as process, limited(process, 60):
        yield WorkerEngine(process, log)


def test_a_worker_answers_with_times_and_counts_whatever_its_libraries_print(tmp_path: Path) -> None:
    with worker(tmp_path) as engine:
        engine.wait_until_ready()
        first, second = engine.generate([[1, 2], [3, 4]], 5)
        assert first.tokens == second.tokens == 5
        assert 0 < first.began <= first.first <= first.ended
        assert engine.root in process_tree(engine.root)
    assert "noise" in (tmp_path / "log").read_text()


def test_a_worker_that_fails_says_why_and_goes_on(tmp_path: Path) -> None:
    with worker(tmp_path) as engine:
        engine.wait_until_ready()
        with pytest.raises(PeerError, match="ValueError: too long"):
            engine.generate([[1]], 9)
        assert engine.generate([[1]], 1)[0].tokens == 1


def test_a_worker_that_ends_leaves_its_last_words(tmp_path: Path) -> None:
    with worker(tmp_path) as engine:
        engine.wait_until_ready()
        with pytest.raises(PeerError, match="the worker ended: out of memory"):
            engine.generate([[1]], 7)
    with (
        worker(tmp_path, "raise SystemExit('no such module')") as engine,
        pytest.raises(PeerError, match="no such module"),
    ):
        engine.wait_until_ready()


def test_a_peer_over_its_time_is_ended(tmp_path: Path) -> None:
    with (
        started(["sleep", "60"], tmp_path / "log", {}, pipes=True) as process,
        limited(process, 0.0),
        pytest.raises(PeerError, match="the worker ended"),
    ):
        WorkerEngine(process, tmp_path / "log").wait_until_ready()
    assert process.returncode == -9


class Answers(BaseHTTPRequestHandler):
    """Answers each path with its events."""

    EVENTS: ClassVar[dict[str, list[str]]] = {
        "/generate_stream": ['{"token": 1}', '{"token": 2}', '{"token": 3}'],
        "/completion": ['{"tokens_predicted": 1}', '{"tokens_predicted": 3, "stop": true}'],
        "/v1/completions": ['{"usage": null}', "{}", '{"choices": [], "usage": {"completion_tokens": 3}}', "[DONE]"],
    }

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        known = self.path in self.EVENTS
        self.send_response(200 if known else 404)
        self.end_headers()
        for event in self.EVENTS.get(self.path, ["no such path"]):
            self.wfile.write(f"data: {event}\n\n".encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def port() -> Iterator[int]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answers) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server.server_port
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("dialect", [LIGHTLLM, LLAMA, OPENAI], ids=lambda dialect: dialect.path)
def test_tokens_are_counted_as_each_server_tells_them(port: int, dialect: Dialect) -> None:
    for completion in HttpEngine(1, port, dialect).generate([[1, 2], [3, 4]], 3):
        assert completion.tokens == 3
        assert completion.began <= completion.first <= completion.ended


def test_a_refusal_is_a_peers_error_with_the_servers_words(port: int) -> None:
    dialect = Dialect("/nowhere", LIGHTLLM.body, LIGHTLLM.tokens)
    with pytest.raises(PeerError, match="404"):
        HttpEngine(1, port, dialect).generate([[1]], 3)


def test_every_dialect_asks_for_greedy_tokens_past_the_end_of_text() -> None:
    assert LIGHTLLM.body([5], 7)["parameters"] == {"max_new_tokens": 7, "ignore_eos": True, "do_sample": False}
    for dialect, length in ((LLAMA, "n_predict"), (OPENAI, "max_tokens")):
        body = dialect.body([5], 7)
        assert (body["prompt"], body[length], body["ignore_eos"], body["temperature"]) == ([5], 7, True, 0)


def test_the_last_line_of_a_log_is_its_reason() -> None:
    assert last_line("Collecting torch\nERROR: no match\n\n") == "ERROR: no match"
    assert last_line("") == "no output"
