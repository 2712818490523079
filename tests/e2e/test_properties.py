"""Properties that every compatible server has (P1 to P10 of the API contract), on the default model."""

from __future__ import annotations

import pytest
from serving import Server

PROMPT = "The three most important things about cooking are"


def test_p1_a_plain_answer_is_the_concatenated_stream(server: Server) -> None:
    answer = server.generate(PROMPT, max_new_tokens=60)
    events = list(server.events(PROMPT, max_new_tokens=60))
    assert "".join(event["token"]["text"] for event in events) == answer["generated_text"][0]
    assert len(events) == answer["count_output_tokens"]


def test_p2_logprobs_follow_temperature_and_not_top_p_or_top_k(server: Server) -> None:
    def logprobs(**parameters: object) -> list[tuple[int, float]]:
        answer = server.generate(PROMPT, max_new_tokens=8, return_details=True, **parameters)
        return [(token["id"], token["logprob"]) for token in answer["tokens"]]

    greedy = logprobs()
    narrow = logprobs(do_sample=True, top_k=1, seed=1)
    narrower = logprobs(do_sample=True, top_k=1, top_p=0.2, seed=2)
    warm = logprobs(do_sample=True, top_k=1, temperature=1.7, seed=1)
    assert greedy == narrow == narrower
    assert [token for token, _ in warm] == [token for token, _ in greedy]
    assert all(a[1] != b[1] for a, b in zip(warm, greedy, strict=True))


def test_p3_eos_does_not_come_before_min_new_tokens(server: Server) -> None:
    chat = "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\n"
    short = server.generate(chat, max_new_tokens=200)
    assert short["finish_reason"] == "stop"
    least = short["count_output_tokens"] + 20
    longer = server.generate(chat, max_new_tokens=300, min_new_tokens=least)
    assert longer["count_output_tokens"] >= least


def test_p4_a_stop_string_ends_the_text_and_stays_in_it(server: Server) -> None:
    free = server.generate(PROMPT, max_new_tokens=60)["generated_text"][0]
    word = free.split()[6]
    answer = server.generate(PROMPT, max_new_tokens=60, stop_sequences=[word])
    assert answer["finish_reason"] == "stop"
    assert answer["generated_text"][0].rstrip().endswith(word) or word in answer["generated_text"][0]
    assert len(answer["generated_text"][0]) < len(free)


@pytest.mark.parametrize("seed", [1, 2])
def test_p6_no_event_splits_a_character(server: Server, seed: int) -> None:
    prompt = "日本語と中国語と絵文字:🍣🗾🎌 東京 北京 你好 こんにちは 🎉🎊"
    parameters = {"max_new_tokens": 200, "ignore_eos": True, "do_sample": True, "temperature": 1.3, "seed": seed}
    events = list(server.events(prompt, **parameters))
    texts = [event["token"]["text"] for event in events]
    answer = server.generate(prompt, **parameters)["generated_text"][0]
    assert "".join(texts) == answer
    assert any(text == "" for text in texts), "the output has no character of several tokens: a weak prompt"


def test_p7_a_large_frequency_penalty_stops_repetition(server: Server) -> None:
    answer = server.generate("la la la la la", max_new_tokens=40, frequency_penalty=100.0, return_details=True)
    ids = [token["id"] for token in answer["tokens"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("count", [1, 2, 33])
def test_p8_max_new_tokens_is_exact_when_eos_is_ignored(server: Server, count: int) -> None:
    answer = server.generate("Hi", max_new_tokens=count, ignore_eos=True)
    assert (answer["count_output_tokens"], answer["finish_reason"]) == (count, "length")


def test_p9_the_cache_does_not_change_the_text() -> None:
    uncached = Server("--max_req_total_len", "1024", "--disable_dynamic_prompt_cache")
    cached = Server("--max_req_total_len", "1024")
    try:
        text = "Once upon a time in a small village by the sea. " * 12
        answers = [
            started.generate(text, max_new_tokens=32, return_details=True)
            for started in (uncached, uncached, cached, cached)
        ]
        assert all(answer == answers[0] for answer in answers)
    finally:
        uncached.stop()
        cached.stop()


def test_a_seed_gives_the_same_sample_and_no_seed_gives_another(server: Server) -> None:
    def sample(**parameters: object) -> str:
        return str(server.generate(PROMPT, max_new_tokens=24, do_sample=True, **parameters)["generated_text"][0])

    assert sample(seed=7) == sample(seed=7)
    assert len({sample() for _ in range(4)}) > 1


def test_samples_of_one_request_differ_and_greedy_ones_do_not(server: Server) -> None:
    drawn = server.generate(PROMPT, max_new_tokens=16, best_of=4, do_sample=True, seed=3, ignore_eos=True)
    assert len(set(drawn["generated_text"])) > 1
    assert drawn["count_output_tokens"] == [16] * 4
    greedy = server.generate(PROMPT, max_new_tokens=16, n=3, ignore_eos=True)
    assert len(set(greedy["generated_text"])) == 1
    assert (
        greedy["generated_text"][0] == server.generate(PROMPT, max_new_tokens=16, ignore_eos=True)["generated_text"][0]
    )


def test_allowed_token_ids_bound_the_output(server: Server) -> None:
    answer = server.generate(PROMPT, max_new_tokens=12, allowed_token_ids=[260, 261, 300], return_details=True)
    assert {token["id"] for token in answer["tokens"]} <= {260, 261, 300}
