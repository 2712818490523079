"""What an evaluation harness asks for: log-likelihoods of continuations, the same as without a server."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from serving import KV, Server
from tokenizers import Tokenizer

from benchmarks.lm_eval.continuations import (
    Continuation,
    Likelihood,
    accuracy,
    choices,
    continuations,
    read_questions,
)
from benchmarks.lm_eval.direct import by_executor, by_logits, in_float32
from benchmarks.lm_eval.harness import answers_by_lm_eval, continuations_by_lm_eval
from benchmarks.lm_eval.served import by_server
from runtime.bundle.bundle import TOKENIZER_FILE

QUESTIONS = read_questions()
PLACES = (Path("build/lm-eval/bin/lm_eval"), Path(shutil.which("lm_eval") or "nowhere"))

pytestmark = pytest.mark.skipif(KV != "paged", reason="compares with the default engine")


@pytest.fixture(scope="module")
def asked(default_bundle: Path) -> list[Continuation]:
    return continuations(Tokenizer.from_file(str(default_bundle / TOKENIZER_FILE)), QUESTIONS)


@pytest.fixture(scope="module")
def direct(default_bundle: Path, asked: list[Continuation]) -> list[Likelihood]:
    """From the executor, without a server."""
    return by_executor(default_bundle, asked)


@pytest.fixture(scope="module")
def lm_eval() -> Path:
    """lm-eval's command, from an environment of its own."""
    named = os.environ.get("PEREGRINE_LM_EVAL")
    found = [place.absolute() for place in ((Path(named),) if named else PLACES) if place.is_file()]
    if not found:
        pytest.skip("lm-eval is not installed, so that nothing is asked by it: make lm-eval installs it")
    return found[0]


def test_served_likelihoods_are_the_executors(
    server: Server, asked: list[Continuation], direct: list[Likelihood]
) -> None:
    assert by_server(server.port, asked) == direct, "bit for bit, whatever is computed together"
    assert accuracy(QUESTIONS, direct) >= 0.8


def test_the_executors_are_those_of_its_logits(
    default_bundle: Path, asked: list[Continuation], direct: list[Likelihood]
) -> None:
    for one, other in zip(direct, by_logits(default_bundle, asked), strict=True):
        assert one.logprob == pytest.approx(other.logprob, abs=1e-6)
        assert one.greedy == other.greedy


def test_float32_decides_alike(default_bundle: Path, asked: list[Continuation], direct: list[Likelihood]) -> None:
    exact = in_float32(default_bundle, asked)
    differences = [abs(one.logprob - other.logprob) for one, other in zip(direct, exact, strict=True)]
    assert sum(differences) / len(differences) < 0.2
    same = sum(one == other for one, other in zip(choices(QUESTIONS, direct), choices(QUESTIONS, exact), strict=True))
    assert same >= len(QUESTIONS) - 2


def test_lm_eval_finds_the_executors_likelihoods(
    lm_eval: Path, server: Server, default_bundle: Path, direct: list[Likelihood], tmp_path: Path
) -> None:
    outcome = continuations_by_lm_eval(lm_eval, server.port, default_bundle, tmp_path)
    assert outcome.likelihoods() == direct
    assert outcome.scores["acc"] == accuracy(QUESTIONS, direct)


def test_lm_eval_chats(lm_eval: Path, server: Server, tmp_path: Path) -> None:
    outcome = answers_by_lm_eval(lm_eval, server.port, tmp_path)
    assert all(outcome.answers())
    assert outcome.scores["named"] >= 0.5
