"""``--token_healing_mode`` and ``--first_token_constraint_mode`` in process, on scripted tokens."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from asgi_driver import Client
from fake_engine import FakeEngine, say
from toy_tokenizer import byte_id

Serve = Callable[..., None]
FIRST = {"FIRST_ALLOWED_TOKENS": "98,99,100"}


def first_allowed(engine: FakeEngine) -> list[list[int]]:
    return [np.frombuffer(a.sampling.opening[0].allowed, "<i4").tolist() for a in engine.added if a.sampling.opening]


def test_the_end_of_the_prompt_is_drawn_again_and_not_handed_out(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        answer = (await client.generate(inputs="so hey", max_new_tokens=4, return_details=True)).json
        assert answer["generated_text"] == ["abcd eyhe"], "eight tokens more, of which three were the prompt's"
        assert (answer["prompt_tokens"], answer["count_output_tokens"]) == (5, 12)
        assert [token["text"] for token in answer["tokens"]][:4] == ["", "", "", "a"]
        events = (await client.generate("/generate_stream", inputs="so hey", max_new_tokens=4)).events
        assert [event["token"]["text"] for event in events][:4] == ["", "", "", "a"]
        assert {event["token"]["prompt_tokens"] for event in events} == {5}

    engine.script = say("heyabcd ey")
    serve(test, token_healing=True)
    assert engine.added[0].prompt == [byte_id(byte) for byte in b"so "]


def test_stop_strings_do_not_end_what_is_drawn_again(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        answer = (await client.generate(inputs="so xy", max_new_tokens=9, stop_sequences=["y"])).json
        assert (answer["generated_text"], answer["finish_reason"]) == (["aby"], "stop")

    engine.script = say("xyaby")
    serve(test, token_healing=True)


def test_only_lightllms_paths_heal(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        await client.request("POST", "/v1/completions", {"model": "m", "prompt": "so hey", "max_tokens": 2})

    serve(test, token_healing=True)
    assert engine.added[0].sampling.opening == ()


def test_every_output_begins_with_one_of_the_first_tokens(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        await client.generate(max_new_tokens=2)
        await client.generate(max_new_tokens=2, allowed_token_ids=[5, 99])
        await client.request("POST", "/v1/completions", {"model": "m", "prompt": "so hey", "max_tokens": 2})
        refused = await client.generate(allowed_token_ids=[5])
        assert (refused.status, refused.json["param"]) == (417, "allowed_token_ids")

    serve(test, first_token_constraint=True, environ=FIRST)
    assert first_allowed(engine) == [[98, 99, 100], [99], [98, 99, 100]]


def test_the_environment_alone_limits_nothing(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        await client.generate(max_new_tokens=2)

    serve(test, environ=FIRST)
    assert first_allowed(engine) == []
