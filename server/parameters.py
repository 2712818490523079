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


class Parameters(msgspec.Struct, kw_only=True):
    """LightLLM's ``parameters`` object. Absent fields are ``UNSET``; ranges are ``server.sampling_rules``'s."""

    do_sample: Flag | UnsetType = UNSET
    temperature: Number | UnsetType = UNSET
    top_p: Number | UnsetType = UNSET
    top_k: Count | UnsetType = UNSET
    presence_penalty: Number | UnsetType = UNSET
    frequency_penalty: Number | UnsetType = UNSET
    repetition_penalty: Number | UnsetType = UNSET
    exponential_decay_length_penalty: tuple[Count, Number] | UnsetType = UNSET
    input_penalty: Flag | UnsetType = UNSET
    max_new_tokens: Count = 16
    min_new_tokens: Count = 1
    ignore_eos: Flag = False
    stop_sequences: str | list[Any] | None = None
    best_of: Count | UnsetType = UNSET
    n: Count | UnsetType = UNSET
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
    seed: Annotated[int, Meta(ge=0)] | UnsetType | None = UNSET


class MultimodalParams(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """Attachments; a text model takes none."""

    images: list[Any] = []
    audios: list[Any] = []


class GenerateBody(msgspec.Struct, kw_only=True):
    """Body of ``/generate``, ``/generate_stream`` and ``/``."""

    inputs: str | TokenIds
    parameters: Raw
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
