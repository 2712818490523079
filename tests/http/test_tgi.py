"""``--use_tgi_api`` in process, on scripted tokens: LightLLM's form of TGI's format."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from asgi_driver import Answer, Client
from fake_engine import FakeEngine, say
from toy_tokenizer import byte_id

from runtime.messages import AddRequest, Rejected, RejectReason, TokenOutput
from runtime.request import Constraint, ConstraintKind, FinishReason

Serve = Callable[..., None]

OBJECT = Constraint(ConstraintKind.JSON_SCHEMA, '{"type":"object"}')


async def post(
    client: Client, path: str = "/generate", fields: dict[str, Any] | None = None, **parameters: Any
) -> Answer:
    body = {"inputs": "hi", "parameters": {"max_new_tokens": 2} | parameters} | (fields or {})
    return await client.request("POST", path, body)


def test_an_answer_is_its_text(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await post(client)
        assert answer.headers["content-type"] == "application/json"
        assert answer.body == b'{"generated_text":"ab"}'

    serve(test, tgi=True)


@pytest.mark.parametrize("name", ["details", "return_details"])
def test_details_are_the_tokens_and_the_beams(serve: Serve, name: str) -> None:
    async def test(client: Client) -> None:
        details = (await post(client, **{name: True})).json["details"]
        tokens = details.pop("tokens")
        assert [(token["id"], token["text"]) for token in tokens] == [(byte_id(97), "a"), (byte_id(98), "b")]
        assert details == {
            "generated_tokens": 2,
            "finish_reason": "length",
            "prompt_tokens": 2,
            "beam_sequences": [
                {"generated_text": "ab", "finish_reason": "length", "generated_tokens": 2, "logprob": -0.5}
            ],
        }

    serve(test, tgi=True)


def test_of_several_outputs_the_likeliest_is_the_text(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        details = (await post(client, fields={"num_beam": 3}, details=True, best_of=2, n=2)).json
        assert details["generated_text"] == "bb"
        beams = details["details"]["beam_sequences"]
        assert [(beam["generated_text"], beam["logprob"]) for beam in beams] == [("aa", -2), ("bb", -1), ("cc", -3)]

    def script(add: AddRequest, sample: int, count: int) -> TokenOutput:
        finish = FinishReason.LENGTH if count else FinishReason.NONE
        return TokenOutput(add.request_id, sample, byte_id(97 + sample), (-2.0, -1.0, -3.0)[sample], finish)

    engine.script = script
    serve(test, tgi=True)
    assert [add.samples for add in engine.added] == [3]


def test_the_environment_asks_for_lists(serve: Serve) -> None:
    async def test(client: Client) -> None:
        assert (await post(client)).json == [{"generated_text": "ab"}]

    serve(test, tgi=True, environ={"RETURN_LIST": "1"})


def test_stop_stands_for_stop_sequences_where_those_are_absent(serve: Serve) -> None:
    async def test(client: Client) -> None:
        assert (await post(client, max_new_tokens=9, stop=["c"])).json["generated_text"] == "abc"
        answer = await post(client, max_new_tokens=9, stop=["c"], stop_sequences=["e"])
        assert answer.json["generated_text"] == "abcde"

    serve(test, tgi=True)


def test_what_only_tgi_knows_is_discarded_and_named(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await post(
            client,
            typical_p=0.9,
            return_full_text=True,
            truncate=3,
            watermark=False,
            decoder_input_details=True,
            best_of=4,
            token_healing_top_k=3,
            top_n_tokens=2,
            temperature=None,
            adapter_id=None,
        )
        assert answer.json == {"generated_text": "ab"}
        assert set(answer.headers["x-ignored-parameters"].split(", ")) == {
            "typical_p",
            "return_full_text",
            "truncate",
            "decoder_input_details",
            "best_of",
            "token_healing_top_k",
            "top_n_tokens",
        }

    serve(test, tgi=True)


def test_parameters_may_be_absent(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        for body in ({"inputs": "hi"}, {"inputs": "hi", "parameters": None}):
            assert (await client.request("POST", "/generate", body)).status == 200

    engine.script = say("a")
    serve(test, tgi=True)
    assert [add.sampling.max_new_tokens for add in engine.added] == [16, 16]


def test_a_seed_counts(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        await post(client, seed=7)

    serve(test, tgi=True)
    assert engine.added[0].sampling.seed == 7


def test_a_stream_has_spaces_and_ends_with_the_whole_text(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await post(client, "/generate_stream")
        token = (
            '{"id": %d, "text": "%s", "logprob": -0.5, "special": false, "count_output_tokens": %d, "prompt_tokens": 2}'
        )
        first, last = token % (byte_id(97), "a", 1), token % (byte_id(98), "b", 2)
        assert answer.body.decode() == (
            f'data:{{"token": {first}, "generated_text": null, "finished": false, "finish_reason": null,'
            f' "details": null}}\n\ndata:{{"token": {last}, "generated_text": "ab", "finished": true,'
            ' "finish_reason": "length", "details": null}\n\n'
        )
        detailed = (await post(client, "/", {"stream": True}, details=True)).events
        assert [event["details"] for event in detailed] == [
            None,
            {"generated_tokens": 2, "finish_reason": "length", "prompt_tokens": 2},
        ]

    serve(test, tgi=True)


def test_text_that_is_not_ascii_stays_as_it_is(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        answer = await post(client, "/generate_stream")
        assert '"generated_text": "é"'.encode() in answer.body

    engine.script = say("é")
    serve(test, tgi=True)


def test_a_stream_has_one_beam(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await post(client, "/generate_stream", {"num_beam": 2})
        assert (answer.status, answer.json["param"]) == (417, "num_beam")
        assert (await post(client, "/generate_stream", {"num_beam": 0})).status == 417

    serve(test, tgi=True)


def test_errors_are_lightllms_with_what_clients_of_tgi_read(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        answer = await post(client, max_new_tokens=0)
        message = "max_new_tokens must be at least 1, not 0"
        assert (answer.status, answer.json) == (
            417,
            {
                "message": message,
                "error_code": "invalid_value",
                "param": "max_new_tokens",
                "error": message,
                "error_type": "validation",
            },
        )
        assert (await client.request("POST", "/", b"{")).json["error_type"] == "validation"
        assert "error_type" not in (await client.request("POST", "/tokens", b"{")).json
        engine.reject = lambda add: Rejected(add.request_id, RejectReason.QUEUE_FULL, "full")
        full = await post(client)
        assert (full.status, full.json["error_type"]) == (503, "overloaded")

    serve(test, tgi=True)


def test_a_stream_that_fails_says_so_in_tgis_words(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        last = (await post(client, "/generate_stream", max_new_tokens=9)).events[-1]
        assert (last["error"], last["error_type"], last["finish_reason"]) == ("broken", "generation", "error")
        assert last["generated_text"] == "ab"

    def script(add: AddRequest, sample: int, count: int) -> TokenOutput:
        if count == 2:
            return TokenOutput(add.request_id, sample, -1, 0.0, FinishReason.ERROR, error="broken")
        return say("ab")(add, sample, count)

    engine.script = script
    serve(test, tgi=True)


@pytest.mark.parametrize(
    ("grammar", "constraint"),
    [
        ({"type": "regex", "value": "[a-z]+"}, Constraint(ConstraintKind.REGEX, "[a-z]+")),
        ({"type": "json", "value": {"type": "object"}}, OBJECT),
        ({"type": "json_schema", "value": {"name": "x", "schema": {"type": "object"}}}, OBJECT),
    ],
)
def test_a_grammar_is_one_of_lightllms_constraints(
    serve: Serve, engine: FakeEngine, grammar: Any, constraint: Constraint
) -> None:
    async def test(client: Client) -> None:
        assert (await post(client, grammar=grammar)).status == 200

    serve(test, tgi=True)
    assert [add.sampling.constraint for add in engine.added] == [constraint]


@pytest.mark.parametrize(
    ("grammar", "param"), [({"type": "regex", "value": 3}, "grammar"), ({"type": "poem", "value": ""}, "type")]
)
def test_a_grammar_of_another_form_is_refused(serve: Serve, grammar: Any, param: str) -> None:
    async def test(client: Client) -> None:
        answer = await post(client, grammar=grammar)
        assert (answer.status, answer.json["param"]) == (417, param)

    serve(test, tgi=True)


def test_without_the_flag_nothing_of_this_holds(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await post(client, details=True)
        assert answer.json["generated_text"] == ["ab"]
        assert "details" not in answer.json
        assert json.loads(answer.body) == answer.json
        assert "error_type" not in (await post(client, max_new_tokens=0)).json

    serve(test)
