"""Whether the environment asks for traces, by OpenTelemetry's own variables, and whether it can have them."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.util import find_spec

_ENDPOINTS = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")
_PROTOCOLS = ("OTEL_EXPORTER_OTLP_TRACES_PROTOCOL", "OTEL_EXPORTER_OTLP_PROTOCOL")
_PACKAGES = ("opentelemetry.sdk.trace", "opentelemetry.exporter.otlp.proto.http")


def wanted(environ: Mapping[str, str]) -> bool:
    """Whether traces are asked for: an endpoint is named, or the exporter ``otlp``, which has a default endpoint."""
    if _value(environ, "OTEL_SDK_DISABLED").lower() == "true":
        return False
    exporter = _value(environ, "OTEL_TRACES_EXPORTER")
    return exporter != "none" and bool(exporter or any(_value(environ, name) for name in _ENDPOINTS))


def obstacle(environ: Mapping[str, str]) -> str:
    """Why the traces that are asked for cannot be had, for the operator; empty if they can."""
    exporter = _value(environ, "OTEL_TRACES_EXPORTER") or "otlp"
    if exporter != "otlp":
        return f"OTEL_TRACES_EXPORTER={exporter}: only otlp and none are known here"
    name = next((name for name in _PROTOCOLS if _value(environ, name)), "")
    if name and _value(environ, name) != "http/protobuf":
        return f"{name}={_value(environ, name)}: only http/protobuf is spoken here (collectors take it on port 4318)"
    if not all(map(_installed, _PACKAGES)):
        return "OpenTelemetry's packages are not installed: pip install 'peregrine-llm[otel]'"
    return ""


def _value(environ: Mapping[str, str], name: str) -> str:
    return environ.get(name, "").strip()


def _installed(package: str) -> bool:
    try:
        return find_spec(package) is not None
    except ModuleNotFoundError:
        return False
