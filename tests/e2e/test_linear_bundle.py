"""The serving tests on an engine with linear KV slots: float32 on the CPU, the oracle of engines for GPUs.

The fixtures take the place of the packed engine's, so that the imported tests run on this one. ``make test-linear``
runs all of them, with room for long requests.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from serving import MODEL, Server
from test_contract import test_the_server_answers_as_lightllm_does
from test_in_flight import test_two_streams_interleave_and_keep_their_own_counts
from test_properties import (
    test_allowed_token_ids_bound_the_output,
    test_p1_a_plain_answer_is_the_concatenated_stream,
    test_p2_logprobs_follow_temperature_and_not_top_p_or_top_k,
    test_p4_a_stop_string_ends_the_text_and_stays_in_it,
    test_p7_a_large_frequency_penalty_stops_repetition,
    test_p8_max_new_tokens_is_exact_when_eos_is_ignored,
    test_samples_of_one_request_differ_and_greedy_ones_do_not,
)

from benchmarks.gpu.agreement import compare, prompts_of
from build_engine.sources import resolve_source

__all__ = [
    "test_allowed_token_ids_bound_the_output",
    "test_p1_a_plain_answer_is_the_concatenated_stream",
    "test_p2_logprobs_follow_temperature_and_not_top_p_or_top_k",
    "test_p4_a_stop_string_ends_the_text_and_stays_in_it",
    "test_p7_a_large_frequency_penalty_stops_repetition",
    "test_p8_max_new_tokens_is_exact_when_eos_is_ignored",
    "test_samples_of_one_request_differ_and_greedy_ones_do_not",
    "test_the_server_answers_as_lightllm_does",
    "test_two_streams_interleave_and_keep_their_own_counts",
]

SLOTS = 6


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """On an engine of few, short slots: attention over a whole slot is slow on a CPU."""
    with tempfile.TemporaryDirectory() as directory:
        bundle = str(Path(directory) / "bundle")
        shape = ["--slots", str(SLOTS), "--max-seq-len", "256", "--chunk", "64"]
        choices = ["--target", "cpu", "--kv", "linear", "--precision", "fp32", "--no-verify", "--output", bundle]
        subprocess.run([sys.executable, "-m", "build_engine", "build", MODEL, *shape, *choices, "--quiet"], check=True)
        started = Server(model=bundle)
        yield started
        assert started.stop() == 0


@pytest.fixture(scope="module")
def server_url(server: Server) -> str:
    return server.url


def ids(answer: Any) -> list[int]:
    return [token["id"] for token in answer["tokens"]]


def test_its_slots_are_what_the_engine_was_built_for(server: Server) -> None:
    assert f"in {SLOTS} linear slots of 320" in "".join(server.log)
    assert "prefix cache off" in "".join(server.log)


def test_greedy_text_is_that_of_the_float32_reference(server: Server) -> None:
    """Prompts of a chunk and of several, more requests than slots: each token is the reference's best, alone too."""
    checkpoint = resolve_source(MODEL).open()
    texts = prompts_of(checkpoint, 100)
    prompts = [text[:length] for text in texts for length in (5, 70)][: SLOTS + 2]
    lengths = [8 + 3 * (number % 4) for number in range(len(prompts))]

    def ask(number: int) -> Any:
        return server.generate(prompts[number], max_new_tokens=lengths[number], ignore_eos=True, return_details=True)

    with ThreadPoolExecutor(len(prompts)) as pool:
        outputs = [ids(answer) for answer in pool.map(ask, range(len(prompts)))]
    assert [len(output) for output in outputs] == lengths
    assert compare(checkpoint, prompts, outputs)["others"] == 0
    assert [ids(ask(number)) for number in (0, 5)] == [outputs[number] for number in (0, 5)]


def test_a_request_longer_than_a_slot_is_refused(server: Server) -> None:
    status, body = server.request("POST", "/generate", {"inputs": "hi", "parameters": {"max_new_tokens": 256}})
    assert status == 417
    assert b"256" in body
