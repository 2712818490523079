"""Tools on ``/v1/chat/completions``, on a scripted engine."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx2
import msgspec
import pytest
from asgi_driver import Client
from fake_engine import LIMITS, FakeEngine, Script
from openai import AsyncOpenAI
from openai_calls import chat, joined, stream, with_template
from tokenizers import AddedToken, Tokenizer
from toy_tokenizer import EOS_ID, byte_id, toy_tokenizer

from runtime.messages import AddRequest, TokenOutput
from runtime.request import FinishReason

Serve = Callable[..., None]

TOOL: Any = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{"name": "look", "arguments": {"x": "é"}}\n</tool_call>'
MARK, PAD = "[TOOL_CALLS]", "<pad>"


def utter(*texts: str, of: Tokenizer | None = None) -> Script:
    """A script that generates a text byte by byte, the tokens of ``of`` whole, and then EOS.

    The text is the first one for a chat's first turn, the second after the result of a tool.
    """
    added = {} if of is None else {token.content: i for i, token in of.get_added_tokens_decoder().items()}

    def ids(text: str) -> list[int]:
        mark = next((mark for mark in added if mark in text), None)
        if mark is None:
            return [byte_id(byte) for byte in text.encode()]
        head, _, tail = text.partition(mark)
        return [*ids(head), added[mark], *ids(tail)]

    def script(add: AddRequest, sample: int, count: int) -> TokenOutput:
        prompt = toy_tokenizer().decode(add.prompt, skip_special_tokens=False)
        tokens = [*ids(texts[min(prompt.count("<tool>"), len(texts) - 1)]), EOS_ID]
        full = count + 1 == add.sampling.max_new_tokens
        finish = FinishReason.STOP if tokens[count] == EOS_ID else FinishReason(full and FinishReason.LENGTH)
        return TokenOutput(add.request_id, sample, tokens[count], -0.5, finish)

    return script


def message(answer: Any) -> tuple[Any, str | None]:
    """The message of a chat's answer, its calls as names and arguments; and the finish reason."""
    assert answer.status == 200, answer.body
    (choice,) = answer.json["choices"]
    said = choice["message"]
    return [said["content"], *functions(said.get("tool_calls", []))], choice["finish_reason"]


def functions(calls: list[Any]) -> list[tuple[str, str]]:
    assert all(call["type"] == "function" and call["id"] for call in calls)
    return [(call["function"]["name"], call["function"]["arguments"]) for call in calls]


def test_a_call_is_taken_out_of_the_content(serve: Serve, engine: FakeEngine) -> None:
    engine.script = utter(f"Let me see. {CALL}")

    async def test(client: Client) -> None:
        answer = await chat(client, "hi", tools=[TOOL])
        assert message(answer) == (["Let me see. ", ("look", '{"x": "é"}')], "tool_calls")
        (call,) = answer.json["choices"][0]["message"]["tool_calls"]
        assert list(call) == ["id", "type", "function"]
        cut = await chat(client, "hi", tools=[TOOL], max_tokens=55)
        assert message(cut) == (["Let me see. ", ("look", "{")], "length")

    serve(test, prepare=with_template, tool_call_parser="qwen25")


def test_without_tools_nothing_is_taken_out(serve: Serve, engine: FakeEngine) -> None:
    engine.script = utter(CALL)

    async def test(client: Client) -> None:
        for fields in ({}, {"tools": []}, {"tools": [TOOL], "tool_choice": "none"}):
            assert message(await chat(client, "hi", **fields)) == ([CALL], "stop")

    serve(test, prepare=with_template, tool_call_parser="qwen25")


def test_a_model_whose_format_is_unknown_keeps_its_words(serve: Serve, engine: FakeEngine) -> None:
    engine.script = utter(CALL)

    async def test(client: Client) -> None:
        assert message(await chat(client, "hi", tools=[TOOL])) == ([CALL], "stop")

    serve(test, prepare=with_template)


