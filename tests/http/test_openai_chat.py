"""``/v1/chat/completions`` on a scripted engine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from asgi_driver import Client
from fake_engine import FakeEngine, say
from openai_calls import chat, joined, stream, with_template
from toy_tokenizer import toy_tokenizer

Serve = Callable[..., None]

TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def prompts(engine: FakeEngine) -> list[str]:
    """The texts that the engine was given."""
    return [toy_tokenizer().decode(add.prompt, skip_special_tokens=False) for add in engine.added]


def test_an_answer_has_openais_shape(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = (await chat(client, "hi", max_tokens=3)).json
        assert list(answer) == ["id", "object", "created", "model", "choices", "usage"]
        assert answer["id"].startswith("chatcmpl-")
        assert answer["object"] == "chat.completion"
        message = {"role": "assistant", "content": "abc", "refusal": None}
        assert answer["choices"] == [{"index": 0, "message": message, "logprobs": None, "finish_reason": "length"}]
        assert answer["usage"]["prompt_tokens"] == len("<user>hi>")

    serve(test, prepare=with_template)


def test_turns_reach_the_template(serve: Serve, engine: FakeEngine) -> None:
    call = {"id": "1", "type": "function", "function": {"name": "look", "arguments": '{"x": 5}'}}
    turns = [
        {"role": "developer", "content": "be brief"},
        {"role": "user", "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}]},
        {"role": "assistant", "content": None, "tool_calls": [call], "refusal": None, "annotations": []},
        {"role": "tool", "tool_call_id": "1", "content": "found"},
    ]

    async def test(client: Client) -> None:
        assert (await chat(client, *turns, tools=[TOOL], max_tokens=1)).status == 200
        assert (await chat(client, "c", tools=[TOOL], tool_choice="none", max_tokens=1)).status == 200
        assert (await chat(client, "d", chat_template_kwargs={"loud": True}, max_tokens=1)).status == 200
        assert (await chat(client, "e", add_generation_prompt=False, max_tokens=1)).status == 200

    serve(test, prepare=with_template)
    assert prompts(engine) == [
        "<system>be brief<user>a\nb<assistant>[look 5]<tool>found#look>",
        "<user>c>",
        "<user>d!>",
        "<user>e",
    ]


def test_as_many_tokens_as_fit_are_generated_unless_said_otherwise(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        assert (await chat(client, "hi")).json["usage"]["total_tokens"] == 256
        assert (await chat(client, "hi", max_tokens=9, max_completion_tokens=4)).json["usage"]["completion_tokens"] == 4
        assert (await chat(client, "hi", n=16)).status == 200

    serve(test, prepare=with_template)
    assert engine.added[2].sampling.max_new_tokens == 256 - len("<user>hi>")


def test_a_stream_names_the_speaker_first_and_the_reason_last(serve: Serve) -> None:
    async def test(client: Client) -> None:
        chunks = stream(await chat(client, "hi", max_tokens=2, stream=True))
        assert list(chunks[0]) == ["id", "object", "created", "model", "choices"]
        assert chunks[0]["object"] == "chat.completion.chunk"
        assert [(c["choices"][0]["delta"], c["choices"][0]["finish_reason"]) for c in chunks] == [
            ({"role": "assistant", "content": ""}, None),
            ({"content": "a"}, None),
            ({"content": "b"}, None),
            ({}, "length"),
        ]

    serve(test, prepare=with_template)


def test_a_stream_of_several_outputs_tells_usage_once(serve: Serve) -> None:
    async def test(client: Client) -> None:
        fields = {"n": 3, "max_tokens": 4, "stream": True, "stream_options": {"include_usage": True}}
        *chunks, last = stream(await chat(client, "hi", **fields))
        assert [joined(chunks, index) for index in range(3)] == ["abcd"] * 3
        assert [chunk["choices"][0]["index"] for chunk in chunks[:3]] == [0, 1, 2]
        assert all(chunk["usage"] is None for chunk in chunks)
        assert (last["choices"], last["usage"]["completion_tokens"]) == ([], 12)

    serve(test, prepare=with_template)


@pytest.mark.parametrize("streaming", [False, True])
def test_logprobs_are_exact_to_the_byte(serve: Serve, engine: FakeEngine, streaming: bool) -> None:
    engine.script = say("é")

    async def test(client: Client) -> None:
        answer = await chat(client, "hi", logprobs=True, top_logprobs=2, max_tokens=2, stream=streaming)
        choices = [chunk["choices"][0] for chunk in (stream(answer)[1:-1] if streaming else [answer.json])]
        content = [entry for choice in choices for entry in choice["logprobs"]["content"]]
        assert bytes(byte for entry in content for byte in entry["bytes"]) == "é".encode()
        assert [entry["logprob"] for entry in content] == [-0.5, -0.5]
        assert content[0]["top_logprobs"] == [
            {"token": "�", "logprob": -0.5, "bytes": [0xC3]},
            {"token": "?", "logprob": -2.0, "bytes": [63]},
        ]
        plain = (await chat(client, "hi", logprobs=True, max_tokens=1)).json["choices"][0]["logprobs"]
        assert plain["content"][0]["top_logprobs"] == []

    serve(test, prepare=with_template)


def test_held_back_text_comes_when_no_stop_string_can_begin_in_it(serve: Serve) -> None:
    async def test(client: Client) -> None:
        chunks = stream(await chat(client, "hi", stop=["cdx"], max_tokens=5, stream=True))
        deltas = [chunk["choices"][0]["delta"].get("content") for chunk in chunks[1:]]
        assert deltas == ["a", "b", "cde", None]

    serve(test, prepare=with_template)


def test_a_model_without_a_template_says_so(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await chat(client, "hi")
        assert (answer.status, answer.json["error"]["code"]) == (400, "chat_template")

    serve(test)
