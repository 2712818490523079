"""What the constraint of a forced call lets a model write, and that the scanner of its format reads that."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import msgspec
import pytest
from tokenizers import AddedToken
from toy_tokenizer import EOS_ID, toy_tokenizer

from runtime.constraints import check
from runtime.constraints.compiled_grammar import compile_grammar
from runtime.constraints.vocabulary import load_vocabulary
from server.openai.chat_output import ChatOutput
from server.openai.forced_calls import forced_calls
from server.openai.tool_formats import HERMES, LLAMA3, MISTRAL, ToolFormat, ToolUse
from server.openai.tool_types import Tool, ToolChoice
from server.tokenizer import TextCodec

TOOLS = msgspec.convert(
    [
        {
            "type": "function",
            "function": {
                "name": name,
                "parameters": {"type": "object", "properties": {"x": {"enum": values}}, "required": ["x"]},
            },
        }
        for name, values in (("f", [1, 2]), ("g", ["a"]))
    ],
    list[Tool],
)
NAMED = msgspec.convert({"type": "function", "function": {"name": "g"}}, ToolChoice)


@pytest.fixture
def codec() -> TextCodec:
    tokenizer = toy_tokenizer()
    tokenizer.add_special_tokens([AddedToken(mark, special=True) for mark in MISTRAL.marks])
    return TextCodec(tokenizer)


def accepted(codec: TextCodec, path: Path, form: ToolFormat, choice: Any, text: str, *, parallel: bool = False) -> bool:
    """Whether the constraint takes ``text``, its special tokens as such, and an EOS behind it."""
    made = forced_calls(form, TOOLS, choice, parallel=parallel, codec=codec)
    assert made is not None
    assert made[1] == "tool_choice"
    codec.tokenizer.save(str(path / "tokenizer.json"))
    size = codec.tokenizer.get_vocab_size()
    matcher = compile_grammar(load_vocabulary(path / "tokenizer.json", size, [EOS_ID]), check(made[0])).matcher()
    ids = [*codec.tokenizer.encode(text, add_special_tokens=False).ids, EOS_ID]
    return matcher.validate_tokens(ids) == len(ids)


@pytest.mark.parametrize("form", [HERMES, LLAMA3, MISTRAL])
def test_a_forced_call_is_one_that_the_scanner_reads(codec: TextCodec, tmp_path: Path, form: ToolFormat) -> None:
    def takes(choice: Any, *calls: tuple[str, Any], parallel: bool = False) -> bool:
        texts = [form.write(name, json.dumps(arguments, separators=(",", ":"))) for name, arguments in calls]
        text = form.separator.join(texts)
        message = ChatOutput((), ToolUse(form, frozenset("fg"), parallel=True)).message(text)
        assert message.content is None
        assert isinstance(message.tool_calls, list)
        assert len(message.tool_calls) == len(calls)
        return accepted(codec, tmp_path, form, choice, text, parallel=parallel)

    f, g = ("f", {"x": 2}), ("g", {"x": "a"})
    assert takes("required", f)
    assert takes("required", g)
    assert takes("required", f, g, parallel=True)
    assert takes(NAMED, g)
    assert not takes("required", f, g)
    assert not takes("required", ("f", {"x": 3}))
    assert not takes("required", ("f", {}))
    assert not takes(NAMED, f)
    assert not takes(NAMED, g, g, parallel=True)
    assert not accepted(codec, tmp_path, form, "required", "I will not.")


@pytest.mark.parametrize("choice", [None, "auto", "none"])
def test_nothing_else_is_forced(codec: TextCodec, choice: Any) -> None:
    assert forced_calls(HERMES, TOOLS, choice, parallel=True, codec=codec) is None