def test_a_stream_names_a_call_first_and_then_spells_its_arguments(serve: Serve, engine: FakeEngine) -> None:
    engine.script = utter(f"Ah {CALL}\n{CALL}")

    async def test(client: Client) -> None:
        chunks = stream(await chat(client, "hi", tools=[TOOL], stream=True))
        assert joined(chunks) == "Ah "
        deltas = [c["choices"][0]["delta"]["tool_calls"] for c in chunks if "tool_calls" in c["choices"][0]["delta"]]
        for index in (0, 1):
            first, *rest = [delta for (delta,) in deltas if delta["index"] == index]
            call_id = first.pop("id")
            assert first == {"index": index, "type": "function", "function": {"name": "look", "arguments": ""}}
            assert call_id.startswith("call_")
            assert all(delta.keys() == {"index", "function"} for delta in rest)
            assert all(delta["function"].keys() == {"arguments"} for delta in rest)
            assert "".join(delta["function"]["arguments"] for delta in rest) == '{"x": "é"}'
        assert chunks[-1]["choices"][0]["finish_reason"] == "tool_calls"
        assert len({delta["index"] for (delta,) in deltas}) == 2

    serve(test, prepare=with_template, tool_call_parser="qwen25")


def test_every_token_of_a_streamed_call_has_its_logprob(serve: Serve, engine: FakeEngine) -> None:
    engine.script = utter(CALL)

    async def test(client: Client) -> None:
        chunks = stream(await chat(client, "hi", tools=[TOOL], stream=True, logprobs=True))
        given = [chunk["choices"][0]["logprobs"] for chunk in chunks]
        tokens = [entry["token"] for logprobs in given if logprobs for entry in logprobs["content"]]
        assert len(tokens) == len(CALL.encode()) + 1

    serve(test, prepare=with_template, tool_call_parser="qwen25")


def test_one_call_where_parallel_ones_are_not_wanted(serve: Serve, engine: FakeEngine) -> None:
    engine.script = utter(CALL + CALL)

    async def test(client: Client) -> None:
        answer = await chat(client, "hi", tools=[TOOL], parallel_tool_calls=False)
        assert message(answer) == ([None, ("look", '{"x": "é"}')], "tool_calls")

    serve(test, prepare=with_template, tool_call_parser="qwen25")


@pytest.mark.parametrize("skip", [None, False])
def test_special_tokens_that_mark_calls_are_seen_and_others_are_not(
    serve: Serve, engine: FakeEngine, skip: bool | None
) -> None:
    tokenizer = toy_tokenizer()
    tokenizer.add_special_tokens([AddedToken(MARK, special=True), AddedToken(PAD, special=True)])
    engine.script = utter(f"a{PAD}b{MARK}" + '[{"name": "look", "arguments": {}}]', of=tokenizer)

    def prepare(bundle: Path) -> None:
        with_template(bundle)
        tokenizer.save(str(bundle / "tokenizer.json"))

    async def test(client: Client) -> None:
        content = "ab" if skip is None else f"a{PAD}b"
        answer = await chat(client, "hi", tools=[TOOL], skip_special_tokens=skip)
        assert message(answer) == ([content, ("look", "{}")], "tool_calls")
        assert len(answer.json["choices"][0]["message"]["tool_calls"][0]["id"]) == 9
        plain = await chat(client, "hi", skip_special_tokens=skip)
        assert message(plain)[0] == [
            (content if skip is None else content + MARK) + '[{"name": "look", "arguments": {}}]'
        ]

    serve(test, prepare=prepare)


def test_a_template_without_tools_has_them_described(serve: Serve, engine: FakeEngine) -> None:
    engine.limits = msgspec.structs.replace(LIMITS, max_request_tokens=1024)
    engine.script = utter(CALL)

    async def test(client: Client) -> None:
        answer = await chat(client, "hi", tools=[TOOL])
        assert message(answer) == ([None, ("look", '{"x": "é"}')], "tool_calls")
        body = {"messages": [{"role": "user", "content": "hi"}], "tools": [TOOL]}
        counted = (await client.request("POST", "/tokenize", body)).json["count"]
        assert counted == answer.json["usage"]["prompt_tokens"]

    serve(
        test,
        prepare=lambda bundle: (bundle / "chat_template.jinja").write_text("{{ messages[0].content }}"),
    )
    prompt = toy_tokenizer().decode(engine.added[0].prompt)
    assert '{"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}' in prompt
    assert prompt.endswith("\n\nhi")


