"""OpenTelemetry traces of the whole server, at a collector."""

from __future__ import annotations

import json
import os
import secrets
import signal
import socket
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import msgspec
import pytest
from openai_calls import with_template
from server_process import ServerProcess, completion, read_all
from toy_tokenizer import VOCAB_SIZE, write_toy_bundle
from trace_collector import Trace, TraceCollector

from runtime.executors.scripted import Script

SCRIPT = Script(vocab_size=VOCAB_SIZE, first_token=98, step_seconds=0.005, max_sequence_tokens=1024)
SERVER, INTERNAL = 2, 1
UNSET, ERROR = 0, 2
SECRET = "hush hush"


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer, a template, and a script instead of a model."""
    path = write_toy_bundle(tmp_path_factory.mktemp("bundle"))
    with_template(path)
    (path / "script.json").write_bytes(msgspec.json.encode(SCRIPT))
    return path


@pytest.fixture(scope="module")
def collector() -> Iterator[TraceCollector]:
    with TraceCollector() as collector:
        yield collector


def start(bundle: Path, endpoint: str, *flags: str, **environ: str) -> ServerProcess:
    settings = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": endpoint,
        "OTEL_EXPORTER_OTLP_HEADERS": "x-team=blue",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment=test",
        "OTEL_BSP_SCHEDULE_DELAY": "50",
    }
    return ServerProcess(str(bundle), "--executor", "scripted", "--port", "0", *flags, **(settings | environ))


@pytest.fixture(scope="module")
def server(bundle: Path, collector: TraceCollector) -> Iterator[ServerProcess]:
    """A traced server with two workers for tests that leave it as it was."""
    with start(bundle, collector.endpoint, "--httpserver_workers", "2", "--max_body_bytes", "5000") as server:
        yield server.wait_until_serving()


class Client:
    """Sends requests, each with a trace of its own."""

    def __init__(self, server: ServerProcess, collector: TraceCollector) -> None:
        self.server, self.collector = server, collector
        self.trace_id, self.span_id = secrets.token_hex(16), secrets.token_hex(8)

    @property
    def parent(self) -> str:
        return f"00-{self.trace_id}-{self.span_id}-01"

    def send(self, path: str, body: Any, status: int = 200, **headers: str) -> tuple[Trace, bytes]:
        """A request, and the trace of it."""
        headers = {"traceparent": self.parent} | {name.replace("_", "-"): value for name, value in headers.items()}
        got, _, content = self.server.request("POST", path, body, headers)
        assert got == status, content
        return self.trace(), content

    def open(self, path: str, body: Any) -> socket.socket:
        """A request that goes on."""
        connection = socket.create_connection(("127.0.0.1", self.server.port), timeout=30)
        content = json.dumps(body).encode()
        head = (
            f"POST {path} HTTP/1.1\r\nHost: x\r\ntraceparent: {self.parent}\r\nContent-Length: {len(content)}\r\n\r\n"
        )
        connection.sendall(head.encode() + content)
        return connection

    def trace(self) -> Trace:
        return self.collector.trace(self.trace_id)


@pytest.fixture
def client(server: ServerProcess, collector: TraceCollector) -> Client:
    return Client(server, collector)


def test_a_request_is_a_span_below_the_clients_with_its_phases_below_it(client: Client) -> None:
    before = time.time_ns()
    body = {"inputs": SECRET, "parameters": {"max_new_tokens": 7, "do_sample": True, "temperature": 0.5, "top_p": 0.75}}
    trace, _ = client.send("/generate", body, tracestate="vendor=value", X_Request_Id="ticket-7")
    span = trace.server
    assert (span.name, span.kind, span.parent_id) == ("POST /generate", SERVER, client.span_id)
    assert (span.trace_state, span.status) == ("vendor=value", UNSET)
    first = span.attributes.pop("gen_ai.response.time_to_first_chunk")
    assert span.attributes == {
        "http.request.method": "POST",
        "http.request.header.x-request-id": ["ticket-7"],
        "http.route": "/generate",
        "http.response.status_code": 200,
        "url.path": "/generate",
        "url.scheme": "http",
        "gen_ai.operation.name": "text_completion",
        "gen_ai.provider.name": "peregrine",
        "gen_ai.request.model": "default_model_name",
        "gen_ai.response.model": "default_model_name",
        "gen_ai.request.stream": False,
        "gen_ai.request.max_tokens": 7,
        "gen_ai.request.choice.count": 1,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 0.75,
        "gen_ai.usage.input_tokens": len(SECRET),
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.response.finish_reasons": ["length"],
        "peregrine.runs": 1,
    }
    assert [(phase.name, phase.kind) for phase in trace.phases] == [
        ("validate", INTERNAL),
        ("queue", INTERNAL),
        ("prefill", INTERNAL),
        ("decode", INTERNAL),
    ]
    assert len(trace.spans) == 5
    ends = [phase.end for phase in trace.phases]
    assert [phase.start for phase in trace.phases[1:]] == ends[:3]
    assert before <= span.start <= trace.phases[0].start
    assert ends[3] <= span.end <= time.time_ns()
    assert span.events == {"first_token": ends[2]}
    assert ends[2] - span.start == pytest.approx(first * 1e9, abs=1e6)
    assert ends[3] - ends[2] > 6 * SCRIPT.step_seconds * 1e9
    assert len({phase.attributes["peregrine.run"] for phase in trace.phases}) == 1


def test_the_environment_names_service_and_headers(client: Client, collector: TraceCollector) -> None:
    resource = client.send("/generate", completion(1))[0].server.resource
    assert resource["service.name"] == "peregrine"
    assert resource["deployment.environment"] == "test"
    assert {"service.version", "process.pid", "telemetry.sdk.name"} <= resource.keys()
    assert collector.headers[0]["x-team"] == "blue"


CHAT = {"model": "m", "messages": [{"role": "user", "content": SECRET}], "max_tokens": 5}


@pytest.mark.parametrize(
    ("path", "body", "operation", "tokens", "stream"),
    [
        ("/", completion(5) | {"stream": True}, "text_completion", 5, True),
        ("/generate_stream", completion(5), "text_completion", 5, True),
        ("/v1/completions", {"model": "m", "prompt": "hi", "max_tokens": 5}, "text_completion", 5, False),
        (
            "/v1/completions",
            {"model": "m", "prompt": "hi", "max_tokens": 5, "stream": True},
            "text_completion",
            5,
            True,
        ),
        ("/v1/chat/completions", CHAT, "chat", 5, False),
        ("/v1/chat/completions", CHAT | {"n": 2, "stream": True}, "chat", 10, True),
    ],
)
def test_every_way_to_generate_is_traced(
    client: Client, path: str, body: Any, operation: str, tokens: int, stream: bool
) -> None:
    span = client.send(path, body)[0].server
    assert span.name == f"POST {path}"
    assert span.attributes["gen_ai.operation.name"] == operation
    assert span.attributes["gen_ai.usage.output_tokens"] == tokens
    assert span.attributes["gen_ai.request.stream"] == stream
    assert "first_token" in span.events
    assert "error.type" not in span.attributes


def test_calls_that_need_no_engine_have_a_span_alone(client: Client) -> None:
    trace, _ = client.send("/tokens", {"text": SECRET})
    assert [(span.name, span.attributes["http.response.status_code"]) for span in trace.spans] == [
        ("POST /tokens", 200)
    ]


def test_the_outputs_of_a_prompt_share_its_phases(client: Client) -> None:
    body = {"inputs": "hi", "parameters": {"max_new_tokens": 3, "best_of": 2, "n": 2, "ignore_eos": True}}
    trace, _ = client.send("/generate", body)
    assert trace.server.attributes["gen_ai.request.choice.count"] == 2
    assert trace.server.attributes["gen_ai.usage.output_tokens"] == 6
    assert trace.server.attributes["gen_ai.response.finish_reasons"] == ["length", "length"]
    assert len(trace.phases) == 4


def test_each_prompt_of_a_call_has_phases_up_to_a_limit(client: Client) -> None:
    body = {"model": "m", "prompt": ["a", "bb", "ccc"] * 8, "max_tokens": 2}
    trace, _ = client.send("/v1/completions", body)
    assert trace.server.attributes["peregrine.runs"] == 24
    assert trace.server.attributes["gen_ai.usage.input_tokens"] == 6 * 8
    assert trace.server.attributes["gen_ai.usage.output_tokens"] == 2 * 24
    assert len(trace.phases) == 1 + 3 * 16


@pytest.mark.parametrize("flags", ["00", "02"])
def test_what_the_client_does_not_sample_is_not_sent(client: Client, collector: TraceCollector, flags: str) -> None:
    unsampled = secrets.token_hex(16)
    for _ in range(4):
        header = {"traceparent": f"00-{unsampled}-{client.span_id}-{flags}"}
        assert client.server.request("POST", "/generate", completion(1), header)[0] == 200
    client.send("/generate", completion(1))
    assert not [span for span in collector.spans if span.trace_id == unsampled]


@pytest.mark.parametrize("header", ["", "nonsense", "00-" + "0" * 32 + "-" + "1" * 16 + "-01", "é"])
def test_without_a_usable_parent_a_trace_begins_here(client: Client, collector: TraceCollector, header: str) -> None:
    mark = secrets.token_hex(8)
    headers = {"traceparent": header, "tracestate": "\x80,=,", "x-request-id": mark}
    assert client.server.request("POST", "/generate", completion(1), headers)[0] == 200

    def mine(span: Any) -> bool:
        return span.attributes.get("http.request.header.x-request-id") == [mark]

    collector.wait_for(lambda spans: any(map(mine, spans)))
    (span,) = filter(mine, collector.spans)
    assert (span.parent_id, len(span.trace_id)) == ("", 32)


@pytest.mark.parametrize(
    ("path", "body", "status", "kind"),
    [
        ("/generate", {"inputs": SECRET, "parameters": {"max_new_tokens": 0}}, 417, "invalid_value"),
        ("/generate", {"inputs": SECRET * 150, "parameters": {"max_new_tokens": 1}}, 417, "too_long"),
        ("/v1/completions", {"model": "m", "prompt": SECRET, "stop": [SECRET] * 11}, 400, "invalid_value"),
        ("/v1/completions", {"model": "m", "prompt": {SECRET: 1}}, 422, "invalid_type"),
        ("/generate", {"inputs": SECRET * 1000, "parameters": {}}, 413, "413"),
        ("/nowhere", {"inputs": SECRET}, 404, "404"),
    ],
)
def test_a_clients_mistake_is_named_but_no_error_of_the_server(
    client: Client, path: str, body: Any, status: int, kind: str
) -> None:
    trace, _ = client.send(path, body, status)
    span = trace.server
    assert (span.attributes["http.response.status_code"], span.status) == (status, UNSET)
    assert span.attributes["error.type"] == kind
    assert len(trace.spans) == 1
    assert span.name == ("POST" if status in (404, 413) else f"POST {path}")


def test_who_leaves_is_no_error(client: Client) -> None:
    connection = client.open("/generate_stream", completion(900))
    assert b"200" in connection.recv(64)
    connection.close()
    span = client.trace().server
    assert span.attributes["error.type"] == "client_gone"
    assert span.attributes["gen_ai.response.finish_reasons"] == ["abort"]
    assert 1 <= span.attributes["gen_ai.usage.output_tokens"] < 900
    assert span.status == UNSET


def test_probes_and_pages_are_left_out(client: Client, collector: TraceCollector) -> None:
    for path in ("/health", "/metrics", "/readiness", "/ui", "/ui/state", "/docs"):
        assert client.server.request("GET", path)[0] == 200
    client.send("/generate", completion(1))
    paths = {span.attributes.get("url.path") for span in collector.spans}
    assert not paths & {"/health", "/metrics", "/readiness", "/ui", "/ui/state", "/docs"}


def test_no_span_says_what_was_asked(client: Client, collector: TraceCollector) -> None:
    client.server.request("GET", "/tokens?text=hush%20hush", headers={"traceparent": client.parent})
    assert client.trace().server.name == "GET /tokens"
    assert b"hush" not in collector.raw


def test_a_refused_request_is_an_error_with_its_reason(bundle: Path, collector: TraceCollector) -> None:
    with start(bundle, collector.endpoint, "--max_queued", "0") as server:
        server.wait_until_serving()
        for path, status in (("/generate", 503), ("/v1/completions", 429)):
            client = Client(server, collector)
            trace, _ = client.send(path, completion(1) | {"model": "m", "prompt": "hi"}, status)
            assert trace.server.attributes["error.type"] == "queue_full"
            assert (trace.server.status, trace.server.reason) == (ERROR, "the queue of 0 requests is full")
            assert [phase.name for phase in trace.phases] == ["validate", "queue"]


def test_each_score_of_a_call_is_traced(tmp_path: Path, collector: TraceCollector) -> None:
    bundle = write_toy_bundle(tmp_path)
    (bundle / "script.json").write_bytes(msgspec.json.encode(msgspec.structs.replace(SCRIPT, scores=True)))
    with start(bundle, collector.endpoint) as server:
        server.wait_until_serving()
        trace, _ = Client(server, collector).send("/get_score", {"chat": ["abc", "de"]})
        span = trace.server
        assert (span.name, span.attributes["gen_ai.operation.name"]) == ("POST /get_score", "score")
        assert span.attributes["gen_ai.usage.input_tokens"] == 5
        assert span.attributes["gen_ai.usage.output_tokens"] == 0
        assert span.attributes["gen_ai.response.finish_reasons"] == ["stop", "stop"]
        assert [phase.name for phase in trace.phases].count("prefill") == 2
        assert "decode" not in {phase.name for phase in trace.phases}
        trace, _ = Client(server, collector).send("/generate", completion(1), 417)
        assert trace.server.attributes["error.type"] == "unsupported"


def test_a_lost_engine_is_an_error_and_the_last_spans_are_sent_at_the_end(
    bundle: Path, collector: TraceCollector
) -> None:
    with start(bundle, collector.endpoint, OTEL_BSP_SCHEDULE_DELAY="600000", OTEL_SERVICE_NAME="mine") as server:
        server.wait_until_serving()
        client = Client(server, collector)
        stream = client.open("/generate_stream", completion(900))
        assert b"200" in stream.recv(64)
        with suppress(ProcessLookupError):
            os.kill(server.engine_pid(), signal.SIGKILL)
        read_all(stream)
        idle = server.connect()
        server.on(idle, "GET", "/health")
        server.signal(signal.SIGTERM)
        assert server.exit_status(15) == 0
        idle.close()
        span = client.trace().server
        assert (span.status, span.reason) == (ERROR, "the engine stopped; try again")
        assert span.attributes["error.type"] == "unavailable"
        assert span.attributes["gen_ai.response.finish_reasons"] == ["error"]
        assert span.resource["service.name"] == "mine"


def test_a_dead_collector_costs_nothing_but_a_line(bundle: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:  # takes connections and never answers
        endpoint = f"http://127.0.0.1:{mute.getsockname()[1]}"
        small = {"OTEL_BSP_MAX_QUEUE_SIZE": "8", "OTEL_BSP_MAX_EXPORT_BATCH_SIZE": "4"}
        with start(bundle, endpoint, OTEL_EXPORTER_OTLP_TIMEOUT="1", **small) as server:
            server.wait_until_serving()
            for _ in range(40):
                began = time.monotonic()
                assert server.request("POST", "/generate", completion(1))[0] == 200
                assert time.monotonic() - began < 1
            server.wait_for("WARNING traces: ")
            began = time.monotonic()
            server.signal(signal.SIGTERM)
            assert server.exit_status(15) == 0
            assert time.monotonic() - began < 6
            assert server.output.count("traces: ") == 1
            assert "Traceback" not in server.output


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc: only http/protobuf"),
        ({"OTEL_BSP_MAX_QUEUE_SIZE": "0"}, "a variable of OpenTelemetry's cannot be used"),
    ],
)
def test_what_cannot_be_had_is_said_and_the_server_serves(
    bundle: Path, environ: dict[str, str], complaint: str
) -> None:
    with start(bundle, "http://127.0.0.1:9", **environ) as server:
        server.wait_until_serving()
        assert server.output.count(complaint) == 1
        assert server.request("POST", "/generate", completion(1))[0] == 200
        assert "Traceback" not in server.output
