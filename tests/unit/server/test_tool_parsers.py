"""Calls taken out of text in each format, however the text is cut into pieces."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from server.openai.tool_parsers.call_object import MAX_HELD
from server.openai.tool_parsers.events import MAX_CALLS, Arguments, CallBegin, CallEnd, Content, ToolParser
from server.openai.tool_parsers.hermes import HermesParser
from server.openai.tool_parsers.json_value import MAX_DEPTH
from server.openai.tool_parsers.llama3 import Llama3Parser
from server.openai.tool_parsers.mistral import MistralParser

Said = list[str | tuple[str, str] | tuple[str, str, str]]
"""Content, and calls as names and arguments; one that is not whole has a third part."""

PARSERS: dict[str, Callable[[], ToolParser]] = {
    "qwen": HermesParser,
    "llama3": lambda: Llama3Parser({"f", "g"}),
    "mistral": MistralParser,
}

CASES: list[tuple[str, str, Said]] = [
    (
        "qwen",
        '<tool_call>\n{"name": "f", "arguments": {"x": [1, "}\\""]}}\n</tool_call>',
        [("f", '{"x": [1, "}\\""]}')],
    ),
    ("qwen", 'Well. <tool_call>{"name": "f", "arguments": {}}</tool_call> So.', ["Well. ", ("f", "{}"), "So."]),
    (
        "qwen",
        '<tool_call>{"name": "f", "arguments": {}}\n</tool_call>\n<tool_call>{"name": "g", "arguments": {"a": 1}}',
        [("f", "{}"), ("g", '{"a": 1}')],
    ),
    ("qwen", '<tool_call>{"id": [7], "arguments": {"a": 1}, "name": "f"}</tool_call>', [("f", '{"a": 1}')]),
    ("qwen", '<tool_call>{"name": "f", "arguments": {"a": 1}, "id": 7, "name": "g"}</tool_call>', [("f", '{"a": 1}')]),
    ("qwen", '<tool_call>{"name": "f"}</tool_call>', [("f", "{}")]),
    ("qwen", '<tool_call>{"name": "f", "arguments": {}</tool_call>', [("f", "{}")]),
    ("qwen", '<tool_call>{"name": "f", "arguments": {}}}</tool_call>', [("f", "{}"), "}"]),
    ("qwen", '<tool_call>{"name": "f", "arguments": {"x', [("f", '{"x', "cut")]),
    ("qwen", '<tool_call>{"name": "f", "arguments": {"x": [1}} y', [("f", '{"x": [1', "cut"), "}} y"]),
    ("qwen", '<tool_call>{"name": "f", "arguments": {}, "id": oh', [("f", "{}"), ', "id": oh']),
    ("qwen", '<tool_call><tool_call>{"name": "f", "arguments": {}}', ["<tool_call>", ("f", "{}")]),
    ("llama3", '{"name": "f", "parameters": {"x": 1}}', [("f", '{"x": 1}')]),
    ("llama3", ' \n {"name": "f", "parameters": {}}', [" \n ", ("f", "{}")]),
    ("llama3", '\n{"name": "f", "arguments": {"x": 1}}\n', ["\n", ("f", '{"x": 1}')]),
    ("llama3", '{"name": "f", "parameters": {}}; {"name": "g", "parameters": {}}', [("f", "{}"), ("g", "{}")]),
    ("llama3", '{"name": "f", "parameters": {}}\n{"name": "g", "parameters": {}}.', [("f", "{}"), ("g", "{}"), "."]),
    ("llama3", '<|python_tag|>{"type": "function", "name": "h", "parameters": {}}', [("h", "{}")]),
    ("llama3", 'Hm. <|python_tag|>{"name": "h", "parameters": {}}; more', ["Hm. ", ("h", "{}"), "; more"]),
    ("mistral", '[TOOL_CALLS] [{"name": "f", "arguments": {"x": 1}, "id": "123456789"}]', [("f", '{"x": 1}')]),
    (
        "mistral",
        'a[TOOL_CALLS][{"name": "f", "arguments": {}}, {"name": "g", "arguments": {}}] b',
        ["a", ("f", "{}"), ("g", "{}"), "b"],
    ),
    ("mistral", '[TOOL_CALLS]f[ARGS]{"x": 1}[TOOL_CALLS]g[CALL_ID]123456789[ARGS]{}', [("f", '{"x": 1}'), ("g", "{}")]),
    ("mistral", '[TOOL_CALLS][{"name": "f", "arguments": {}}, 5]', [("f", "{}"), ", 5]"]),
]

NO_CALLS = [
    ("qwen", "<tool_call>"),
    ("qwen", "</tool_call>"),
    ("qwen", "<tool_call>\nf(1)\n</tool_call>"),
    ("qwen", '<tool_call>{"name": "f", "argum'),
    ("qwen", '<tool_call>{"name": "f", "arguments": "{}"}</tool_call>'),
    ("qwen", '<tool_call>{"name": "no name", "arguments": {}}</tool_call>'),
    ("qwen", '<tool_call>{"name": 5, "arguments": {}}</tool_call>'),
    ("qwen", "<tool_call>{}</tool_call>"),
    ("qwen", '<tool_call>{"arguments": {}}</tool_call>'),
    ("qwen", '<tool_call>{"name" "f"}'),
    ("qwen", '<tool_call>{"name": }'),
    ("qwen", '<tool_call>{"a": ' + "[" * (MAX_DEPTH + 1)),
    ("qwen", '<tool_call>{"a": "' + "x" * MAX_HELD + '", "name": "f", "arguments": {}}</tool_call>'),
    ("llama3", '{"name": "unknown", "parameters": {}}'),
    ("llama3", '{"name": "f"}'),
    ("llama3", 'It is {"name": "f", "parameters": {}}'),
    ("llama3", '<|python_tag|>print("hello")'),
    ("llama3", "<|python_"),
    ("mistral", "[TOOL_CALLS]"),
    ("mistral", "[TOOL_CALLS] "),
    ("mistral", "[TOOL_CALLS][1]"),
    ("mistral", '[TOOL_CALLS]{"name": "f", "arguments": {}}'),
    ("mistral", "[TOOL_CALLS]f{}"),
    ("mistral", "[TOOL_CALLS]f g[ARGS]{}"),
    ("mistral", "[TOOL_CALLS]" + "f" * 1000 + "[ARGS]{}"),
    ("mistral", "[TOOL_CALLS] no calls"),
]

FRAGMENTS = [
    *("<tool_call>", "</tool_call>", "<|python_tag|>", "[TOOL_CALLS]", "[ARGS]", "[CALL_ID]", "<tool", "[T", "<|"),
    *("{", "}", "[", "]", '"', ":", ",", ";", "\\", " ", "\n", "f", "1", "é", '{"name": "f"', "f[ARGS]{}"),
    *('"name"', '"f"', '"arguments"', '"parameters"', '{"name": "f", "arguments": {', '"parameters": {"x": 1}}'),
]
TEXTS = st.lists(st.sampled_from(FRAGMENTS), max_size=30).map("".join)
FORMATS = pytest.mark.parametrize("name", PARSERS)


def said(parser: ToolParser, pieces: Sequence[str]) -> Said:
    """All that a parser makes of an output, neighbouring texts joined."""
    out: Said = []
    for event in [event for piece in pieces for event in parser.push(piece)] + parser.finish():
        last = out[-1] if out else None
        match event:
            case Content(text):
                assert text
                out[-1:] = [last + text] if isinstance(last, str) else [*out[-1:], text]
            case CallBegin(name):
                out.append((name, "", "cut"))
            case Arguments(text):
                assert text
                assert isinstance(last, tuple)
                assert len(last) == 3
                out[-1] = (last[0], last[1] + text, "cut")
            case CallEnd():
                assert isinstance(last, tuple)
                assert len(last) == 3
                out[-1] = last[:2]
    return out


@pytest.mark.parametrize(("name", "text", "want"), CASES)
def test_calls_are_found_whole_and_piece_by_piece(name: str, text: str, want: Said) -> None:
    assert said(PARSERS[name](), [text]) == want
    assert said(PARSERS[name](), [*text]) == want


@pytest.mark.parametrize(("name", "text"), NO_CALLS)
def test_what_is_no_call_stays_text(name: str, text: str) -> None:
    assert said(PARSERS[name](), [text]) == [text]
    assert said(PARSERS[name](), [*text]) == [text]


@FORMATS
@given(data=st.data(), text=TEXTS)
def test_pieces_do_not_matter(name: str, data: st.DataObject, text: str) -> None:
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    whole = said(PARSERS[name](), [text])
    assert said(PARSERS[name](), pieces) == whole
    assert said(PARSERS[name](), [*text]) == whole


@FORMATS
@given(text=st.text(alphabet="abc<>|[]_TOLACSé \n"))
def test_text_without_calls_passes_unchanged(name: str, text: str) -> None:
    assert "".join(part for part in said(PARSERS[name](), [*text]) if isinstance(part, str)) == text


@FORMATS
@given(text=TEXTS)
def test_nothing_is_lost_where_nothing_is_called(name: str, text: str) -> None:
    out = said(PARSERS[name](), [text])
    assert any(isinstance(part, tuple) for part in out) or "".join(map(str, out)) == text


@FORMATS
@given(text=TEXTS)
def test_what_waits_is_bounded(name: str, text: str) -> None:
    parser = PARSERS[name]()
    for place, character in enumerate(text + "x" * (MAX_HELD + 20)):
        events = parser.push(character)
        if place >= len(text) and events:
            break
    else:
        pytest.fail("text waits for ever")


@pytest.mark.parametrize(
    ("name", "begin", "end"),
    [
        ("qwen", "<tool_call>", "</tool_call>"),
        ("llama3", "<|python_tag|>", ""),
        ("mistral", "[TOOL_CALLS][", "]"),
    ],
)
def test_calls_are_limited_in_number_and_depth(name: str, begin: str, end: str) -> None:
    one = f'{begin}{{"name": "f", "arguments": {{}}}}{end}'
    *calls, rest = said(PARSERS[name](), [one * (MAX_CALLS + 1)])
    assert calls == [("f", "{}")] * MAX_CALLS
    assert isinstance(rest, str)
    assert begin in rest
    nested = '{"a":' * MAX_DEPTH
    deep = f'{begin}{{"name": "f", "arguments": {nested}{nested}'
    assert said(PARSERS[name](), [deep]) == [("f", nested, "cut"), nested]


@pytest.mark.parametrize(
    ("name", "unit"),
    [
        *(("qwen", unit) for unit in ("<", "<tool_call>", "</tool_call>", '<tool_call>{"', "<tool_call> ")),
        ("qwen", '<tool_call>{"x": "' + "x" * MAX_HELD),
        ("qwen", '<tool_call>{"name": "f", "arguments": {}}</tool_call>'),
        ("qwen", '<tool_call>{"name": "f", "arguments": {"a": "\\'),
        *(("llama3", unit) for unit in (" ", "<|", "<|python_tag|>", '{"name": "f", "parameters": {}};')),
        *(("mistral", unit) for unit in ("[", "[TOOL_CALLS]", "[TOOL_CALLS]f", "[TOOL_CALLS] ", "[TOOL_CALLS]f[ARGS]")),
        ("mistral", '[TOOL_CALLS][{"x": "' + "x" * MAX_HELD),
    ],
)
def test_a_hostile_megabyte_takes_seconds_at_most(name: str, unit: str) -> None:
    text = (unit * (2**20 // len(unit) + 1))[: 2**20]
    parser = PARSERS[name]()
    began = time.process_time()
    parser.push(text)
    parser.finish()
    assert time.process_time() - began < 3, "measured: 0.1 to 0.5 s"
