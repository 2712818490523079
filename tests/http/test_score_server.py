"""A whole reward server: supervisor, scripted reward engine and gunicorn, over real connections."""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest
from server_process import ServerProcess, wait_until
from toy_manifest import MARKER, PADDING, write_reward_manifest
from toy_tokenizer import VOCAB_SIZE, byte_id, toy_tokenizer, write_toy_bundle

from runtime.executors.scripted import Script, score_of

SCRIPT = Script(vocab_size=VOCAB_SIZE, max_sequence_tokens=512, step_seconds=0.01, scores=True, nan_on_token=9)
FLAGS = ("--executor", "scripted", "--port", "0")
LIGHTLLM = ("--use_reward_model", "--disable_dynamic_prompt_cache", "--disable_chunked_prefill")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What the HTTP side reads of a reward model, and a script."""
    path = write_toy_bundle(tmp_path_factory.mktemp("bundle"))
    write_reward_manifest(path)
    (path / "script.json").write_bytes(msgspec.json.encode(SCRIPT))
    return path


@pytest.fixture(scope="module", params=[(), LIGHTLLM], ids=["plain", "lightllm"])
def server(bundle: Path, request: pytest.FixtureRequest) -> Iterator[ServerProcess]:
    """A server with two workers; LightLLM's launch line makes no difference."""
    with ServerProcess(str(bundle), *FLAGS, "--httpserver_workers", "2", *request.param) as server:
        yield server.wait_until_serving()


def ask(server: ServerProcess, chat: Any) -> tuple[int, Any]:
    status, _, body = server.request("POST", "/get_score", {"chat": chat, "parameters": {"frequency_penalty": 1}})
    return status, json.loads(body)


def bytes_of(text: str) -> list[int]:
    return [byte_id(byte) for byte in text.encode()]


def test_the_start_names_the_task(server: ServerProcess) -> None:
    assert server.wait_for(r"serving \S+ on \S+: (.*)\n")[1] == "scores"


def test_a_text_is_scored_as_it_is(server: ServerProcess) -> None:
    status, answer = ask(server, "a chat")
    assert status == 200
    assert answer == {"score": score_of(SCRIPT, bytes_of("a chat")), "prompt_tokens": 6, "finish_reason": "stop"}


def test_messages_are_rendered_marked_and_scored(server: ServerProcess) -> None:
    rendered = "<eos><|im_start|>user\nhello<|im_end|>\n"
    ids = [*toy_tokenizer().encode(rendered, add_special_tokens=False).ids, MARKER]
    _, answer = ask(server, [{"role": "user", "content": "hello"}])
    assert (answer["score"], answer["prompt_tokens"]) == (score_of(SCRIPT, ids), len(ids))


def test_padding_is_no_part_of_a_chat(server: ServerProcess) -> None:
    assert ask(server, [[20, 21, PADDING, PADDING], [20, 21]])[1]["score"] == [score_of(SCRIPT, [20, 21])] * 2


def test_64_calls_at_once_are_batched(server: ServerProcess) -> None:
    chats = [f"chat {number} of {'many ' * (number % 7)}" for number in range(64)]
    steps = server.metric("lightllm_batch_inference_count_total")
    with ThreadPoolExecutor(64) as pool:
        answers = [*pool.map(lambda chat: ask(server, chat), chats)]
    assert [status for status, _ in answers] == [200] * 64
    ids = [toy_tokenizer().encode(chat).ids for chat in chats]
    assert [answer["score"] for _, answer in answers] == [score_of(SCRIPT, tokens) for tokens in ids]
    assert server.metric("lightllm_batch_inference_count_total") - steps < 64


def test_a_list_gives_the_scores_of_its_parts(server: ServerProcess) -> None:
    chats = [f"part {number}" for number in range(128)]
    _, answer = ask(server, chats)
    assert answer["score"] == [score_of(SCRIPT, bytes_of(chat)) for chat in chats]
    assert answer["prompt_tokens"] == [len(chat) for chat in chats]
    assert answer["finish_reason"] == "stop"


def test_a_score_that_is_no_number_fails_its_call_alone(server: ServerProcess) -> None:
    assert ask(server, [5, 9])[0] == 503
    assert ask(server, [[5, 6], [5, 9]])[0] == 503
    assert ask(server, [5, 6])[0] == 200


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/generate", {"inputs": "a", "parameters": {}}),
        ("/generate_stream", {"inputs": "a", "parameters": {}}),
        ("/get_score", {}),
        ("/get_score", {"chat": "x" * 512}),
    ],
)
def test_what_cannot_be_done_is_417(server: ServerProcess, path: str, body: Any) -> None:
    status, _, answer = server.request("POST", path, body)
    assert (status, set(json.loads(answer))) == (417, {"message", "error_code", "param"})


@pytest.mark.parametrize("path", ["/health", "/healthz", "/readiness", "/token_load", "/metrics"])
def test_the_other_endpoints_answer(server: ServerProcess, path: str) -> None:
    assert server.request("GET", path)[0] == 200


def test_a_client_that_leaves_frees_the_engine(bundle: Path, tmp_path: Path) -> None:
    slow = write_toy_bundle(tmp_path / "slow")
    script = msgspec.structs.replace(SCRIPT, step_seconds=0.5)
    (slow / "script.json").write_bytes(msgspec.json.encode(script))
    with ServerProcess(str(slow), *FLAGS, "--running_max_req_size", "1") as server:
        server.wait_until_serving()
        body = json.dumps({"chat": [[number] for number in range(20, 60)]}).encode()
        with socket.create_connection(("127.0.0.1", server.port)) as connection:
            connection.sendall(
                b"POST /get_score HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)
            )
            wait_until(lambda: server.metric("vllm:num_requests_waiting") > 30, "the scores are not queued")
        wait_until(
            lambda: server.metric("vllm:num_requests_waiting") + server.metric("vllm:num_requests_running") == 0,
            "the scores still run",
            timeout=5,
        )


def test_the_flag_needs_a_reward_model(tmp_path: Path) -> None:
    path = write_toy_bundle(tmp_path / "bundle")
    (path / "script.json").write_bytes(msgspec.json.encode(Script(vocab_size=VOCAB_SIZE)))
    with ServerProcess(str(path), *FLAGS, "--use_reward_model") as server:
        assert server.exit_status() == 2
        assert "error: --use_reward_model: " in server.output
        assert "need: a reward model" in server.output
        assert "Traceback" not in server.output
