"""OpenTelemetry's SDK, set up by its own environment variables."""

from __future__ import annotations

import os

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor

from server.build_info import server_version

NAME = "peregrine"


def make_provider() -> TracerProvider:
    """A provider whose spans a thread of its own sends to the collector.

    Spans wait in a bounded queue (``OTEL_BSP_MAX_QUEUE_SIZE``, 2048); the oldest are dropped where the collector
    does not keep up.

    Raises:
        ValueError: A variable has no usable value.
    """
    provider = TracerProvider(resource=_resource(), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
    return provider


def _resource() -> Resource:
    """What the environment says about this service; its name and version where that says nothing."""
    defaults = Resource({SERVICE_NAME: NAME, SERVICE_VERSION: server_version(), "process.pid": os.getpid()})
    said = Resource.create()
    if str(said.attributes[SERVICE_NAME]).startswith("unknown_service"):
        said = Resource({name: value for name, value in said.attributes.items() if name != SERVICE_NAME})
    return defaults.merge(said)
