"""The door: what is accepted, what is refused, and that nothing else can happen."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from typing import Any
from unittest.mock import ANY

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_tokenizer import EOS_ID, VOCAB_SIZE, byte_id, toy_tokenizer

from runtime.limits import EngineLimits
from server.environment import RequestRules
from server.errors import InvalidRequestError
from server.generation_defaults import GenerationDefaults
from server.openai.token_texts import TokenTexts
from server.parameters import Parameters
from server.token_healing import TokenHealing
from server.tokenizer import TextCodec
from server.validation import RequestParser, ValidRequest, fit_prompt

LIMITS = EngineLimits(
    max_request_tokens=256,
    max_total_tokens=4096,
    max_running=16,
    max_queued=64,
    max_step_tokens=256,
    block_size=16,
    vocab_size=VOCAB_SIZE,
    eos_token_ids=(EOS_ID,),
    constraints=True,
)
DEEP = b"[" * 100_000 + b"]" * 100_000
PARSER = RequestParser(codec=TextCodec(toy_tokenizer()), limits=lambda: LIMITS)


def parse_bytes(body: bytes, streaming: bool | None = False, parser: RequestParser = PARSER) -> ValidRequest:
    request, _ = asyncio.run(parser.generate(body, streaming=streaming))
    return request


def parse(parser: RequestParser = PARSER, inputs: Any = "hi", **parameters: Any) -> ValidRequest:
    return parse_bytes(json.dumps({"inputs": inputs, "parameters": parameters}).encode(), parser=parser)


def refusal(body: bytes) -> InvalidRequestError:
    with pytest.raises(InvalidRequestError) as caught:
        parse_bytes(body)
    return caught.value


@pytest.mark.parametrize(
    ("parameters", "param"),
    [
        ({"max_new_tokens": 0}, "max_new_tokens"),
        ({"max_new_tokens": "8"}, "max_new_tokens"),
        ({"max_new_tokens": 8.0}, "max_new_tokens"),
        ({"max_new_tokens": True}, "max_new_tokens"),
        ({"max_new_tokens": None}, "max_new_tokens"),
        ({"max_new_tokens": 2**32 + 1}, "max_new_tokens"),
        ({"max_new_tokens": 10**30}, "max_new_tokens"),
        ({"min_new_tokens": 0}, "min_new_tokens"),
        ({"min_new_tokens": 17}, "min_new_tokens"),
        ({"do_sample": "false"}, "do_sample"),
        ({"do_sample": 2}, "do_sample"),
        ({"do_sample": True, "temperature": -1}, "temperature"),
        ({"do_sample": True, "temperature": 1e300}, "temperature"),
        ({"do_sample": True, "temperature": None}, "temperature"),
        ({"do_sample": True, "top_p": 0}, "top_p"),
        ({"do_sample": True, "top_p": 1.01}, "top_p"),
        ({"do_sample": True, "top_k": 0}, "top_k"),
        ({"do_sample": True, "top_k": -2}, "top_k"),
        ({"do_sample": True, "top_k": 2**32 + 1}, "top_k"),
        ({"presence_penalty": -0.1}, "presence_penalty"),
        ({"frequency_penalty": -0.1}, "frequency_penalty"),
        ({"repetition_penalty": 0.9}, "repetition_penalty"),
        ({"exponential_decay_length_penalty": [1]}, "exponential_decay_length_penalty"),
        ({"exponential_decay_length_penalty": [-1, 1.0]}, "exponential_decay_length_penalty"),
        ({"exponential_decay_length_penalty": [1, 0.5]}, "exponential_decay_length_penalty"),
        ({"best_of": 9}, "best_of"),
        ({"n": 0}, "n"),
        ({"n": 2, "best_of": 3}, "n"),
        ({"stop_sequences": ["a"] * 11}, "stop_sequences"),
        ({"stop_sequences": ["a" * 257]}, "stop_sequences"),
        ({"stop_sequences": [[1] * 257]}, "stop_sequences"),
        ({"stop_sequences": [[VOCAB_SIZE]]}, "stop_sequences"),
        ({"stop_sequences": [[-1]]}, "stop_sequences"),
        ({"stop_sequences": 5}, "stop_sequences"),
        ({"allowed_token_ids": None}, "allowed_token_ids"),
        ({"allowed_token_ids": [1] * 257}, "allowed_token_ids"),
        ({"allowed_token_ids": [VOCAB_SIZE]}, "allowed_token_ids"),
        ({"allowed_token_ids": [-1]}, "allowed_token_ids"),
        ({"regular_constraint": "(a"}, "regular_constraint"),
        ({"guided_grammar": "root ::= x"}, "guided_grammar"),
        ({"guided_json": "{}", "allowed_token_ids": [1]}, "allowed_token_ids"),
        ({"guided_json": "{}", "regular_constraint": "a"}, "guided_json"),
        ({"guided_json": '{"type": "cat"}'}, "guided_json"),
        ({"guided_json": {"type": "object"}}, "guided_json"),
        ({"regular_constraint": None}, "regular_constraint"),
        ({"seed": -1}, "seed"),
        ({"seed": 2**64}, "seed"),
        ({"image_max_patch_num": "x"}, "image_max_patch_num"),
    ],
)
def test_bad_values_are_refused_by_name(parameters: dict[str, Any], param: str) -> None:
    error = refusal(json.dumps({"inputs": "hi", "parameters": parameters}).encode())
    assert error.param == param
    assert param in error.message


@pytest.mark.parametrize(
    "parameters",
    [
        {"top_k": 0, "top_p": 0, "temperature": -3},
        {"do_sample": None, "ignore_eos": None, "return_details": 1},
        {"do_sample": True, "temperature": 0, "top_k": 0},
        {"frequency_penalty": 1, "presence_penalty": 5e9},
        {"stop_sequences": None},
        {"seed": None},
        {"stop_sequences": "end"},
        {"stop_sequences": [""]},
        {"exponential_decay_length_penalty": [3, 1]},
        {"best_of": 2, "n": 2},
        {"image_max_patch_num": 3, "suggested_dp_index": 0, "group_request_id": {}, "move_kv_to_decode_node": 0},
        {"regular_constraint": "", "guided_json": "", "allowed_token_ids": []},
    ],
)
def test_what_lightllm_accepts_is_accepted(parameters: dict[str, Any]) -> None:
    assert parse(**parameters).ignored == ()


def test_greedy_is_the_default() -> None:
    sampling = parse().sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k, sampling.max_new_tokens) == (1.0, 1.0, 1, 16)


def test_greedy_overwrites_the_filters() -> None:
    sampling = parse(temperature=0.2, top_p=0.3, top_k=9).sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (1.0, 1.0, 1)


def test_a_tiny_temperature_is_greedy_but_keeps_top_p() -> None:
    sampling = parse(do_sample=True, temperature=1e-6, top_p=0.3, top_k=9).sampling
    assert (sampling.temperature, sampling.top_p, sampling.top_k) == (1.0, 0.3, 1)


def test_defaults_fill_in_what_is_left_out() -> None:
    defaults = GenerationDefaults(do_sample=True, temperature=0.5, top_k=40, repetition_penalty=1.1)
    parser = RequestParser(codec=PARSER.codec, limits=PARSER.limits, defaults=defaults)
    sampling = parse(parser, top_k=7).sampling
    assert (sampling.temperature, sampling.top_k, sampling.repetition_penalty) == (0.5, 7, 1.1)


def test_the_environment_sets_limits_and_defaults() -> None:
    rules = RequestRules.from_environ(
        {
            "LIGHTLLM_MAX_STOP_SEQUENCES": "1",
            "LIGHTLLM_STOP_SEQUENCE_MAX_LENGTH": "2",
            "LIGHTLLM_ALLOWED_TOKEN_IDS_MAX_LENGTH": "1",
            "SKIP_SPECIAL_TOKENS": "false",
            "INPUT_PENALTY": "1",
        }
    )
    parser = RequestParser(codec=PARSER.codec, limits=PARSER.limits, rules=rules)
    request = parse(parser)
    assert request.sampling.input_penalty
    assert not request.skip_special_tokens
    for parameters in (
        {"stop_sequences": ["a", "b"]},
        {"stop_sequences": ["abc"]},
        {"allowed_token_ids": [1, 2]},
    ):
        with pytest.raises(InvalidRequestError):
            parse(parser, **parameters)


def test_an_unreadable_environment_variable_is_named() -> None:
    with pytest.raises(ValueError, match="LIGHTLLM_MAX_STOP_SEQUENCES"):
        RequestRules.from_environ({"LIGHTLLM_MAX_STOP_SEQUENCES": "many"})


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{bad", None),
        (b"[]", None),
        (b"null", None),
        (b"{}", "inputs"),
        (b'{"parameters":{}}', "inputs"),
        (b'{"inputs":"hi"}', "parameters"),
        (b'{"inputs":"hi","parameters":null}', "parameters"),
        (b'{"inputs":"hi","parameters":[]}', "parameters"),
        (b'{"inputs":null,"parameters":{}}', "inputs"),
        (b'{"inputs":["a"],"parameters":{}}', "inputs"),
        (b'{"inputs":[],"parameters":{}}', "inputs"),
        (b'{"inputs":"","parameters":{}}', "inputs"),
        (b'{"inputs":[-1],"parameters":{}}', "inputs"),
        (b'{"inputs":[true],"parameters":{}}', "inputs"),
        (b'{"inputs":[262],"parameters":{}}', "inputs"),
        (b'{"inputs":"hi","parameters":{},"multimodal_params":null}', "multimodal_params"),
        (b'{"inputs":"hi","parameters":{},"multimodal_params":{"video":[]}}', "multimodal_params"),
        (b'{"inputs":"hi","parameters":{},"multimodal_params":{"images":[{}]}}', "multimodal_params"),
        (b'{"inputs":"hi","parameters":{"top_p":NaN}}', None),
        (b'{"inputs":"hi","parameters":{"top_p":1e999}}', "top_p"),
        (b'{"inputs":"\\ud800","parameters":{}}', None),
        (b'{"inputs":"\xff","parameters":{}}', None),
        pytest.param(b'{"inputs":"hi","parameters":{},"x":' + DEEP + b"}", None, id="deep"),
        pytest.param(b'{"inputs":"hi","parameters":{"x":' + DEEP + b"}}", None, id="deep parameter"),
        pytest.param(b'{"inputs":"hi","parameters":{"seed":' + b"9" * 5000 + b"}}", "seed", id="long number"),
    ],
)
def test_bad_bodies_are_refused(body: bytes, param: str | None) -> None:
    error = refusal(body)
    assert error.param == param
    assert len(error.message) < 300


def test_unknown_names_are_ignored_and_told() -> None:
    assert parse(max_tokens=1, stop="x").ignored == ("max_tokens", "stop")
    assert parse(stop_sequences=["a", 5, None]).ignored == ("stop_sequences",)
    assert parse(stop_sequences=["a", 5, None]).stop_strings == ("a",)


def test_a_lone_n_means_best_of() -> None:
    assert (parse(n=3).samples, parse(best_of=3).samples, parse().samples) == (3, 3, 1)


def test_the_root_path_takes_its_shape_from_the_body() -> None:
    body = json.dumps({"inputs": "hi", "parameters": {}, "stream": True}).encode()
    assert asyncio.run(PARSER.generate(body))[1]
    assert not asyncio.run(PARSER.generate(body, streaming=False))[1]


def test_ids_are_used_as_they_are() -> None:
    assert parse(inputs=[5, 6, 7]).prompt == [5, 6, 7]


@pytest.mark.parametrize(("prompt", "new", "fits"), [(240, 16, True), (241, 16, False), (1, 256, False)])
def test_prompt_and_output_have_to_fit(prompt: int, new: int, fits: bool) -> None:
    if fits:
        assert len(parse(inputs=[1] * prompt, max_new_tokens=new).prompt) == prompt
    else:
        with pytest.raises(InvalidRequestError, match="256"):
            parse(inputs=[1] * prompt, max_new_tokens=new)


@given(st.integers(1, 60), st.integers(1, 30), st.sampled_from(["head", "center"]))
def test_truncation_keeps_the_ends_it_should(size: int, new: int, mode: Any) -> None:
    ids = [*range(size)]
    if new >= 20:
        if size + new > 20:
            with pytest.raises(InvalidRequestError):
                fit_prompt(ids, new, 20, mode)
        return
    kept = fit_prompt(ids, new, 20, mode)
    keep = min(size, 20 - new)
    head = keep // 2 if mode == "center" and keep < size else 0
    assert kept == (ids[:head] + ids[size - keep + head :])


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(), children, max_size=4),
    max_leaves=8,
)
parameter_objects = st.dictionaries(
    st.sampled_from([*Parameters.__struct_fields__, "unknown"]), json_values, max_size=6
)
bodies = st.fixed_dictionaries(
    {"inputs": json_values | st.text(min_size=1), "parameters": json_values | parameter_objects},
    optional={"multimodal_params": json_values, "stream": json_values},
)


@settings(max_examples=400, deadline=None)
@given(bodies | json_values)
def test_any_json_is_accepted_or_refused(body: Any) -> None:
    try:
        request = parse_bytes(json.dumps(body).encode(), streaming=None)
    except InvalidRequestError as error:
        error.message.encode()
    else:
        assert request.prompt
        assert len(request.prompt) + request.sampling.max_new_tokens <= LIMITS.max_request_tokens


@settings(max_examples=200, deadline=None)
@given(st.binary())
def test_any_bytes_are_accepted_or_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        parse_bytes(body)


HEALER = replace(PARSER, healing=TokenHealing(TokenTexts(toy_tokenizer()), VOCAB_SIZE, {EOS_ID}))


def test_healing_takes_tokens_back_and_makes_room_for_them() -> None:
    request = parse(HEALER, "abcd", max_new_tokens=10)
    plain = parse(PARSER, "abcd", max_new_tokens=10)
    assert [*request.prompt, *request.taken_back] == plain.prompt
    assert (len(request.taken_back), request.prompt_tokens, plain.prompt_tokens) == (2, 4, 4)
    assert request.sampling.max_new_tokens == 10 + 2 + 6
    assert request.sampling.opening


@pytest.mark.parametrize(("asked", "granted"), [(240, 248), (247, 254), (252, 254)])
def test_healing_stays_within_the_limit_of_a_request(asked: int, granted: int) -> None:
    request = parse(HEALER, "abcd", max_new_tokens=asked)
    assert len(request.prompt) + request.sampling.max_new_tokens <= LIMITS.max_request_tokens
    assert request.sampling.max_new_tokens == granted


@pytest.mark.parametrize("parameters", [{"allowed_token_ids": [5]}])
def test_outputs_that_are_limited_otherwise_are_not_healed(parameters: dict[str, Any]) -> None:
    request = parse(HEALER, "abcd", **parameters)
    assert (len(request.prompt), request.sampling.opening, request.sampling.max_new_tokens) == (4, (), 16)


def test_a_prompt_of_one_token_is_not_healed() -> None:
    assert parse(HEALER, "a") == replace(parse(PARSER, "a"), sampling=ANY)


def test_stop_strings_are_left_to_the_text_when_prompts_are_healed() -> None:
    stops = ["d", "<eos>", [byte_id(5)]]
    request = parse(HEALER, "abcd", stop_sequences=stops)
    assert request.stop_strings == ("d", "<eos>")
    assert set(request.sampling.stop_sequences) == {(EOS_ID,), (byte_id(5),)}
