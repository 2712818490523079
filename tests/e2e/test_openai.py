"""The official ``openai`` client against the default model."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from openai import OpenAI
from serving import Server

MODEL = "anything"
CHAT: Any = [
    {"role": "system", "content": "You are a helpful AI assistant."},
    {"role": "user", "content": "What is the capital of France?"},
]
PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def client(server: Server) -> Iterator[OpenAI]:
    """A client that tries once."""
    with OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0, timeout=60) as made:
        yield made


def test_models(client: OpenAI) -> None:
    (model,) = client.models.list()
    assert client.models.retrieve(model.id).id == model.id
    with pytest.raises(openai.NotFoundError) as caught:
        client.models.retrieve("no/such")
    assert caught.value.code == "model_not_found"


def test_a_completion_is_the_native_apis(client: OpenAI, server: Server) -> None:
    answer = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=8, temperature=0)
    native = server.generate(PROMPT, max_new_tokens=8, add_special_tokens=False)
    assert answer.choices[0].text == native["generated_text"][0]
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (native["prompt_tokens"], 8)


def test_prompts_in_all_forms_stream_to_their_own_choices(client: OpenAI, server: Server) -> None:
    ids = server.post("/tokenize", {"prompt": PROMPT, "add_special_tokens": False})["tokens"]
    want = client.completions.create(model=MODEL, prompt=PROMPT, max_tokens=6, temperature=0).choices[0].text
    for prompt in (ids, [PROMPT, PROMPT], [ids, ids]):
        texts = {0: "", 1: ""}
        for chunk in client.completions.create(model=MODEL, prompt=prompt, max_tokens=6, temperature=0, stream=True):
            for choice in chunk.choices:
                texts[choice.index] += choice.text
        assert texts == {0: want, 1: "" if prompt is ids else want}


def test_an_echoed_prompt_is_scored_as_the_engine_scores_it(client: OpenAI) -> None:
    fields: Any = {"model": MODEL, "echo": True, "logprobs": 5, "temperature": 0}
    whole = client.completions.create(prompt=PROMPT + " Paris.", max_tokens=1, **fields).choices[0]
    alone = client.completions.create(prompt=PROMPT + " Paris.", max_tokens=0, **fields).choices[0]
    assert whole.logprobs is not None
    assert alone.logprobs is not None
    assert alone.text == PROMPT + " Paris."
    assert "".join(alone.logprobs.tokens or []) == alone.text
    assert [alone.text[at:].startswith(t) for at, t in zip(offsets(alone), alone.logprobs.tokens or [], strict=True)]
    assert (whole.logprobs.token_logprobs or [])[:-1] == alone.logprobs.token_logprobs
    assert (alone.logprobs.token_logprobs or [])[0] is None
    for token, value, top in zip(*columns(whole), strict=True):
        assert len(top) in (5, 6)
        assert top[token] == value <= max(top.values()) <= 0
        assert sum(math.exp(logprob) for logprob in top.values()) < 1 + 1e-6
    again = client.completions.create(prompt=PROMPT, max_tokens=1, **fields).choices[0]
    paris = dict(zip(*columns(whole)[:2], strict=True))[" Paris"]
    assert columns(again)[2][-1][" Paris"] == pytest.approx(paris, abs=1e-5)


def offsets(choice: Any) -> list[int]:
    found: list[int] = choice.logprobs.text_offset
    return found


def columns(choice: Any) -> tuple[list[str], list[float], list[dict[str, float]]]:
    """Tokens, log-probabilities and alternatives of all but the first token."""
    return choice.logprobs.tokens[1:], choice.logprobs.token_logprobs[1:], choice.logprobs.top_logprobs[1:]


def test_a_chat_answers(client: OpenAI) -> None:
    answer = client.chat.completions.create(model=MODEL, messages=CHAT, temperature=0, max_completion_tokens=40)
    (choice,) = answer.choices
    assert choice.message.role == "assistant"
    assert "Paris" in (choice.message.content or "")
    assert choice.finish_reason == "stop"
    parts: Any = [CHAT[0], {"role": "user", "content": [{"type": "text", "text": CHAT[1]["content"]}]}]
    again = client.chat.completions.create(model=MODEL, messages=parts, temperature=0, max_completion_tokens=40)
    assert again.choices[0].message.content == choice.message.content
    assert again.usage is not None
    assert again.usage.prompt_tokens_details is not None
    assert again.usage.prompt_tokens_details.cached_tokens == again.usage.prompt_tokens // 16 * 16


def test_a_streamed_chat_is_the_same(client: OpenAI) -> None:
    fields: Any = {"model": MODEL, "messages": CHAT, "temperature": 0, "max_tokens": 40, "n": 2}
    want = client.chat.completions.create(**fields)
    texts, reasons = ["", ""], {}
    chunks = list(client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True}))
    assert [chunk.choices[0].delta.role for chunk in chunks[:2]] == ["assistant"] * 2
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        texts[choice.index] += choice.delta.content or ""
        if choice.finish_reason:
            reasons[choice.index] = choice.finish_reason
    assert texts == [choice.message.content for choice in want.choices]
    assert reasons == {0: "stop", 1: "stop"}
    assert chunks[-1].usage is not None
    assert want.usage is not None
    assert chunks[-1].usage.completion_tokens == want.usage.completion_tokens


WEATHER: Any = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather of a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 20}, "unit": {"enum": ["C", "F"]}},
            "required": ["city", "unit"],
            "additionalProperties": False,
        },
    },
}
TIME: Any = {"type": "function", "function": {"name": "get_time"}}


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "get_weather"}}])
def test_a_call_that_has_to_be_made_is_made(client: OpenAI, choice: Any) -> None:
    turns: Any = [{"role": "user", "content": "What is the weather in Oslo?"}]
    tools = [WEATHER] if choice == "required" else [TIME, WEATHER]
    fields: Any = {"model": MODEL, "messages": turns, "tools": tools, "max_tokens": 80, "seed": 1}
    fields |= {"tool_choice": choice, "parallel_tool_calls": False}
    whole = client.chat.completions.create(**fields).choices[0]
    with client.chat.completions.stream(**fields) as events:
        streamed = events.get_final_completion().choices[0]
    assert (whole.finish_reason, streamed.finish_reason) == ("tool_calls", "tool_calls")
    (call,), (again,) = whole.message.tool_calls or [], streamed.message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == again.function.name == "get_weather"
    assert call.function.arguments == again.function.arguments
    arguments = json.loads(call.function.arguments)
    assert arguments.keys() == {"city", "unit"}
    assert len(arguments["city"]) <= 20


def test_a_chat_with_tools_streams_what_it_answers(client: OpenAI) -> None:
    fields: Any = {"model": MODEL, "messages": CHAT, "tools": [WEATHER], "temperature": 0, "max_tokens": 60}
    whole = client.chat.completions.create(**fields, tool_choice="auto").choices[0]
    with client.chat.completions.stream(**fields) as events:
        streamed = events.get_final_completion().choices[0]
    for choice in (whole, streamed):
        assert choice.message.content or choice.message.tool_calls
        assert choice.finish_reason in ("stop", "length", "tool_calls")
        assert all(call.type == "function" and call.function.name for call in choice.message.tool_calls or [])
    assert streamed.message.content == whole.message.content
    assert streamed.finish_reason == whole.finish_reason


def test_a_seed_gives_the_same_text_again(client: OpenAI) -> None:
    def draw(seed: int | None) -> list[str | None]:
        answer = client.chat.completions.create(model=MODEL, messages=CHAT, seed=seed, n=2, max_tokens=12)
        return [choice.message.content for choice in answer.choices]

    first = draw(7)
    assert draw(7) == first
    assert first[0] != first[1]
    assert draw(8) != first


def test_a_stop_string_is_cut_off(client: OpenAI) -> None:
    fields: Any = {"model": MODEL, "prompt": PROMPT, "max_tokens": 30, "temperature": 0}
    text = client.completions.create(**fields).choices[0].text
    stop = text[7:11]
    for given in (stop, ["nowhere", stop]):
        cut = client.completions.create(**fields, stop=given).choices[0]
        assert (cut.text, cut.finish_reason) == (text[: text.index(stop)], "stop")
        streamed = client.completions.create(**fields, stop=given, stream=True)
        assert "".join(chunk.choices[0].text for chunk in streamed) == cut.text


def test_chat_logprobs_spell_the_answer(client: OpenAI) -> None:
    answer = client.chat.completions.create(
        model=MODEL, messages=CHAT, temperature=0, max_tokens=5, logprobs=True, top_logprobs=3
    )
    (choice,) = answer.choices
    assert choice.logprobs is not None
    content = choice.logprobs.content or []
    assert len(content) == 5
    assert b"".join(bytes(entry.bytes or []) for entry in content).decode() == choice.message.content
    for entry in content:
        assert [entry.token, entry.logprob] == [entry.top_logprobs[0].token, entry.top_logprobs[0].logprob]
        values = [top.logprob for top in entry.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert len(values) == 3


def test_a_bias_bans_and_forces_tokens(client: OpenAI, server: Server) -> None:
    def token(text: str) -> str:
        (found,) = server.post("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"]
        return str(found)

    fields: Any = {"model": MODEL, "prompt": PROMPT, "max_tokens": 2, "temperature": 0}
    banned = client.completions.create(**fields, logit_bias={token(" Paris"): -100}).choices[0].text
    forced = client.completions.create(**fields, logit_bias={token(" London"): 100}).choices[0].text
    assert "Paris" not in banned
    assert forced == " London London"


BAD_SCHEMA = {"name": "bad", "schema": {"type": "cat"}}


@pytest.mark.parametrize(
    ("fields", "kind"),
    [
        ({"temperature": 3}, openai.BadRequestError),
        ({"max_tokens": 10**6}, openai.BadRequestError),
        ({"response_format": {"type": "json_schema", "json_schema": BAD_SCHEMA}}, openai.BadRequestError),
        ({"extra_body": {"temperature": "hot"}}, openai.UnprocessableEntityError),
    ],
)
def test_mistakes_are_the_clients_own_exceptions(
    client: OpenAI, fields: dict[str, Any], kind: type[openai.APIStatusError]
) -> None:
    with pytest.raises(kind) as caught:
        client.chat.completions.create(model=MODEL, messages=CHAT, **fields)
    assert caught.value.type == "invalid_request_error"
    assert caught.value.param


def test_unknown_paths_are_not_found(client: OpenAI) -> None:
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model=MODEL, input="text")


def test_closing_a_stream_frees_the_engine(client: OpenAI, server: Server) -> None:
    stream = client.completions.create(
        model=MODEL, prompt=PROMPT, max_tokens=2000, stream=True, extra_body={"ignore_eos": True}
    )
    next(iter(stream))
    stream.close()
    closed = time.monotonic()
    while server.load() > 0:
        assert time.monotonic() - closed < 3, "the load did not return to 0"


def test_tokens_round_trip(server: Server) -> None:
    answer = server.post("/tokenize", {"prompt": PROMPT, "return_token_strs": True})
    assert answer["count"] == len(answer["tokens"])
    assert "".join(answer["token_strs"]) == PROMPT
    assert server.post("/detokenize", {"tokens": answer["tokens"]}) == {"prompt": PROMPT}
