"""Constraints as requests ask for them: what reaches the engine, and what is refused before."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
from asgi_driver import Client
from fake_engine import LIMITS, FakeEngine
from openai_calls import chat, complete, with_template

from runtime.request import Constraint, ConstraintKind
from server import constraints

Serve = Callable[..., None]

SCHEMA = {"type": "object", "properties": {"b": {"type": "integer"}, "a": {"type": "null"}}}
TEXT = json.dumps(SCHEMA, separators=(",", ":"))
AS_JSON = Constraint(ConstraintKind.JSON_SCHEMA, TEXT)
ANY_OBJECT = Constraint(ConstraintKind.JSON_SCHEMA, '{"type":"object"}')
AS_REGEX = Constraint(ConstraintKind.REGEX, "a+")
AS_LARK = Constraint(ConstraintKind.LARK, 'start: "a"+')
AS_CHOICE = Constraint(ConstraintKind.LARK, 'start: "ja" | "ne\\"in"')
GBNF = 'root ::= "a" item\nitem ::= [0-9]+'


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"response_format": {"type": "text"}}, None),
        ({"response_format": {"type": "json_object"}}, ANY_OBJECT),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}}, AS_JSON),
        (
            {
                "response_format": {
                    "type": "json_schema",
                    "json_schema": {"name": "x", "strict": True, "schema": SCHEMA},
                }
            },
            AS_JSON,
        ),
        ({"response_format": {"type": "json_object", "schema": SCHEMA}}, AS_JSON),
        ({"guided_json": SCHEMA}, AS_JSON),
        ({"guided_json": TEXT}, AS_JSON),
        ({"guided_regex": "a+"}, AS_REGEX),
        ({"regular_constraint": "a+"}, AS_REGEX),
        ({"guided_choice": ["ja", 'ne"in']}, AS_CHOICE),
        ({"guided_grammar": 'start: "a"+'}, AS_LARK),
        ({"structured_outputs": {"json": SCHEMA, "regex": None}}, AS_JSON),
        ({"structured_outputs": {"regex": "a+"}}, AS_REGEX),
        ({"structured_outputs": {"choice": ["ja", 'ne"in']}}, AS_CHOICE),
        ({"structured_outputs": {"grammar": 'start: "a"+'}}, AS_LARK),
        ({"structured_outputs": {"json_object": True}}, ANY_OBJECT),
        ({"structured_outputs": {}}, None),
    ],
)
def test_openais_and_vllms_ways_to_ask_reach_the_engine(
    serve: Serve, engine: FakeEngine, fields: dict[str, Any], constraint: Constraint | None
) -> None:
    async def test(client: Client) -> None:
        for answer in (await complete(client, **fields), await chat(client, "hi", **fields)):
            assert answer.status == 200, answer.body

    serve(test, prepare=with_template)
    assert [add.sampling.constraint for add in engine.added] == [constraint, constraint]


@pytest.mark.parametrize(
    ("fields", "constraint"),
    [
        ({"guided_json": TEXT}, AS_JSON),
        ({"regular_constraint": "a+"}, AS_REGEX),
        ({"guided_grammar": 'start: "a"+'}, AS_LARK),
        ({"guided_grammar": "", "allowed_token_ids": [1]}, None),
    ],
)
def test_lightllms_ways_reach_the_engine(
    serve: Serve, engine: FakeEngine, fields: dict[str, Any], constraint: Constraint | None
) -> None:
    async def test(client: Client) -> None:
        assert (await client.generate(**fields)).status == 200

    serve(test)
    assert [add.sampling.constraint for add in engine.added] == [constraint]


def test_ebnf_is_lark_by_the_time_it_reaches_the_engine(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        assert (await client.generate(guided_grammar=GBNF)).status == 200

    serve(test)
    constraint = engine.added[0].sampling.constraint
    assert constraint is not None
    assert constraint.kind is ConstraintKind.LARK
    assert "start:" in constraint.text


DEEP_SCHEMA = '{"type":"object","properties":{"a":' * 5000 + "{}" + "}}" * 5000


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"guided_json": "{"}, "guided_json"),
        ({"guided_json": "true"}, "guided_json"),
        ({"guided_json": DEEP_SCHEMA}, "guided_json"),
        ({"guided_json": '{"$ref": "http://127.0.0.1:1/schema"}'}, "guided_json"),
        ({"guided_json": '{"$ref": "file:///etc/passwd"}'}, "guided_json"),
        ({"guided_json": '{"type": "array", "uniqueItems": true}'}, "guided_json"),
        ({"guided_json": '{"enum": []}'}, "guided_json"),
        ({"regular_constraint": "(a"}, "regular_constraint"),
        ({"regular_constraint": "(?=a)b"}, "regular_constraint"),
        ({"regular_constraint": "(" * 50_000}, "regular_constraint"),
        ({"regular_constraint": "a" * (2**18 + 1)}, "regular_constraint"),
        ({"guided_grammar": "start: nobody"}, "guided_grammar"),
        ({"guided_grammar": "start: " + "(" * 5000 + '"a"' + ")" * 5000}, "guided_grammar"),
        ({"guided_grammar": "root ::= " + "(" * 4000}, "guided_grammar"),
        ({"guided_grammar": "root ::= nobody"}, "guided_grammar"),
        ({"guided_grammar": 'root ::= "' + "a" * 9000 + '"'}, "guided_grammar"),
        ({"guided_grammar": 'start: "\ud800"'}, None),
    ],
)
def test_what_cannot_be_had_is_refused_by_name(
    serve: Serve, engine: FakeEngine, fields: dict[str, Any], param: str | None
) -> None:
    async def test(client: Client) -> None:
        answer = await client.generate(**fields)
        assert answer.status == 417
        if param is None:  # no UTF-8: no JSON either
            return
        assert (answer.json["error_code"], answer.json["param"]) == ("invalid_constraint", param)
        assert answer.json["message"].startswith(f"{param}: ")
        assert len(answer.json["message"]) < 500
        answer = await complete(client, **fields)
        assert (answer.status, answer.json["error"]["param"]) == (400, param)

    serve(test)
    assert engine.added == []


@pytest.mark.parametrize(
    ("fields", "status", "param"),
    [
        ({"guided_json": {}, "guided_regex": "a"}, 400, "guided_regex"),
        ({"response_format": {"type": "json_object"}, "guided_choice": ["a"]}, 400, "guided_choice"),
        ({"structured_outputs": {"regex": "a", "json": {}}}, 400, "structured_outputs"),
        ({"structured_outputs": {"structural_tag": "{}"}}, 400, "structured_outputs"),
        ({"structured_outputs": []}, 422, "structured_outputs"),
        ({"guided_choice": []}, 422, "guided_choice"),
        ({"guided_choice": [1]}, 422, "guided_choice"),
        ({"guided_regex": 5}, 422, "guided_regex"),
        ({"guided_json": [1]}, 422, "guided_json"),
        ({"response_format": {"type": "json_schema"}}, 422, "response_format"),
        ({"response_format": {"type": "json_schema", "json_schema": {"name": "x"}}}, 422, "response_format"),
        ({"response_format": {"type": "yaml"}}, 400, "response_format"),
    ],
)
def test_openai_requests_that_contradict_themselves(
    serve: Serve, engine: FakeEngine, fields: dict[str, Any], status: int, param: str
) -> None:
    async def test(client: Client) -> None:
        answer = await complete(client, **fields)
        assert (answer.status, answer.json["error"]["param"]) == (status, param)

    serve(test)
    assert engine.added == []


def test_an_engine_that_cannot_constrain_says_so(serve: Serve, engine: FakeEngine) -> None:
    engine.limits = msgspec.structs.replace(LIMITS, constraints=False)

    async def test(client: Client) -> None:
        answer = await client.generate(regular_constraint="a")
        assert (answer.status, answer.json["error_code"], answer.json["param"]) == (
            417,
            "unsupported",
            "regular_constraint",
        )
        assert (await complete(client, guided_regex="a")).json["error"]["code"] == "unsupported"

    serve(test)


def test_what_has_been_checked_is_not_checked_again(serve: Serve, monkeypatch: pytest.MonkeyPatch) -> None:
    checked: list[str] = []

    def count(constraint: Constraint) -> Constraint:
        checked.append(constraint.text)
        return constraint

    monkeypatch.setattr(constraints, "check", count)

    async def test(client: Client) -> None:
        for text in ("a", "b", "a", "a"):
            assert (await client.generate(regular_constraint=text, max_new_tokens=1)).status == 200

    serve(test)
    assert checked == ["a", "b"]
