"""How calls are written, in templates that know them and in others, and which format a model has."""

from __future__ import annotations

import asyncio
from typing import Any

import msgspec
import pytest
from chat_templates import GEMMA, TOOLS_LLAMA, TOOLS_MISTRAL, TOOLS_QWEN
from tokenizers import AddedToken
from toy_tokenizer import toy_tokenizer

from server.chat_template import ChatTemplate, Message
from server.openai.chat_messages import template_messages, template_tools
from server.openai.chat_output import ChatOutput
from server.openai.chat_types import ChatMessage, Delta
from server.openai.tool_formats import HERMES, LLAMA3, MISTRAL, TOOL_FORMATS, ToolFormat, ToolUse, choose_format
from server.openai.tool_prompt import without_tools
from server.openai.tool_types import FunctionDelta, Tool, ToolCallDelta

TOOL = {
    "type": "function",
    "function": {"name": "look", "description": "Looks.", "parameters": {"type": "object", "properties": {}}},
}
TURNS: list[dict[str, Any]] = [
    {"role": "user", "content": "Where is it?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {"id": "abcdefghi", "type": "function", "function": {"name": "look", "arguments": '{"at": ["é", 1]}'}}
        ],
    },
    {"role": "tool", "tool_call_id": "abcdefghi", "content": "not here"},
]


def messages(turns: list[dict[str, Any]]) -> list[Message]:
    return template_messages(msgspec.convert(turns, list[ChatMessage]))


def tools() -> list[dict[str, Any]]:
    return template_tools([msgspec.convert(TOOL, Tool)])


def rendered(source: str, turns: list[dict[str, Any]]) -> str:
    async def render() -> str:
        template = ChatTemplate(source, {"bos_token": "<s>", "eos_token": "</s>"})
        return await template.render(messages(turns), add_generation_prompt=True, tools=tools())

    return asyncio.run(render())


def test_a_qwen_template_gets_arguments_as_objects() -> None:
    text = rendered(TOOLS_QWEN, TURNS)
    assert '{"type": "function", "function": {"name": "look", "description": "Looks.", "parameters": {"type"' in text
    assert '<tool_call>\n{"name": "look", "arguments": {"at": ["é", 1]}}\n</tool_call><|im_end|>\n' in text
    assert text.endswith(
        "<|im_start|>user\n<tool_response>\nnot here\n</tool_response><|im_end|>\n<|im_start|>assistant\n"
    )


def test_a_llama_template_gets_one_call_and_its_result() -> None:
    text = rendered(TOOLS_LLAMA, TURNS)
    assert '"name": "look"' in text
    assert '{"name": "look", "parameters": {"at": ["é", 1]}}<|eot_id|>' in text
    assert '<|start_header_id|>ipython<|end_header_id|>\n\n"not here"<|eot_id|>' in text


def test_a_mistral_template_gets_ids() -> None:
    text = rendered(TOOLS_MISTRAL, TURNS)
    assert '[TOOL_CALLS] [{"name": "look", "arguments": {"at": ["é", 1]}, "id": "abcdefghi"}]</s>' in text
    assert text.endswith('[TOOL_RESULTS] {"content": not here, "call_id": "abcdefghi"}[/TOOL_RESULTS]')


def test_a_template_without_tools_gets_them_as_text() -> None:
    plain = without_tools(messages([*TURNS, TURNS[2], TURNS[0]]), tools(), HERMES)
    result = "<tool_response>\nnot here\n</tool_response>"
    assert [turn["role"] for turn in plain] == ["user", "assistant", "user", "user"]
    assert plain[1:] == [
        {"role": "assistant", "content": HERMES.write("look", '{"at": ["é", 1]}')},
        {"role": "user", "content": f"{result}\n{result}"},
        {"role": "user", "content": "Where is it?"},
    ]
    assert plain[0]["content"].startswith("# Tools\n\n")
    assert '\n{"type": "function", "function": {"name": "look", "description": "Looks."' in plain[0]["content"]
    assert plain[0]["content"].endswith("</tool_call>\n\nWhere is it?")


