"""Request bodies as clients send them: types and machine ranges only, decoded strictly from JSON."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal, TypeVar

import msgspec
from msgspec import UNSET, Meta, Raw, UnsetType

from server.errors import InvalidRequestError, field_of

T = TypeVar("T")

Flag = bool | Literal[0, 1] | None
"""LightLLM takes ``null`` for false; strings are refused, ``"false"`` would be true there."""

Count = Annotated[int, Meta(ge=-(2**31), le=2**31 - 1)]
TokenId = Annotated[int, Meta(ge=0, le=2**31 - 1)]
Number = Annotated[float, Meta(ge=-1e30, le=1e30)]
"""Wider than any sensible value, narrow enough that float32 arithmetic stays finite."""

TokenIds = list[TokenId]

ParametersObject = Annotated[Raw, Meta(extra_json_schema={"$ref": "#/components/schemas/Parameters"})]
"""A ``Parameters`` that is decoded by itself, for the sake of the unknown names in it."""

Sampling = Annotated[Flag, Meta(description="False is greedy: temperature 1, top_p 1, top_k 1.")]
Temperature = Annotated[Number, Meta(description="Divides the logits; above 0.")]
TopP = Annotated[Number, Meta(description="Probability mass of the tokens to draw from, above 0 and up to 1.")]
TopK = Annotated[Count, Meta(description="Ranks to draw from; -1 is all.")]
Penalty = Annotated[Number, Meta(description="On generated tokens; 0 and up.")]
Repetition = Annotated[Number, Meta(description="On generated tokens; 1 and up.")]
Decay = Annotated[
    tuple[Count, Number], Meta(description="After so many tokens, EOS grows more likely by so large a factor.")
]
InputPenalty = Annotated[Flag, Meta(description="The three penalties count prompt tokens too.")]
Samples = Annotated[Count, Meta(description="Independent outputs, 1 to 8; best_of and n are equal.")]
StopSequences = Annotated[
    str | list[Any], Meta(description="Texts or lists of token ids that end the output; they stay in it.")
]
Seed = Annotated[int, Meta(ge=0, description="Same request, same seed, same output.")]


class Parameters(msgspec.Struct, kw_only=True):
    """LightLLM's ``parameters``; a model's ``generation_config.json`` changes their defaults.

    Absent fields are ``UNSET``; ranges are ``server.sampling_rules``'s.
    """

    do_sample: Sampling | UnsetType = UNSET
    temperature: Temperature | UnsetType = UNSET
    top_p: TopP | UnsetType = UNSET
    top_k: TopK | UnsetType = UNSET
    presence_penalty: Penalty | UnsetType = UNSET
    frequency_penalty: Penalty | UnsetType = UNSET
    repetition_penalty: Repetition | UnsetType = UNSET
    exponential_decay_length_penalty: Decay | UnsetType = UNSET
    input_penalty: InputPenalty | UnsetType = UNSET
    max_new_tokens: Count = 16
    min_new_tokens: Count = 1
    ignore_eos: Flag = False
    stop_sequences: StopSequences | None = None
    best_of: Samples | UnsetType = UNSET
    n: Samples | UnsetType = UNSET
    return_details: Flag = False
    skip_special_tokens: Flag | UnsetType = UNSET
    add_special_tokens: Flag = True
    add_spaces_between_special_tokens: Flag = True
    print_eos_token: Flag = False
    regular_constraint: str = ""
    guided_grammar: str = ""
    guided_json: str = ""
    allowed_token_ids: TokenIds = []
    image_max_patch_num: Count = -1
    suggested_dp_index: Count = -1
    group_request_id: Raw | UnsetType = UNSET
    move_kv_to_decode_node: Raw | UnsetType = UNSET
    seed: Seed | UnsetType | None = UNSET


class MultimodalParams(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Attachments; a text model takes none."""

    images: list[Any] = []
    audios: list[Any] = []


class GenerateBody(msgspec.Struct, kw_only=True):
    """Body of ``/generate``, ``/generate_stream`` and ``/``."""

    inputs: str | TokenIds
    parameters: ParametersObject
    multimodal_params: MultimodalParams = msgspec.field(default_factory=MultimodalParams)


class StreamChoice(msgspec.Struct):
    """What a body of ``/`` has beside the fields of ``GenerateBody``."""

    stream: Flag = False


class TokensBody(msgspec.Struct, kw_only=True):
    """Body of ``/tokens``."""

    text: str
    parameters: TokenizerFlags = msgspec.field(default_factory=lambda: TokenizerFlags())
    multimodal_params: MultimodalParams = msgspec.field(default_factory=MultimodalParams)


class TokenizerFlags(msgspec.Struct, kw_only=True):
    """The sampling parameters that bear on tokenization; the rest is ignored."""

    add_special_tokens: Flag = True


_PARAMETER_NAMES = frozenset(Parameters.__struct_fields__)
_RAW_OBJECT = msgspec.json.Decoder(dict[str, Raw])
_PARAMETERS = msgspec.json.Decoder(Parameters)
_PATH = re.compile(r" - at `(?P<path>[^`]*)`\Z")
_MISSING = re.compile(r"missing required field `(?P<name>[^`]*)`")


def decode(decoder: msgspec.json.Decoder[T], body: bytes | Raw) -> T:
    """Decode JSON, turning every way in which it can be wrong into ``InvalidRequestError``.

    Raises:
        InvalidRequestError: Bad JSON, NaN, broken UTF-8, too deep nesting, a missing key or a wrong type; the
            message names the field.
    """
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _describe(str(error)) from None
    except (msgspec.MsgspecError, UnicodeDecodeError):
        raise InvalidRequestError("the body is not valid JSON in UTF-8", "invalid_json") from None
    except RecursionError:
        raise InvalidRequestError("the body is nested too deeply", "invalid_json") from None


def decode_parameters(raw: Raw) -> tuple[Parameters, tuple[str, ...]]:
    """Decode a ``parameters`` object.

    Returns:
        The parameters, and the names in it that mean nothing to this server.

    Raises:
        InvalidRequestError: As for ``decode``.
    """
    if not bytes(memoryview(raw)[:1]) == b"{":
        raise InvalidRequestError("parameters must be an object", "invalid_type", "parameters")
    parameters = decode(_PARAMETERS, raw)
    unknown = decode(_RAW_OBJECT, raw).keys() - _PARAMETER_NAMES
    return parameters, tuple(sorted(unknown))


def _describe(text: str) -> InvalidRequestError:
    missing = _MISSING.search(text)
    if missing is not None:
        name = missing["name"]
        return InvalidRequestError(f"{name!r} is required", "missing_field", name)
    path = _PATH.search(text)
    name = path["path"].removeprefix("$").lstrip(".") if path is not None else ""
    detail = _PATH.sub("", text).replace("`", "")
    detail = f"{name or 'the body'}: {detail[:1].lower()}{detail[1:]}"
    # NOTE: msgspec says what it got where the type is wrong, and only the bound where the value is.
    code = "invalid_type" if ", got `" in text else "invalid_value"
    return InvalidRequestError(detail, code, field_of(name) or None)
