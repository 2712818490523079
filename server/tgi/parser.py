"""From a body in TGI's format to a request, by way of LightLLM's parameters."""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from msgspec import Raw

from server.errors import InvalidRequestError
from server.parameters import decode, decode_parameters
from server.tgi.types import TgiBody
from server.validation import RequestParser, ValidRequest, refuse_attachments

_NATIVE_NAMES = {"details": "return_details", "stop": "stop_sequences"}
"""TGI's names, which count where LightLLM's are absent."""

_DISCARDED = ("typical_p", "return_full_text", "truncate", "watermark", "decoder_input_details", "best_of", "n")
"""LightLLM takes these and does nothing; ``num_beam`` stands for the last two."""

_NOTHING = (b"null", b"false")


class _Grammar(msgspec.Struct):
    type: Literal["json", "json_schema", "regex"]
    value: Any


_BODY = msgspec.json.Decoder(TgiBody)
_GRAMMAR = msgspec.json.Decoder(_Grammar)


async def parse(parser: RequestParser, body: bytes, streaming: bool | None) -> tuple[ValidRequest, bool]:
    """See ``GenerateFormat.parse``. Clients of TGI send ``null`` for what they leave out, or no parameters at all."""
    parsed = decode(_BODY, body)
    stream = bool(parsed.stream) if streaming is None else streaming
    refuse_attachments(parsed.multimodal_params)
    if stream and parsed.num_beam != 1:
        raise InvalidRequestError("num_beam must be 1 in a stream", param="num_beam")
    native, discarded = _native_parameters(parsed.parameters or {})
    native["best_of"] = Raw(msgspec.json.encode(parsed.num_beam))
    parameters, unknown = decode_parameters(Raw(msgspec.json.encode(native)))
    return await parser.build(parsed.inputs, parameters, ignored=(*discarded, *unknown)), stream


def _native_parameters(parameters: dict[str, Raw]) -> tuple[dict[str, Raw], list[str]]:
    """LightLLM's parameters, and the names of those that would have meant something to TGI."""
    sent = {name: value for name, value in parameters.items() if bytes(value) != b"null"}
    discarded = []
    for name in [*sent]:
        known = name in _DISCARDED or name.startswith("token_healing_")
        if known and bytes(sent.pop(name)) not in _NOTHING:
            discarded.append(name)
    for theirs, ours in _NATIVE_NAMES.items():
        if theirs in sent:
            sent.setdefault(ours, sent[theirs])
            del sent[theirs]
    if "grammar" in sent:
        name, text = _constraint(decode(_GRAMMAR, sent.pop("grammar")))
        sent[name] = Raw(msgspec.json.encode(text))
    return sent, discarded


def _constraint(grammar: _Grammar) -> tuple[str, str]:
    value = grammar.value
    if grammar.type == "regex":
        if not isinstance(value, str):
            raise InvalidRequestError("grammar: a regex has to be a string", "invalid_type", "grammar")
        return "regular_constraint", value
    if grammar.type == "json_schema" and isinstance(value, dict) and "schema" in value:
        value = value["schema"]
    return "guided_json", value if isinstance(value, str) else msgspec.json.encode(value).decode()
