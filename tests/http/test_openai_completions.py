"""``/v1/completions`` on a scripted engine: what is asked of it, and the shape of answers and streams."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from asgi_driver import Client
from fake_engine import FakeEngine, say
from openai_calls import complete, joined, stream
from toy_tokenizer import EOS_ID, byte_id

from runtime.messages import AddRequest, TokenOutput
from runtime.request import FinishReason

Serve = Callable[..., None]

HI = [byte_id(byte) for byte in b"hi"]


def test_an_answer_has_openais_shape(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = (await complete(client, max_tokens=3)).json
        assert list(answer) == ["id", "object", "created", "model", "choices", "usage"]
        assert answer["id"].startswith("cmpl-")
        assert (answer["object"], answer["model"]) == ("text_completion", "m")
        assert answer["choices"] == [{"text": "abc", "index": 0, "logprobs": None, "finish_reason": "length"}]
        assert answer["usage"] == {
            "prompt_tokens": 2,
            "completion_tokens": 3,
            "total_tokens": 5,
            "prompt_tokens_details": {"cached_tokens": 0},
        }

    serve(test)


def test_defaults_are_openais(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        await complete(client)
        await complete(client, temperature=0)
        await complete(client, do_sample=False, top_p=0.5)
        await complete(client, seed=-1, top_p=0, temperature=2, top_k=0)

    serve(test, generation_config='{"do_sample": false, "temperature": 0.5, "top_k": 7}')
    drawn, cold, greedy, odd = (add.sampling for add in engine.added)
    assert (drawn.temperature, drawn.top_p, drawn.top_k, drawn.max_new_tokens) == (1.0, 1.0, -1, 16)
    assert drawn.seed != cold.seed
    assert [(s.temperature, s.top_p, s.top_k) for s in (cold, greedy)] == [(1.0, 1.0, 1)] * 2
    assert (odd.seed, odd.top_p, odd.temperature, odd.top_k) == (2**64 - 1, 1e-9, 2.0, -1)


def test_everything_that_bears_on_the_draw_reaches_the_engine(serve: Serve, engine: FakeEngine) -> None:
    fields = {
        "max_tokens": 9,
        "min_tokens": 4,
        "presence_penalty": -0.5,
        "frequency_penalty": -2,
        "repetition_penalty": 1.5,
        "logit_bias": {"7": -100, "8": 2.5},
        "ignore_eos": True,
        "top_k": 5,
        "seed": 3,
        "stop": "xy",
        "logprobs": 2,
        "user": "somebody",
        "a field of tomorrow": [1],
    }

    async def test(client: Client) -> None:
        assert (await complete(client, **fields)).status == 200

    serve(test)
    sampling = engine.added[0].sampling
    assert (sampling.max_new_tokens, sampling.min_new_tokens, sampling.ignore_eos) == (9, 4, True)
    assert (sampling.presence_penalty, sampling.frequency_penalty, sampling.repetition_penalty) == (-0.5, -2.0, 1.5)
    assert sampling.logit_bias == ((7, -100.0), (8, 2.5))
    assert (sampling.top_k, sampling.seed, sampling.top_logprobs, sampling.prompt_logprobs) == (5, 3, 2, False)
    assert sampling.stop_sequences == ((byte_id(ord("x")), byte_id(ord("y"))),)


@pytest.mark.parametrize(
    ("prompt", "texts"),
    [("hi", ["hi"]), (HI, ["hi"]), (["hi", "you"], ["hi", "you"]), ([HI, [EOS_ID, *HI]], ["hi", "hi"])],
)
def test_prompts_come_in_four_forms(serve: Serve, engine: FakeEngine, prompt: Any, texts: list[str]) -> None:
    async def test(client: Client) -> None:
        answer = (await complete(client, prompt, max_tokens=2, echo=True)).json
        assert [choice["text"] for choice in answer["choices"]] == [f"{text}ab" for text in texts]
        assert [choice["index"] for choice in answer["choices"]] == [*range(len(texts))]
        assert answer["usage"]["prompt_tokens"] == sum(len(add.prompt) for add in engine.added)

    serve(test)
    assert len(engine.added) == len(texts)


def test_choices_are_numbered_through_prompts_and_samples(serve: Serve, engine: FakeEngine) -> None:
    engine.script = by_sample

    async def test(client: Client) -> None:
        answer = (await complete(client, ["p", "q"], n=2, max_tokens=2, seed=1)).json
        assert [(c["index"], c["text"]) for c in answer["choices"]] == [(0, "00"), (1, "11"), (2, "00"), (3, "11")]
        assert answer["usage"]["completion_tokens"] == 8
        assert answer["usage"]["prompt_tokens"] == 2
        chunks = stream(await complete(client, ["p", "q"], n=2, max_tokens=2, stream=True))
        assert [joined(chunks, index) for index in range(4)] == ["00", "11", "00", "11"]

    serve(test)


def by_sample(add: AddRequest, sample: int, count: int) -> TokenOutput:
    """Each sample says its number; the later ones are the likelier."""
    finish = FinishReason.LENGTH if count + 1 == add.sampling.max_new_tokens else FinishReason.NONE
    return TokenOutput(add.request_id, sample, byte_id(ord(str(sample))), sample - 9.0, finish)


def test_the_best_of_several_are_handed_out(serve: Serve, engine: FakeEngine) -> None:
    engine.script = by_sample

    async def test(client: Client) -> None:
        answer = (await complete(client, best_of=4, n=2, max_tokens=2)).json
        assert [(c["index"], c["text"]) for c in answer["choices"]] == [(0, "22"), (1, "33")]
        assert answer["usage"]["completion_tokens"] == 8

    serve(test)
    assert engine.added[0].samples == 4


def test_logprobs_have_alternatives_and_offsets(serve: Serve, engine: FakeEngine) -> None:
    engine.script = say("aé")

    async def test(client: Client) -> None:
        logprobs = (await complete(client, max_tokens=4, logprobs=2)).json["choices"][0]["logprobs"]
        assert logprobs == {
            "tokens": ["a", "�", "�", "a"],
            "token_logprobs": [-0.5] * 4,
            "top_logprobs": [
                {"a": -0.5, "?": -2.0},
                {"�": -0.5, "?": -2.0},
                {"�": -0.5, "?": -2.0},
                {"a": -0.5, "?": -2.0},
            ],
            "text_offset": [0, 1, 1, 2],
        }
        none = (await complete(client, max_tokens=1, logprobs=0)).json["choices"][0]["logprobs"]
        assert none["top_logprobs"] == [{"a": -0.5}]

    serve(test)


def test_an_echoed_prompt_brings_its_logprobs(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        choice = (await complete(client, "hip", echo=True, logprobs=1, max_tokens=1)).json["choices"][0]
        assert choice["text"] == "hipa"
        assert choice["logprobs"] == {
            "tokens": ["h", "i", "p", "a"],
            "token_logprobs": [None, -1.0, -1.0, -0.5],
            "top_logprobs": [None, {"?": -2.0, "i": -1.0}, {"?": -2.0, "p": -1.0}, {"a": -0.5}],
            "text_offset": [0, 1, 2, 3],
        }

    serve(test)
    assert engine.added[0].sampling.prompt_logprobs


@pytest.mark.parametrize("streaming", [False, True])
def test_a_prompt_can_be_echoed_and_nothing_generated(serve: Serve, engine: FakeEngine, streaming: bool) -> None:
    async def test(client: Client) -> None:
        fields = {"echo": True, "logprobs": 0, "max_tokens": 0, "stream_options": {"include_usage": True}}
        answer = await complete(client, stream=streaming, **fields)
        chunks = stream(answer) if streaming else [answer.json]
        choice = chunks[0]["choices"][0]
        assert (choice["text"], choice["finish_reason"]) == ("hi", "length")
        assert choice["logprobs"]["tokens"] == ["h", "i"]
        assert chunks[-1]["usage"]["completion_tokens"] == 0

    serve(test)


def test_a_stream_is_chunks_and_done(serve: Serve) -> None:
    async def test(client: Client) -> None:
        chunks = stream(await complete(client, max_tokens=3, stream=True))
        assert len({chunk["id"] for chunk in chunks}) == 1
        assert list(chunks[0]) == ["id", "object", "created", "model", "choices"]
        assert [chunk["choices"] for chunk in chunks] == [
            [{"text": text, "index": 0, "logprobs": None, "finish_reason": reason}]
            for text, reason in (("a", None), ("b", None), ("c", "length"))
        ]

    serve(test)


def test_a_stream_tells_its_usage_last_where_that_is_asked_for(serve: Serve) -> None:
    async def test(client: Client) -> None:
        fields = {"max_tokens": 2, "stream": True, "stream_options": {"include_usage": True}}
        *chunks, last = stream(await complete(client, ["hi", "you"], **fields))
        assert all(chunk["usage"] is None for chunk in chunks)
        assert last["choices"] == []
        assert (last["usage"]["prompt_tokens"], last["usage"]["completion_tokens"]) == (5, 4)

    serve(test)


def test_a_stream_echoes_and_shows_logprobs_token_by_token(serve: Serve) -> None:
    async def test(client: Client) -> None:
        chunks = stream(await complete(client, echo=True, logprobs=1, max_tokens=2, stream=True))
        choices = [chunk["choices"][0] for chunk in chunks]
        assert [choice["text"] for choice in choices] == ["hia", "b"]
        assert [choice["logprobs"]["tokens"] for choice in choices] == [["h", "i", "a"], ["b"]]
        assert [choice["logprobs"]["text_offset"] for choice in choices] == [[0, 1, 2], [3]]

    serve(test)


@pytest.mark.parametrize("streaming", [False, True])
@pytest.mark.parametrize(
    ("stop", "text", "reason"),
    [
        ("ef", "abcd", "stop"),
        (["zz", "cd"], "ab", "stop"),
        ("cx", "abcdefgh", "length"),
        (["hi"], "abcdefgh", "length"),
    ],
)
def test_a_stop_string_ends_the_text_and_is_not_in_it(
    serve: Serve, streaming: bool, stop: Any, text: str, reason: str
) -> None:
    async def test(client: Client) -> None:
        answer = await complete(client, stop=stop, max_tokens=8, stream=streaming)
        if streaming:
            chunks = stream(answer)
            found, why = joined(chunks), chunks[-1]["choices"][0]["finish_reason"]
        else:
            found, why = answer.json["choices"][0]["text"], answer.json["choices"][0]["finish_reason"]
        assert (found, why) == (text, reason)

    serve(test)


def test_a_prompt_of_a_model_with_bos_gets_none_unless_asked(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        assert (await complete(client, "<eos>hi", max_tokens=1)).status == 200

    serve(test)
    assert engine.added[0].prompt == [EOS_ID, *HI]


def test_max_tokens_that_nobody_gave_shrink_to_what_is_left(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        assert (await complete(client, "a" * 250)).json["usage"]["completion_tokens"] == 6
        answer = await complete(client, "a" * 250, max_tokens=7)
        assert (answer.status, answer.json["error"]["code"]) == (400, "context_length_exceeded")

    serve(test)
