"""Constrained output of the default model: always in its language, many at once, at temperature 1."""

from __future__ import annotations

import json
import re
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import jsonschema
from serving import Server

STREAMS = 32
GENERATIONS = 200


def record(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def text(longest: int) -> dict[str, Any]:
    return {"type": "string", "maxLength": longest}


def listed(items: dict[str, Any], most: int, least: int = 0) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": least, "maxItems": most}


COLOUR = {"enum": ["red", "green", "blue"]}
YEAR = {"type": "integer", "minimum": 1900, "maximum": 2100}
POINT = record(x={"enum": [0, 1, 2]}, y={"enum": [-1, 1]})

SCHEMAS: list[dict[str, Any]] = [
    record(name=text(12), colour=COLOUR),
    record(city=text(16), country={"enum": ["FR", "DE", "JP"]}),
    record(year=YEAR),
    record(answer={"type": "boolean"}, reason=text(20)),
    record(tags=listed(text(6), 3)),
    record(points=listed(POINT, 3)),
    record(inner=record(inner=record(leaf=COLOUR))),
    record(maybe={"anyOf": [{"type": "null"}, text(8)]}),
    record(sentiment={"enum": ["positive", "neutral", "negative"]}, score={"enum": [1, 2, 3, 4, 5]}),
    record(code={"type": "string", "pattern": "^[A-Z]{3}-[0-9]{2}$"}),
    record(date={"type": "string", "format": "date"}),
    listed(COLOUR, 4, least=1),
    listed(record(word=text(5)), 2),
    {"enum": ["yes", "no", 'say "maybe"', 42, None]},
    {"type": "object", "properties": {"a": text(4), "b": YEAR}, "additionalProperties": False},
    {"anyOf": [record(cat=text(5)), record(dog={"type": "boolean"})]},
    {"type": "array", "prefixItems": [COLOUR, YEAR], "items": False, "minItems": 2},
    {"$defs": {"hue": COLOUR}, **record(first={"$ref": "#/$defs/hue"}, second={"$ref": "#/$defs/hue"})},
    {"$defs": {"tree": record(leaves=listed({"$ref": "#/$defs/leaf"}, 2)), "leaf": text(3)}, "$ref": "#/$defs/tree"},
    record(unicode={"const": "naïve - 日本"}, empty=text(0), grid=listed(listed({"enum": [0, 1]}, 2), 2)),
]


def ask(server: Server, number: int) -> str:
    """A generation; the four ways to ask take turns."""
    schema = SCHEMAS[number % len(SCHEMAS)]
    prompt = f"Describe item {number} of the collection as JSON: "
    fields: dict[str, Any] = {"model": "m", "max_tokens": 500, "temperature": 1, "seed": number}
    schema_field: list[dict[str, Any]] = [
        {"response_format": {"type": "json_schema", "json_schema": {"name": "item", "schema": schema, "strict": True}}},
        {"guided_json": schema},
    ]
    match number // len(SCHEMAS) % 4:
        case 0 | 1 as way:
            (choice,) = server.post("/v1/completions", {"prompt": prompt, **fields, **schema_field[way]})["choices"]
            written, reason = choice["text"], choice["finish_reason"]
        case 2:
            messages = [{"role": "user", "content": prompt}]
            (choice,) = server.post("/v1/chat/completions", {"messages": messages, **fields, **schema_field[0]})[
                "choices"
            ]
            written, reason = choice["message"]["content"], choice["finish_reason"]
        case _:
            answer = server.generate(
                prompt, guided_json=json.dumps(schema), max_new_tokens=500, do_sample=True, temperature=1, seed=number
            )
            (written,), reason = answer["generated_text"], answer["finish_reason"]
    assert reason == "stop", f"{reason} after {written!r}, under {schema}"
    return str(written)


def test_json_parses_and_validates_every_time(server: Server) -> None:
    with ThreadPoolExecutor(STREAMS) as pool:
        texts = list(pool.map(lambda number: ask(server, number), range(GENERATIONS)))
    for number, written in enumerate(texts):
        jsonschema.validate(json.loads(written), SCHEMAS[number % len(SCHEMAS)])
    assert len(set(texts)) > GENERATIONS / 2


def test_what_only_the_vocabulary_shows_is_refused_by_the_engine(server: Server) -> None:
    body = {"inputs": "a", "parameters": {"guided_grammar": 'start: <|no_such_token|> "a"'}}
    status, answer = server.request("POST", "/generate", body)
    assert (status, json.loads(answer)["error_code"]) == (417, "invalid_constraint")
    assert b"no_such_token" in answer


def test_regular_expressions_grammars_and_choices_are_kept_too(server: Server) -> None:
    email = r"[a-z]{2,8}@[a-z]{2,8}\.(com|org)"
    sums = 'root ::= number (" + " number)+ " = " number\nnumber ::= [0-9] [0-9]?'
    queries = 'start: "SELECT " NAME (", " NAME)~0..2 " FROM " NAME\nNAME: /[a-z]{1,8}/'
    cases = [
        ("regular_constraint", email, email),
        ("guided_grammar", queries, r"SELECT [a-z]{1,8}(, [a-z]{1,8}){0,2} FROM [a-z]{1,8}"),
    ]
    for field, constraint, pattern in cases:
        answer = server.generate(
            "My answer: ", **{field: constraint}, max_new_tokens=100, do_sample=True, temperature=1, best_of=4, seed=3
        )
        assert answer["finish_reason"] == ["stop"] * 4
        assert all(re.fullmatch(pattern, written) for written in answer["generated_text"]), answer["generated_text"]
    (sum_,) = server.generate("1 + 2 = 3\n", guided_grammar=sums, max_new_tokens=60)["generated_text"]
    assert re.match(r"\d\d?( \+ \d\d?)+( = \d\d?)?", sum_)
    fields = {"model": "m", "prompt": "Is the sky blue? ", "temperature": 1, "n": 4}
    choices = server.post("/v1/completions", {**fields, "guided_choice": ["yes", "no"]})["choices"]
    assert {choice["text"] for choice in choices} <= {"yes", "no"}
