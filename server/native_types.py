"""Answers of LightLLM's native API."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

PROMPT_LOGPROBS = Meta(description="With --return_all_prompt_logprobs.")
DETAILS = Meta(description="With return_details; a list of lists for several samples.")


class StreamToken(msgspec.Struct):
    """A token of a stream. ``text`` is empty while a character is not complete."""

    id: int
    text: str
    logprob: float
    special: bool
    count_output_tokens: int
    prompt_tokens: int


class StreamEvent(msgspec.Struct):
    """An event of ``/generate_stream``: one a token, the last one with ``finished``."""

    token: StreamToken
    generated_text: None
    finished: bool
    finish_reason: str | None
    details: None
    error: Annotated[str, Meta(description="Why a stream fails that has begun.")] | UnsetType = UNSET


class TokenDetail(msgspec.Struct):
    """A token of an answer. ``cumlogprob`` is the running mean, as in LightLLM."""

    id: int
    logprob: float
    cumlogprob: float
    sum_logprob: float
    special: bool
    count_output_tokens: int
    mtp_accepted_token_num: int
    prompt_tokens: int
    text: str


class GenerateAnswer(msgspec.Struct, kw_only=True):
    """Answer of ``/generate``: lists for several samples, flat values for one."""

    generated_text: list[str]
    count_output_tokens: int | list[int]
    finish_reason: str | list[str]
    prompt_tokens: int
    tokens: Annotated[list[TokenDetail | list[TokenDetail]], DETAILS] | UnsetType = UNSET
    prompt_token_ids: Annotated[list[int], PROMPT_LOGPROBS] | UnsetType = UNSET
    prompt_logprobs: Annotated[list[list[Any]], PROMPT_LOGPROBS] | UnsetType = UNSET


class ScoreAnswer(msgspec.Struct, kw_only=True):
    """Answer of ``/get_score``: lists for a list of chats."""

    score: float | list[float]
    prompt_tokens: int | list[int]
    finish_reason: str = "stop"


class TokenCount(msgspec.Struct):
    """Answer of ``/tokens``."""

    ntokens: int


class TokenLoad(msgspec.Struct, kw_only=True):
    """Shares of the KV cache. LightLLM keeps the retired ``logical_max_load`` equal to ``dynamic_max_load``."""

    current_load: float
    logical_max_load: float
    dynamic_max_load: float


class ModelName(msgspec.Struct):
    """Answer of ``/get_model_name``."""

    model_name: str


class Status(msgspec.Struct):
    """Answer of ``/liveness`` and ``/readiness``."""

    status: str


class Message(msgspec.Struct):
    """Why there is no other answer; of ``/health``, the verdict."""

    message: str


class Refusal(msgspec.Struct):
    """What is wrong with a request."""

    message: str
    error_code: str
    param: str | None
