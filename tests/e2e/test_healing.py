"""How outputs begin on the default model: token healing, and limited first tokens."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from serving import Server

PROMPTS = [
    "The capital of France is",
    "The official web site is http://www.exam",
    "def add(a, b):\n    retu",
    "An hour has 60 minu",
    "Once upon a time there was a ",
    "Grüße aus Münche",
    "She said: \"I don't kno",
]


@pytest.fixture(scope="module")
def healing() -> Iterator[Server]:
    started = Server("--token_healing_mode")
    yield started
    assert started.stop() == 0


def test_a_word_that_was_cut_is_completed(healing: Server) -> None:
    for prompt, rest in (("An hour has 60 minu", "tes"), ("def add(a, b):\n    retu", "rn a + b")):
        assert healing.generate(prompt, max_new_tokens=8)["generated_text"][0].startswith(rest)


def test_the_whole_text_begins_with_the_prompt(healing: Server) -> None:
    for prompt in PROMPTS:
        answer = healing.generate(prompt, max_new_tokens=6, return_details=True, ignore_eos=True)
        spelled = [token["id"] for token in answer["tokens"]]
        ids = healing.post("/tokenize", {"prompt": prompt})["tokens"]
        taken = answer["count_output_tokens"] - 6 - 6
        assert taken in (1, 2)
        whole = healing.post("/detokenize", {"tokens": [*ids[: len(ids) - taken], *spelled]})["prompt"]
        assert whole == prompt + answer["generated_text"][0]
        assert answer["prompt_tokens"] == len(ids)


def test_neighbours_and_streams_heal_alike(healing: Server) -> None:
    fields = {"max_new_tokens": 12, "do_sample": True, "temperature": 1.2, "seed": 11}
    alone = [healing.generate(prompt, **fields)["generated_text"][0] for prompt in PROMPTS]
    with ThreadPoolExecutor(len(PROMPTS)) as pool:
        together = pool.map(
            lambda prompt: "".join(e["token"]["text"] for e in healing.events(prompt, **fields)), PROMPTS
        )
        assert list(together) == alone
    first, *others = healing.generate(PROMPTS[0], best_of=3, **fields)["generated_text"]
    assert first == alone[0]
    assert any(other != first for other in others)


def test_outputs_begin_with_the_tokens_that_the_environment_names(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokens = [
        server.post("/tokenize", {"prompt": text, "add_special_tokens": False})["tokens"][0] for text in (" no", " yes")
    ]
    monkeypatch.setenv("FIRST_ALLOWED_TOKENS", ",".join(map(str, tokens)))
    limited = Server("--first_token_constraint_mode")
    try:
        for prompt in PROMPTS:
            answer = limited.generate(prompt, max_new_tokens=6, return_details=True, do_sample=True, best_of=3, seed=1)
            assert all(output[0]["id"] in tokens for output in answer["tokens"])
            first = limited.generate(prompt, max_new_tokens=1)["generated_text"][0]
            rest = server.generate(prompt + first, max_new_tokens=5)["generated_text"][0]
            assert limited.generate(prompt, max_new_tokens=6)["generated_text"] == [first + rest]
    finally:
        assert limited.stop() == 0
