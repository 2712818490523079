"""What counting and tracing cost a request, in processor time: the layers alone, around an idle application.

    python -m benchmarks.exchanges [--tokens 64] [--rounds 15]

The variants take turns within one process, with metrics kept in files as under gunicorn and spans sent to a collector
in a process of its own; the least of all rounds counts. Time on the event loop's thread is what other requests wait
for; the whole process also encodes and sends.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.usage import at_least

REQUESTS = 400
SINK = """
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
class Sink(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_POST(self):
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()
    def log_message(self, *_):
        pass
server = ThreadingHTTPServer(("127.0.0.1", 0), Sink)
print(server.server_address[1], flush=True)
server.serve_forever()
"""
SAMPLED = b"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
UNSAMPLED = SAMPLED[:-2] + b"00"


@dataclass
class OneRun:
    """A finished generation of one output."""

    request: Any
    counts: Sequence[int]
    request_id: int = 1
    seconds_before: float = 0.001
    started: float = field(default_factory=time.perf_counter)
    first_token_at: float = field(default_factory=time.perf_counter)
    reasons: Sequence[str] = ("length",)
    failure: None = None

    def close(self) -> None:
        """Nothing is held."""


def main() -> int:
    """Measure and print; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.exchanges", description="What counting and tracing cost.")
    parser.add_argument("--tokens", type=at_least(1), default=64)
    parser.add_argument("--rounds", type=at_least(1), default=15)
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory() as files,
        subprocess.Popen([sys.executable, "-c", SINK], stdout=subprocess.PIPE, text=True) as sink,
    ):
        try:
            assert sink.stdout is not None
            # NOTE: both are read when the packages are imported.
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = files
            os.environ["OTEL_EXPORTER_OTLP_ENDPOINT"] = f"http://127.0.0.1:{sink.stdout.readline().strip()}"
            report(measure(arguments.tokens, arguments.rounds))
        finally:
            sink.kill()
    return 0


def measure(tokens: int, rounds: int) -> dict[str, tuple[float, float]]:
    """Microseconds a request of each variant: on the loop's thread, and of the whole process."""
    from prometheus_client import CollectorRegistry

    from runtime.messages import TokenOutput
    from runtime.request import SamplingParams
    from server.exchange import ExchangeMiddleware
    from server.http_metrics import CountExchanges, HttpMetrics
    from server.observer import Observers
    from server.tracing.tracing import Tracing
    from server.validation import ValidRequest

    tracing, metrics = Tracing("model"), HttpMetrics(CollectorRegistry())
    request = ValidRequest(prompt=[1] * 16, sampling=SamplingParams())
    output = TokenOutput(1, 0, 7, -0.5, queue_seconds=0.001)

    def application(observers: Observers) -> Any:
        async def app(_scope: Any, _receive: Any, send: Callable[[Any], Any]) -> None:
            run = OneRun(request, [tokens])
            observers.first_token(run, output)
            await send(
                {"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/event-stream")]}
            )
            for _ in range(tokens):
                observers.token(run, 0.01)
                await send({"type": "http.response.body", "body": b"", "more_body": True})
            observers.finished(run)

        return app

    counted = CountExchanges(lambda: metrics)
    plain, traced = application(Observers([])), application(Observers([tracing]))
    variants = {
        "nothing": (plain, SAMPLED),
        "counted": (ExchangeMiddleware(plain, [counted]), SAMPLED),
        "traced, not sampled": (ExchangeMiddleware(traced, [counted, tracing]), UNSAMPLED),
        "traced": (ExchangeMiddleware(traced, [counted, tracing]), SAMPLED),
    }
    best = dict.fromkeys(variants, (float("inf"), float("inf")))
    for _ in range(rounds):
        for name, (app, parent) in variants.items():
            loop, process = asyncio.run(_time(app, parent))
            best[name] = (min(best[name][0], loop), min(best[name][1], process))
    tracing.close()
    return best


async def _time(app: Any, parent: bytes) -> tuple[float, float]:
    async def send(_: Any) -> None:
        pass

    process, thread = time.process_time(), time.thread_time()
    for _ in range(REQUESTS):
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/generate_stream",
            "scheme": "http",
            "headers": [(b"host", b"x"), (b"accept", b"*/*"), (b"content-type", b"a"), (b"traceparent", parent)],
        }
        await app(scope, None, send)
    thread = time.thread_time() - thread
    await asyncio.sleep(0.3)  # until what has piled up is sent
    return thread / REQUESTS * 1e6, (time.process_time() - process) / REQUESTS * 1e6


def report(best: dict[str, tuple[float, float]]) -> None:
    """Print the differences."""
    loop, process = best["nothing"]
    sys.stdout.write(f"{'us a request more than nothing':32} {'event loop':>12} {'process':>12}\n")
    for name, (thread, whole) in best.items():
        sys.stdout.write(f"{name:32} {thread - loop:12.1f} {whole - process:12.1f}\n")


if __name__ == "__main__":
    sys.exit(main())
