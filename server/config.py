"""What gunicorn and its workers have to know; the supervisor writes it as JSON into its private directory."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import msgspec

from runtime.logs import LogFormat
from server.tls import TlsFiles

DEFAULT_BODY_LIMIT = 8 * 2**20
RUN_DIRECTORY_VARIABLE = "PEREGRINE_RUN_DIRECTORY"
"""Environment variable with the path of the private directory."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Configuration of the HTTP workers.

    Attributes:
        bundle: Directory with ``tokenizer.json`` and ``generation_config.json``.
        engine_socket: Filesystem path of the engine's endpoint.
        model_name: Answer of ``/get_model_name``.
        max_body_bytes: Larger request bodies are refused.
        body_seconds: How long a client may take to send one.
        strict_parameters: Unknown parameters are an error instead of being ignored.
        ignore_generation_config: Use LightLLM's defaults, not the model's.
        prompt_logprobs: ``/generate`` reports the log-probabilities of the prompt's tokens.
        truncation: What to do with too long prompts; ``None`` refuses them.
        tool_call_parser: Name of the format of tool calls; ``None`` has the model's files say.
        tgi: LightLLM's paths speak TGI's format.
        token_healing: The last tokens of prompts are drawn anew.
        first_token_constraint: Outputs begin with one of the tokens that the environment names.
        stall_seconds: How long a client may leave its answer unread.
        request_timeout: Seconds that a request may take at most; ``None`` for any number.
        overload_status: What LightLLM's paths answer when the queue is full.
        replay_seconds: How long a request waits for the next engine; 0 has it fail with the one that died.
        ui: Serve ``/ui`` and ``/docs``.
        log_level: Name of the lowest level logged.
        log_format: How the log looks.
        log_prompts: Write request bodies into the log.
        key_ring: What ``server.access.key_ring`` published; empty lets everybody in.
        public_metrics: ``/metrics`` needs no key.
        shared_prefix_cache: Tenants find each other's prompts in the prefix cache.
        cors_origins: Sites whose scripts may ask.
    """

    bundle: str
    engine_socket: str
    model_name: str = "default_model_name"
    max_body_bytes: int = DEFAULT_BODY_LIMIT
    body_seconds: float = 60.0
    strict_parameters: bool = False
    ignore_generation_config: bool = False
    prompt_logprobs: bool = False
    truncation: Literal["head", "center"] | None = None
    tool_call_parser: str | None = None
    tgi: bool = False
    token_healing: bool = False
    first_token_constraint: bool = False
    stall_seconds: float = 60.0
    request_timeout: float | None = None
    overload_status: Literal[429, 503] = 503
    replay_seconds: float = 0.0
    ui: bool = True
    log_level: str = "info"
    log_format: LogFormat = "text"
    log_prompts: bool = False
    key_ring: str = ""
    public_metrics: bool = False
    shared_prefix_cache: bool = False
    cors_origins: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class HttpConfig:
    """Settings of gunicorn; the supervisor writes them beside the workers' configuration.

    Attributes:
        listener: Inherited descriptor of the listening socket.
        ready: Inherited descriptor to which each worker writes a byte once it serves.
        workers: Worker processes.
        timeout: Seconds without a sign of life from a worker's event loop after which it is killed.
        keepalive: Seconds that idle connections are kept.
        head_seconds: Seconds that a new connection has for the head of its first request.
        worker_connections: Connections that a worker keeps open.
        graceful_timeout: Seconds a worker has to finish its requests when told to stop.
        log_level: Name of the lowest level logged.
        log_format: How the log looks.
        tls: Certificate and key; ``None`` speaks plain HTTP.
    """

    listener: int
    ready: int
    workers: int
    timeout: int = 60
    keepalive: int = 75
    head_seconds: float = 10.0
    worker_connections: int = 2048
    graceful_timeout: int = 55
    log_level: str = "info"
    log_format: LogFormat = "text"
    tls: TlsFiles | None = None


def write_config(directory: Path, config: WorkerConfig | HttpConfig) -> None:
    """Store a configuration in the private directory, under its type's name."""
    (directory / f"{type(config).__name__}.json").write_bytes(msgspec.json.encode(config))


def read_config(kind: type[T], environ: Mapping[str, str]) -> T:
    """Load what ``write_config`` stored, in a process that inherited the environment."""
    path = Path(environ[RUN_DIRECTORY_VARIABLE]) / f"{kind.__name__}.json"
    return msgspec.json.decode(path.read_bytes(), type=kind)
