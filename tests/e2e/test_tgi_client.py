"""``--use_tgi_api`` with the default model: Hugging Face's client, and what LightLLM's do."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from huggingface_hub import InferenceClient
from huggingface_hub.errors import ValidationError
from serving import Server

PROMPT = "The capital of France is"


@pytest.fixture(scope="module")
def tgi() -> Iterator[Server]:
    started = Server("--use_tgi_api")
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="module")
def client(tgi: Server) -> Iterator[InferenceClient]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(os.environ, "HF_HUB_DISABLE_TELEMETRY", "1")
        yield InferenceClient(tgi.url, timeout=60)


def test_a_text_is_the_native_apis(client: InferenceClient, server: Server) -> None:
    want = server.generate(PROMPT, max_new_tokens=12, stop_sequences=["."])
    assert client.text_generation(PROMPT, max_new_tokens=12, stop=["."]) == want["generated_text"][0]
    answer = client.text_generation(PROMPT, max_new_tokens=12, stop=["."], details=True)
    assert answer.generated_text == want["generated_text"][0]
    assert answer.details is not None
    assert answer.details.generated_tokens == want["count_output_tokens"] == len(answer.details.tokens)
    assert "".join(token.text for token in answer.details.tokens) == answer.generated_text
    assert answer.details.finish_reason == want["finish_reason"]


def test_a_stream_is_the_same_text(client: InferenceClient) -> None:
    want = client.text_generation(PROMPT, max_new_tokens=12)
    assert "".join(client.text_generation(PROMPT, max_new_tokens=12, stream=True)) == want
    events = list(client.text_generation(PROMPT, max_new_tokens=12, stream=True, details=True))
    assert len(events) == 12
    assert "".join(event.token.text for event in events) == want
    assert [event.generated_text for event in events] == [None] * 11 + [want]
    assert events[-1].details is not None
    assert (events[-1].details.generated_tokens, events[-1].details.finish_reason) == (12, "length")


def test_sampling_parameters_and_seed_reach_the_model(client: InferenceClient) -> None:
    def draw(seed: int) -> str:
        return client.text_generation(
            PROMPT, max_new_tokens=12, do_sample=True, temperature=1.5, top_k=40, top_p=0.95, seed=seed
        )

    assert draw(3) == draw(3) != draw(4)


def test_a_mistake_is_a_validation_error(client: InferenceClient) -> None:
    with pytest.raises(ValidationError, match="max_new_tokens must be at least 1"):
        client.text_generation(PROMPT, max_new_tokens=0)


def test_beams_are_independent_samples(tgi: Server) -> None:
    parameters = {"max_new_tokens": 6, "do_sample": True, "temperature": 2.0, "details": True, "seed": 5}
    answer = tgi.post("/generate", {"inputs": PROMPT, "parameters": parameters, "num_beam": 4})
    beams = answer["details"]["beam_sequences"]
    assert len({beam["generated_text"] for beam in beams}) > 1
    best = max(beams, key=lambda beam: beam["logprob"])
    assert answer["generated_text"] == best["generated_text"]
