"""The reward model over HTTP: the API page's call, and the same scores whatever else is being scored."""

from __future__ import annotations

import http.client
import json
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from serving import MODEL, Server

from benchmarks.scores import conversations

REWARD_MODEL = "smollm2-135m-reward"
PAGE_CHAT = (
    "<|im_start|>user\nHello! What's your name?<|im_end|>\n<|im_start|>assistant\nMy name is InternLM2! "
    "A helpful AI assistant. What can I do for you?<|im_end|>\n<|reward|>"
)


@pytest.fixture(scope="module")
def reward_server() -> Iterator[Server]:
    """Without a prefix cache, so that nothing is scored from the blocks of the run it is compared with."""
    started = Server(
        "--use_reward_model", "--disable_dynamic_prompt_cache", "--disable_chunked_prefill", model=REWARD_MODEL
    )
    yield started
    assert started.stop() == 0


def score(server: Server, chat: object) -> Any:
    return server.post("/get_score", {"chat": chat, "parameters": {"frequency_penalty": 1}})


def test_the_pages_call_gives_the_documented_keys(reward_server: Server) -> None:
    answer = score(reward_server, PAGE_CHAT)
    assert list(answer) == ["score", "prompt_tokens", "finish_reason"]
    assert isinstance(answer["score"], float)
    assert (answer["prompt_tokens"], answer["finish_reason"]) == (42, "stop")


@pytest.mark.parametrize("parameters", [{}, {"temperature": -5, "n": 99}, "nonsense", [1], None, 7])
def test_parameters_of_any_content_change_nothing(reward_server: Server, parameters: object) -> None:
    assert reward_server.post("/get_score", {"chat": PAGE_CHAT, "parameters": parameters}) == score(
        reward_server, PAGE_CHAT
    )


def test_a_missing_chat_is_refused(reward_server: Server) -> None:
    status, body = reward_server.request("POST", "/get_score", {"parameters": {}})
    assert status == 417
    assert b"'chat'" in body


def test_64_concurrent_calls_give_the_scores_of_64_single_calls(reward_server: Server) -> None:
    chats = conversations(64)
    singles = [score(reward_server, chat) for chat in chats]

    def call(chat: str) -> Any:
        return score(reward_server, chat)

    with ThreadPoolExecutor(len(chats)) as threads:
        together = list(threads.map(call, chats))
    assert together == singles
    assert score(reward_server, chats)["score"] == [single["score"] for single in singles]


def test_messages_are_scored_as_the_template_renders_them(reward_server: Server) -> None:
    good, bad = (
        [{"role": "user", "content": "What is the capital of France?"}, {"role": "assistant", "content": answer}]
        for answer in ("The capital of France is Paris.", "Go away.")
    )
    both = score(reward_server, [good, bad])
    assert both["score"] == [score(reward_server, chat)["score"] for chat in (good, bad)]
    assert both["score"][0] > both["score"][1]


def test_a_cached_prefix_does_not_change_a_score(reward_server: Server) -> None:
    chats = conversations(12)
    fresh = [score(reward_server, chat) for chat in chats]
    caching = Server(model=REWARD_MODEL)
    try:
        for _ in range(2):
            assert [score(caching, chat) for chat in chats] == fresh
        metrics = caching.request("GET", "/metrics")[1].decode().splitlines()
        (hits,) = [float(line.split()[-1]) for line in metrics if line.startswith("vllm:prefix_cache_hits_total")]
    finally:
        assert caching.stop() == 0
    assert hits > 0


@pytest.mark.parametrize("path", ["/generate", "/generate_stream", "/"])
def test_generation_is_refused_with_what_to_do(reward_server: Server, path: str) -> None:
    status, body = reward_server.request("POST", path, {"inputs": "Hello", "parameters": {}})
    assert status == 417
    assert "call /get_score" in json.loads(body)["message"]


def test_a_generating_model_is_refused_as_a_reward_model() -> None:
    command = [sys.executable, "-m", "server", MODEL, "--use_reward_model", "--port", "0"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert done.returncode != 0
    (line,) = [line for line in done.stderr.splitlines() if "error" in line]
    assert "--use_reward_model" in line


def test_keep_alive_connections_carry_one_score_after_another(reward_server: Server) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", reward_server.port, timeout=60)
    answers = []
    for _ in range(3):
        connection.request("POST", "/get_score", json.dumps({"chat": PAGE_CHAT}))
        answers.append(json.loads(connection.getresponse().read()))
    connection.close()
    assert answers == [answers[0]] * 3
