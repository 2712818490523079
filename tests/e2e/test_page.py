"""The calls of the API page, against the default model."""

from __future__ import annotations

import json

import pytest
from serving import Server

PAGE_CALL = {
    "inputs": "What is AI?",
    "parameters": {"max_new_tokens": 17, "frequency_penalty": 1},
    "multimodal_params": {},
}


@pytest.mark.parametrize(("method", "path"), [("GET", "/health"), ("GET", "/healthz")])
def test_health(server: Server, method: str, path: str) -> None:
    assert server.request(method, path) == (200, b'{"message":"Ok"}')


def test_health_head_has_no_body(server: Server) -> None:
    assert server.request("HEAD", "/health") == (200, b"")


def test_token_load_of_an_idle_server(server: Server) -> None:
    status, body = server.request("GET", "/token_load")
    assert (status, body) == (200, b'{"current_load":0.0,"logical_max_load":0.0,"dynamic_max_load":0.0}')


def test_generate(server: Server) -> None:
    answer = server.post("/generate", PAGE_CALL)
    assert list(answer) == ["generated_text", "count_output_tokens", "finish_reason", "prompt_tokens"]
    assert answer["prompt_tokens"] == 4
    assert answer["count_output_tokens"] == 17
    assert answer["finish_reason"] == "length"
    assert len(answer["generated_text"]) == 1
    assert "AI" in answer["generated_text"][0]


def test_generate_stream(server: Server) -> None:
    status, body = server.request("POST", "/generate_stream", PAGE_CALL)
    assert status == 200
    frames = body.split(b"\n\n")
    assert frames.pop() == b""
    assert len(frames) == 17
    for count, frame in enumerate(frames, start=1):
        assert frame.startswith(b"data:{")
        event = json.loads(frame[5:])
        assert set(event) == {"token", "generated_text", "finished", "finish_reason", "details"}
        token = event["token"]
        assert set(token) == {"id", "text", "logprob", "special", "count_output_tokens", "prompt_tokens"}
        assert (token["count_output_tokens"], token["prompt_tokens"]) == (count, 4)
        assert event["finished"] == (count == 17)
    whole = "".join(json.loads(frame[5:])["token"]["text"] for frame in frames)
    assert whole == server.post("/generate", PAGE_CALL)["generated_text"][0]


def test_get_score_on_a_generation_bundle_says_what_is_wrong(server: Server) -> None:
    status, body = server.request("POST", "/get_score", {"chat": "hello", "parameters": {"frequency_penalty": 1}})
    assert status == 417
    assert "reward" in json.loads(body)["message"]


@pytest.mark.parametrize(("text", "tokens"), [("What is AI?", 4), ("1234567", 7)])
def test_the_tokenizer_is_the_models(server: Server, text: str, tokens: int) -> None:
    assert server.post("/tokens", {"text": text}) == {"ntokens": tokens}
