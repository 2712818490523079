"""What requests become before the engine sees them, and that their types describe themselves."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from runtime.limits import EngineLimits
from server.errors import InvalidRequestError, QueueFullError, RefusedError, UnavailableError
from server.openai.chat_messages import template_messages, template_tools
from server.openai.chat_types import ChatChunk, ChatCompletion, ChatMessage, ChatRequest
from server.openai.completion_parser import listed_prompts
from server.openai.completion_types import Completion, CompletionRequest
from server.openai.errors import body_of, speaks_openai, status_of
from server.openai.model_types import ModelList
from server.openai.request_builder import room
from server.openai.tokenize_types import DetokenizeAnswer, DetokenizeRequest, TokenizeAnswer, TokenizeRequest
from server.openai.tool_types import Tool

LIMITS = EngineLimits(
    max_request_tokens=256,
    max_total_tokens=1000,
    max_running=16,
    max_queued=64,
    max_step_tokens=256,
    block_size=16,
    vocab_size=100,
    eos_token_ids=(0,),
)


def messages(*plain: Any) -> list[ChatMessage]:
    return msgspec.convert(list(plain), list[ChatMessage])


def call(arguments: str) -> dict[str, Any]:
    return {"id": "1", "type": "function", "function": {"name": "f", "arguments": arguments}}


def test_every_type_has_a_schema() -> None:
    types = [ChatRequest, ChatCompletion, ChatChunk, CompletionRequest, Completion, ModelList]
    types += [TokenizeRequest, TokenizeAnswer, DetokenizeRequest, DetokenizeAnswer]
    _, components = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    completion = components["CompletionRequest"]
    assert completion["required"] == ["model", "prompt"]
    assert {kind["type"] for kind in completion["properties"]["prompt"]["anyOf"]} == {"string", "array"}
    (temperature, _) = completion["properties"]["temperature"]["anyOf"]
    assert (temperature["minimum"], temperature["maximum"]) == (0, 2)


def test_messages_become_what_templates_know() -> None:
    turns = messages(
        {"role": "developer", "content": "a", "name": "me"},
        {"role": "assistant", "content": [{"type": "refusal", "refusal": "no"}, {"type": "text", "text": "way"}]},
        {"role": "assistant", "tool_calls": [call('{"x": [1]}'), call("")]},
        {"role": "tool", "tool_call_id": "1", "content": "r"},
    )
    made = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {"x": [1]}}}
    bare = {"id": "1", "type": "function", "function": {"name": "f", "arguments": {}}}
    assert template_messages(turns) == [
        {"role": "system", "content": "a", "name": "me"},
        {"role": "assistant", "content": "no\nway"},
        {"role": "assistant", "content": "", "tool_calls": [made, bare]},
        {"role": "tool", "content": "r", "tool_call_id": "1"},
    ]


@pytest.mark.parametrize(
    ("message", "place"),
    [
        ({"role": "user"}, "messages[0]"),
        ({"role": "user", "content": [{"type": "image_url", "image_url": {}}]}, "messages[0].content[0]"),
        ({"role": "user", "content": [{"type": "text"}]}, "messages[0].content[0]"),
        ({"role": "assistant", "tool_calls": [call("{")]}, "messages[0].tool_calls[0].function.arguments"),
        ({"role": "assistant", "tool_calls": [call("[1]")]}, "messages[0].tool_calls[0].function.arguments"),
        ({"role": "assistant", "tool_calls": [call("[" * 9999)]}, "messages[0].tool_calls[0].function.arguments"),
    ],
)
def test_what_no_template_could_take_is_named(message: Any, place: str) -> None:
    with pytest.raises(InvalidRequestError) as caught:
        template_messages(messages(message))
    assert caught.value.message.startswith(place)
    assert caught.value.param == "messages"


def test_tools_keep_the_order_of_keys_that_models_know() -> None:
    plain = {"function": {"parameters": {"b": 1, "a": 2}, "description": "d", "name": "f"}, "type": "function"}
    (tool,) = template_tools([msgspec.convert(plain, Tool)])
    assert msgspec.json.encode(tool) == (
        b'{"type":"function","function":{"name":"f","description":"d","parameters":{"b":1,"a":2}}}'
    )


@pytest.mark.parametrize(
    ("prompt", "listed"),
    [("a", ["a"]), ([1, 2], [[1, 2]]), (["a", "b"], ["a", "b"]), ([[1], [2, 3]], [[1], [2, 3]])],
)
def test_prompts_are_listed(prompt: Any, listed: Any) -> None:
    assert listed_prompts(prompt, 2) == listed


@pytest.mark.parametrize("prompt", [[], [1, "a"], ["a", 1], [[1], "a"], ["a", [1]], [[1], 1], ["a", "b", "c"]])
def test_lists_that_are_no_prompts_are_refused(prompt: Any) -> None:
    with pytest.raises(InvalidRequestError):
        listed_prompts(prompt, 2)


def test_samples_share_the_cache() -> None:
    assert [room(LIMITS, samples) for samples in (1, 3, 4, 62, 63)] == [256, 256, 240, 16, 0]


def test_statuses_and_codes() -> None:
    full, draining, down = QueueFullError("full"), RefusedError("draining"), UnavailableError("down")
    assert [status_of(error) for error in (full, draining, down)] == [429, 503, 503]
    long = body_of(InvalidRequestError("long", "too_long", "prompt"))
    assert msgspec.to_builtins(long) == {
        "error": {
            "message": "long",
            "type": "invalid_request_error",
            "param": "prompt",
            "code": "context_length_exceeded",
        }
    }


@pytest.mark.parametrize(
    ("path", "openai"),
    [("/v1", True), ("/v1/x", True), ("/tokenize", True), ("/v10", False), ("/generate", False), ("/tokens", False)],
)
def test_paths(path: str, openai: bool) -> None:
    assert speaks_openai(path) == openai
