"""The environment variables of LightLLM's that this server honours, read once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

VARIABLES = (
    "LIGHTLLM_MAX_STOP_SEQUENCES",
    "LIGHTLLM_STOP_SEQUENCE_MAX_LENGTH",
    "LIGHTLLM_ALLOWED_TOKEN_IDS_MAX_LENGTH",
    "LIGHTLLM_DECODE_PREFIX_LENGTH",
    "SKIP_SPECIAL_TOKENS",
    "INPUT_PENALTY",
    "HEALTH_TIMEOUT",
    "DEBUG_HEALTHCHECK_RETURN_FAIL",
    "FIRST_ALLOWED_TOKENS",
    "RETURN_LIST",
)
"""All of them, for who starts workers elsewhere."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RequestRules:
    """Limits and defaults of requests that LightLLM takes from the environment.

    Attributes:
        max_stop_sequences: Stop sequences a request may have.
        max_stop_sequence_length: Tokens in one of them.
        max_allowed_token_ids: Length of ``allowed_token_ids``.
        decode_prefix_length: Prompt tokens that detokenization looks back on.
        skip_special_tokens: Default of the request field.
        input_penalty: Default of the request field.
        health_timeout: Seconds in which a healthy engine answers.
        force_unhealthy: ``/health`` answers 503 whatever the engine does.
        first_allowed_tokens: What outputs may begin with in ``--first_token_constraint_mode``.
        return_list: TGI's format answers with a list of one object.
    """

    max_stop_sequences: int = 10
    max_stop_sequence_length: int = 256
    max_allowed_token_ids: int = 256
    decode_prefix_length: int = 5
    skip_special_tokens: bool = True
    input_penalty: bool = False
    health_timeout: float = 5.0
    force_unhealthy: bool = False
    first_allowed_tokens: tuple[int, ...] = ()
    return_list: bool = False

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> RequestRules:
        """Read the variables.

        Raises:
            ValueError: A variable is not a number in range; the message names it.
        """
        return cls(
            max_stop_sequences=count(environ, "LIGHTLLM_MAX_STOP_SEQUENCES", 10),
            max_stop_sequence_length=count(environ, "LIGHTLLM_STOP_SEQUENCE_MAX_LENGTH", 256),
            max_allowed_token_ids=count(environ, "LIGHTLLM_ALLOWED_TOKEN_IDS_MAX_LENGTH", 256),
            decode_prefix_length=count(environ, "LIGHTLLM_DECODE_PREFIX_LENGTH", 5),
            skip_special_tokens=_flag(environ, "SKIP_SPECIAL_TOKENS", True),
            input_penalty=_flag(environ, "INPUT_PENALTY", False),
            health_timeout=float(count(environ, "HEALTH_TIMEOUT", 5)),
            force_unhealthy=_flag(environ, "DEBUG_HEALTHCHECK_RETURN_FAIL", False),
            first_allowed_tokens=_token_ids(environ, "FIRST_ALLOWED_TOKENS"),
            return_list=_flag(environ, "RETURN_LIST", False),
        )


def count(environ: Mapping[str, str], name: str, default: int) -> int:
    """A whole number from 0 on; ``default`` where the variable is missing or empty.

    Raises:
        ValueError: It is something else; the message names the variable.
    """
    text = environ.get(name, "").strip()
    if not text:
        return default
    if not text.isdecimal() or len(text) > 9:
        raise ValueError(f"environment variable {name} must be a whole number from 0 on, not {text!r}")
    return int(text)


def _flag(environ: Mapping[str, str], name: str, default: bool) -> bool:
    text = environ.get(name, "").strip().upper()
    return text in ("ON", "TRUE", "1") if text else default


def _token_ids(environ: Mapping[str, str], name: str) -> tuple[int, ...]:
    text = environ.get(name, "").strip()
    parts = [part.strip() for part in text.split(",")] if text else []
    if not all(part.isdecimal() and len(part) <= 9 for part in parts):
        raise ValueError(f"environment variable {name} must be token ids such as 1,2,3, not {text!r}")
    return tuple(map(int, parts))
