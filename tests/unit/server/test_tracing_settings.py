"""When traces are asked for, and what stands in their way."""

from __future__ import annotations

import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from server.tracing.collector_log import CollectorLog
from server.tracing.settings import obstacle, wanted
from server.tracing.start import start_tracing

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4318"}


@pytest.mark.parametrize(
    ("environ", "verdict"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "mine"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": " "}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://collector/v1/traces"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "false"}, True),
    ],
)
def test_an_endpoint_asks_for_traces(environ: dict[str, str], verdict: bool) -> None:
    assert wanted(environ) == verdict


@pytest.mark.parametrize(
    ("environ", "complaint"),
    [
        ({}, ""),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"}, ""),
        ({"OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, "OTEL_EXPORTER_OTLP_PROTOCOL=grpc"),
        ({"OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "http/protobuf", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ""),
        ({"OTEL_TRACES_EXPORTER": "console"}, "OTEL_TRACES_EXPORTER=console"),
    ],
)
def test_what_cannot_be_had_is_named(environ: dict[str, str], complaint: str) -> None:
    assert obstacle(ENDPOINT | environ).startswith(complaint)
    assert bool(obstacle(ENDPOINT | environ)) == bool(complaint)


def test_what_is_not_asked_for_is_not_made() -> None:
    assert start_tracing({}, "model") is None
    assert start_tracing(ENDPOINT | {"OTEL_TRACES_EXPORTER": "zipkin"}, "model") is None


def test_without_an_endpoint_nothing_of_opentelemetry_is_imported() -> None:
    code = (
        "import os, sys, server.worker\n"
        "assert server.worker.start_tracing(os.environ, 'm') is None\n"
        "print([name for name in sys.modules if name.startswith(('opentelemetry', 'google.protobuf', 'requests'))])"
    )
    environ = {name: value for name, value in os.environ.items() if not name.startswith("OTEL_")}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ)
    assert run.stdout.strip() == "[]"


def test_missing_packages_are_one_line_for_the_operator(tmp_path: Path) -> None:
    shadow = tmp_path / "opentelemetry"
    shadow.mkdir()
    (shadow / "__init__.py").touch()
    code = "import os, server.tracing.settings as s; print(s.wanted(os.environ), s.obstacle(os.environ))"
    environ = os.environ | ENDPOINT | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environ)
    complaint = "OpenTelemetry's packages are not installed: pip install 'peregrine-llm[otel]'"
    assert run.stdout.strip() == f"True {complaint}"


def test_a_collector_that_is_down_is_mentioned_now_and_then(caplog: pytest.LogCaptureFixture) -> None:
    package = logging.getLogger("some.package")
    package.propagate = False
    rare, often = CollectorLog(seconds=3600), CollectorLog(seconds=0)
    package.addHandler(rare)
    for attempt in range(50):
        package.warning("attempt %d failed", attempt)
    assert [record.getMessage() for record in caplog.records] == ["traces: attempt 0 failed"]
    package.removeHandler(rare)
    package.addHandler(often)
    package.error("again")
    package.info("all is well")
    assert [record.getMessage() for record in caplog.records][1:] == ["traces: again"]