def test_tools_are_described_behind_the_systems_words() -> None:
    system, user = without_tools(messages([{"role": "system", "content": "Be brief."}, TURNS[0]]), tools(), LLAMA3)
    assert system["content"].startswith("Be brief.\n\n# Tools\n\n")
    assert system["content"].endswith('\n{"name": "function-name", "parameters": {"argument-name": "value"}}')
    assert user["content"] == "Where is it?"


def test_chats_without_tools_are_left_alone() -> None:
    plain = messages([{"role": "system", "content": "Be brief."}, {"role": "user", "content": "a", "name": "me"}])
    assert without_tools(plain, None, HERMES) == plain


@pytest.mark.parametrize("form", [HERMES, LLAMA3, MISTRAL])
def test_what_is_written_is_read(form: ToolFormat) -> None:
    text = form.separator.join([form.write("f", '{"x": 1}'), form.write("g", "{}")])
    message = ChatOutput((), ToolUse(form, frozenset({"f", "g"}), parallel=True)).message(text)
    assert message.content is None
    assert isinstance(message.tool_calls, list)
    functions = [(call.function.name, call.function.arguments) for call in message.tool_calls]
    assert functions == [("f", '{"x": 1}'), ("g", "{}")]
    ids = {call.id or "" for call in message.tool_calls}
    assert len(ids) == 2
    assert form is not MISTRAL or all(len(one) == 9 and one.isalnum() for one in ids)


@pytest.mark.parametrize(
    ("source", "added", "want"),
    [
        (TOOLS_QWEN, ["<|python_tag|>"], HERMES),
        (TOOLS_MISTRAL, [], MISTRAL),
        (TOOLS_LLAMA, ["<|python_tag|>"], LLAMA3),
        (TOOLS_LLAMA, [], None),
        (TOOLS_QWEN + TOOLS_MISTRAL, ["<tool_call>"], None),
        (GEMMA, ["[TOOL_CALLS]"], HERMES),
        (None, [], HERMES),
    ],
)
def test_a_models_files_say_how_it_calls(source: str | None, added: list[str], want: ToolFormat | None) -> None:
    tokenizer = toy_tokenizer()
    tokenizer.add_tokens([AddedToken(text) for text in added])
    assert choose_format(None, ChatTemplate(source), tokenizer) is want
    assert choose_format("llama3", ChatTemplate(source), tokenizer) is LLAMA3


def test_lightllms_names_are_known() -> None:
    assert {"qwen25", "llama3", "mistral"} <= TOOL_FORMATS.keys()


TWO = '<tool_call>{"name": "f", "arguments": {}}</tool_call> and <tool_call>{"name": "g", "arguments": {"x'


def output(parallel: bool = True) -> ChatOutput:
    return ChatOutput(("STOP",), ToolUse(HERMES, frozenset({"f", "g"}), parallel))


def test_one_call_only_where_more_are_not_wanted() -> None:
    one = output(parallel=False)
    message = one.message(f"Oh {TWO}")
    assert message.content == "Oh and "
    assert isinstance(message.tool_calls, list)
    assert len(message.tool_calls) == 1
    assert one.finish_reason("stop") == "tool_calls"


def test_the_finish_reason_promises_whole_calls() -> None:
    def reason(text: str, reason: str) -> str | None:
        made = output()
        made.deltas(text, last=True)
        return made.finish_reason(reason)

    assert reason("<tool_call>", "stop") == "stop"
    assert reason(TWO, "stop") == "stop"
    assert reason(TWO, "length") == "length"
    assert reason(TWO[:53], "stop") == "tool_calls"
    assert reason(TWO[:53], "length") == "length"


def test_a_stop_string_ends_a_call_too() -> None:
    assert output().deltas('<tool_call>{"name": "f", "arguments": {"x": "STOP', last=True)[-1:] == [
        Delta(tool_calls=[ToolCallDelta(index=0, function=FunctionDelta(arguments='{"x": "'))])
    ]
