"""What an HTTP worker has to know; the supervisor writes it as JSON into its private directory."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec

DEFAULT_BODY_LIMIT = 8 * 2**20
WORKER_CONFIG_VARIABLE = "PEREGRINE_WORKER_CONFIG"
"""Environment variable with the path of the JSON file."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerConfig:
    """Configuration of the HTTP workers.

    Attributes:
        bundle: Directory with ``tokenizer.json`` and ``generation_config.json``.
        engine_socket: Filesystem path of the engine's endpoint.
        model_name: Answer of ``/get_model_name``.
        max_body_bytes: Larger request bodies are refused.
        strict_parameters: Unknown parameters are an error instead of being ignored.
        ignore_generation_config: Use LightLLM's defaults, not the model's.
        prompt_logprobs: ``/generate`` reports the log-probabilities of the prompt's tokens.
        truncation: What to do with too long prompts; ``None`` refuses them.
        stall_seconds: How long a client may leave its answer unread.
        log_level: Name of the lowest level logged.
    """

    bundle: str
    engine_socket: str
    model_name: str = "default_model_name"
    max_body_bytes: int = DEFAULT_BODY_LIMIT
    strict_parameters: bool = False
    ignore_generation_config: bool = False
    prompt_logprobs: bool = False
    truncation: Literal["head", "center"] | None = None
    stall_seconds: float = 60.0
    log_level: str = "info"

    def write(self, path: Path) -> None:
        """Store the configuration."""
        path.write_bytes(msgspec.json.encode(self))

    @classmethod
    def read(cls, path: Path) -> WorkerConfig:
        """Load what ``write`` stored."""
        return msgspec.json.decode(path.read_bytes(), type=cls)
