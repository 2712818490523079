"""TGI's format, as LightLLM writes it: the body and its answers."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from server.native_types import StreamToken, TokenDetail
from server.parameters import Count, Flag, MultimodalParams, TokenIds

TgiParameters = Annotated[
    dict[str, Raw],
    Meta(description="LightLLM's, with TGI's names `details`, `stop` and `grammar`; null is the same as absent."),
]


class TgiBody(msgspec.Struct, kw_only=True):
    """Body of ``/generate``, ``/generate_stream`` and ``/``."""

    inputs: str | TokenIds
    parameters: TgiParameters | None = None
    num_beam: Annotated[Count, Meta(description="Independent outputs.")] = 1
    stream: Annotated[Flag, Meta(description="Of / alone.")] = False
    multimodal_params: MultimodalParams = msgspec.field(default_factory=MultimodalParams)


class BeamSequence(msgspec.Struct):
    """One of several outputs; ``logprob`` is the mean."""

    generated_text: str
    finish_reason: str | None
    generated_tokens: int
    logprob: float


class TgiDetails(msgspec.Struct):
    """What ``details`` asks for."""

    generated_tokens: int
    finish_reason: str | None
    tokens: list[TokenDetail]
    prompt_tokens: int
    beam_sequences: list[BeamSequence]


class TgiAnswer(msgspec.Struct):
    """Answer of ``/generate``: of several outputs, the one of the highest mean log-probability."""

    generated_text: str
    details: TgiDetails | UnsetType = UNSET


class TgiStreamDetails(msgspec.Struct):
    """Of a whole stream."""

    generated_tokens: int
    finish_reason: str
    prompt_tokens: int


class TgiEvent(msgspec.Struct):
    """An event of ``/generate_stream``: one a token; the last one has the whole text."""

    token: StreamToken
    generated_text: str | None
    finished: bool
    finish_reason: str | None
    details: TgiStreamDetails | None
    error: str | UnsetType = UNSET
    error_type: str | UnsetType = UNSET
