"""``/generate`` in process, on scripted tokens."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from asgi_driver import Client
from fake_engine import FakeEngine, say
from toy_tokenizer import EOS_ID, byte_id

from runtime.messages import AddRequest, Rejected, RejectReason, TokenOutput
from runtime.request import FinishReason

Serve = Callable[..., None]


def test_one_output_is_flat_but_for_its_text(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await client.generate(max_new_tokens=3)
        assert (answer.status, answer.headers["content-type"]) == (200, "application/json")
        assert answer.json == {
            "generated_text": ["abc"],
            "count_output_tokens": 3,
            "finish_reason": "length",
            "prompt_tokens": 2,
        }

    serve(test)


def test_several_outputs_are_lists(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await client.generate(max_new_tokens=2, best_of=2, n=2)
        assert answer.json == {
            "generated_text": ["ab", "ab"],
            "count_output_tokens": [2, 2],
            "finish_reason": ["length", "length"],
            "prompt_tokens": 2,
        }

    serve(test)


def test_details_have_one_object_a_token(serve: Serve) -> None:
    async def test(client: Client) -> None:
        tokens = (await client.generate(max_new_tokens=2, return_details=True)).json["tokens"]
        assert [token["text"] for token in tokens] == ["a", "b"]
        assert tokens[1] == {
            "id": byte_id(ord("b")),
            "logprob": -0.5,
            "cumlogprob": -0.5,
            "sum_logprob": -1.0,
            "special": False,
            "count_output_tokens": 2,
            "mtp_accepted_token_num": 0,
            "prompt_tokens": 2,
            "text": "b",
        }

    serve(test)


def test_prompt_logprobs_come_with_the_server_flag(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = (await client.generate(inputs=[5, 6, 7], max_new_tokens=1)).json
        assert answer["prompt_token_ids"] == [5, 6, 7]
        assert answer["prompt_logprobs"] == [[5, {"6": -1.0}], [6, {"7": -1.0}]]

    serve(test, prompt_logprobs=True)


def test_a_stop_string_across_tokens_ends_the_output_and_frees_the_engine(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        answer = (await client.generate(max_new_tokens=20, stop_sequences=["cde"])).json
        assert answer["generated_text"] == ["abcde"]
        assert (answer["finish_reason"], answer["count_output_tokens"]) == ("stop", 5)

    serve(test)
    engine.wait(lambda: [(a.request_id, a.sample) for a in engine.aborted] == [(1, 0)])


def test_stop_sequences_reach_the_engine_as_token_ids(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        await client.generate(max_new_tokens=1, stop_sequences=["hello", [7, 8], "<eos>"])

    serve(test)
    hello = engine.added[0].sampling.stop_sequences[1]
    assert engine.added[0].sampling.stop_sequences == ((7, 8), hello, (EOS_ID,))
    assert len(hello) == 1


def test_eos_counts_but_has_no_text(serve: Serve, engine: FakeEngine) -> None:
    def script(add: AddRequest, sample: int, count: int) -> TokenOutput:
        token = EOS_ID if count else byte_id(ord("a"))
        finish = FinishReason.STOP if count else FinishReason.NONE
        return TokenOutput(add.request_id, sample, token, -0.1, finish)

    engine.script = script

    async def test(client: Client) -> None:
        quiet = (await client.generate(return_details=True)).json
        loud = (await client.generate(print_eos_token=True, skip_special_tokens=False)).json
        assert (quiet["generated_text"], quiet["count_output_tokens"]) == (["a"], 2)
        assert quiet["tokens"][1]["special"]
        assert loud["generated_text"] == ["a<eos>"]

    serve(test)


def test_a_trailing_incomplete_character_is_shown(serve: Serve, engine: FakeEngine) -> None:
    engine.script = say("é".encode()[:1])

    async def test(client: Client) -> None:
        assert (await client.generate(max_new_tokens=1)).json["generated_text"] == ["\ufffd"]

    serve(test)


def test_sampling_parameters_reach_the_engine(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        await client.generate(do_sample=True, top_p=0.5, top_k=7, seed=2**64 - 1, max_new_tokens=1)
        await client.generate(do_sample=True, max_new_tokens=1)
        await client.generate(max_new_tokens=1)

    serve(test)
    first, second, third = (add.sampling for add in engine.added)
    assert (first.top_p, first.top_k, first.seed) == (0.5, 7, 2**64 - 1)
    assert (second.top_k, third.top_k) == (-1, 1)
    assert second.seed != third.seed


@pytest.mark.parametrize(
    ("reason", "status", "retry"),
    [(RejectReason.QUEUE_FULL, 503, "7"), (RejectReason.DRAINING, 503, "7"), (RejectReason.INVALID, 417, None)],
)
@pytest.mark.parametrize("path", ["/generate", "/generate_stream"])
def test_refusals_of_the_engine_have_their_status(
    serve: Serve, engine: FakeEngine, reason: RejectReason, status: int, retry: str | None, path: str
) -> None:
    engine.reject = lambda add: Rejected(add.request_id, reason, "no room", 7)

    async def test(client: Client) -> None:
        answer = await client.generate(path)
        assert (answer.status, answer.headers.get("retry-after")) == (status, retry)
        assert answer.json["message"] == "no room"

    serve(test)


def test_a_failed_request_is_unavailable(serve: Serve, engine: FakeEngine) -> None:
    engine.script = lambda add, sample, count: TokenOutput(
        add.request_id, sample, -1, 0.0, FinishReason.ERROR, error="no step"
    )

    async def test(client: Client) -> None:
        for path in ("/generate", "/generate_stream"):
            answer = await client.generate(path)
            assert (answer.status, answer.json) == (503, {"message": "no step"})

    serve(test)


def test_ignored_parameters_are_named_in_a_header(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await client.generate(max_tokens=3, stop="x", max_new_tokens=1, **{"bad\r\nname": 1})
        assert answer.headers["x-ignored-parameters"] == "max_tokens, stop"
        assert "x-ignored-parameters" not in (await client.generate(max_new_tokens=1)).headers

    serve(test)


def test_strict_parameters_refuse_unknown_names(serve: Serve) -> None:
    async def test(client: Client) -> None:
        answer = await client.generate(max_tokens=3)
        assert (answer.status, answer.json["param"]) == (417, "max_tokens")

    serve(test, strict_parameters=True)


def test_defaults_come_from_the_model(serve: Serve, engine: FakeEngine) -> None:
    async def test(client: Client) -> None:
        await client.generate(max_new_tokens=1)

    config = '{"do_sample": true, "temperature": 0.6, "top_p": 0.9}'
    serve(test, generation_config=config)
    sampling = engine.added[0].sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (0.6, 0.9, 50)
    serve(test, generation_config=config, ignore_generation_config=True)
    assert engine.added[1].sampling.top_k == 1


def test_long_prompts_are_cut_where_the_server_says_so(serve: Serve, engine: FakeEngine) -> None:
    ids = [1 + i % 250 for i in range(300)]

    async def test(client: Client) -> None:
        answer = await client.generate(inputs=ids, max_new_tokens=6)
        assert (answer.status, answer.json["prompt_tokens"]) == (200, 250)

    serve(test, truncation="head")
    serve(test, truncation="center")
    assert engine.added[0].prompt == ids[-250:]
    assert engine.added[1].prompt == ids[:125] + ids[-125:]