@pytest.mark.parametrize("known", [True, False])
def test_a_forced_call_constrains_the_output(serve: Serve, engine: FakeEngine, known: bool) -> None:
    engine.limits = msgspec.structs.replace(LIMITS, constraints=True)
    engine.script = utter(CALL)

    async def test(client: Client) -> None:
        for choice in ("required", named("look")):
            answer = await chat(client, "hi", tools=[TOOL], tool_choice=choice)
            assert message(answer) == ([None, ("look", '{"x": "é"}')], "tool_calls")
        assert (await chat(client, "hi", tools=[TOOL], tool_choice="auto")).status == 200

    serve(test, prepare=with_template, tool_call_parser="qwen25" if known else None)
    constraints = [add.sampling.constraint for add in engine.added]
    assert [constraint is not None for constraint in constraints] == [True, True, False]
    assert constraints[0] is not None
    assert "look" in constraints[0].text


def test_an_engine_without_constraints_forces_nothing(serve: Serve, engine: FakeEngine) -> None:
    engine.limits = msgspec.structs.replace(LIMITS, constraints=False)

    async def test(client: Client) -> None:
        error = (await chat(client, "hi", tools=[TOOL], tool_choice="required")).json["error"]
        assert (error["code"], error["param"]) == ("unsupported", "tool_choice")

    serve(test, prepare=with_template)


def named(name: str) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name}}


def tool(name: str = "look", **parameters: Any) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "parameters": parameters}}


def nested(depth: int) -> dict[str, Any]:
    return {"properties": nested(depth - 1)} if depth else {}


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"tools": [tool("no name")]}, "tools[0].function.name"),
        ({"tools": [tool(""), TOOL]}, "tools[0].function.name"),
        ({"tools": [TOOL, tool("x" * 65)]}, "tools[1].function.name"),
        ({"tools": [tool(type="string")]}, "tools[0].function.parameters"),
        ({"tools": [tool(**nested(33))]}, "tools[0].function.parameters"),
        ({"tools": [tool(description="x" * 2**15)]}, "tools[0].function.parameters"),
        ({"tools": [TOOL] * 129}, "tools"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tool_choice": named("look")}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": named("listen")}, "tool_choice.function.name"),
        ({"functions": [{"name": "look"}]}, "functions"),
        ({"function_call": "auto"}, "function_call"),
    ],
)
def test_what_cannot_be_called_is_refused(serve: Serve, fields: dict[str, Any], place: str) -> None:
    async def test(client: Client) -> None:
        answer = await chat(client, "hi", **fields)
        assert (answer.status, answer.json["error"]["param"]) == (400, place)

    serve(test, prepare=with_template)


@pytest.mark.parametrize("streaming", [False, True])
def test_the_official_client_goes_from_a_question_to_an_answer(
    serve: Serve, engine: FakeEngine, streaming: bool
) -> None:
    engine.script = utter(CALL, "It is é.")
    turns: list[Any] = [{"role": "user", "content": "hi"}]

    async def test(client: Client) -> None:
        transport = httpx2.ASGITransport(client.app)
        async with (
            httpx2.AsyncClient(transport=transport) as http,
            AsyncOpenAI(base_url="http://test/v1", api_key="none", http_client=http, max_retries=0) as openai,
        ):
            asked = await said(openai)
            (call,) = asked.tool_calls
            assert (call.type, call.function.name) == ("function", "look")
            assert json.loads(call.function.arguments) == {"x": "é"}
            turns.extend(
                [asked.model_dump(exclude_none=True), {"role": "tool", "tool_call_id": call.id, "content": "seen"}]
            )
            answer = await said(openai)
            assert (answer.content, answer.tool_calls) == ("It is é.", None)

    async def said(openai: AsyncOpenAI) -> Any:
        fields: Any = {"model": "m", "messages": turns, "tools": [TOOL]}
        if not streaming:
            return (await openai.chat.completions.create(**fields)).choices[0].message
        async with openai.chat.completions.stream(**fields) as events:
            return (await events.get_final_completion()).choices[0].message

    serve(test, prepare=with_template, tool_call_parser="hermes")
    second = toy_tokenizer().decode(engine.added[1].prompt)
    assert second == "<user>hi<assistant>[look é]<tool>seen#look>"
