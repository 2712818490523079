"""The reward model as shipped: it prefers the better answer to questions that its head was not trained on."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import jinja2
import pytest

from build_engine.progress import Progress
from build_engine.reward_head.accuracy import Accuracy, measure
from build_engine.reward_head.conversation import chat_text
from build_engine.reward_head.engine_scores import engine_scores
from build_engine.reward_head.pairs import heldout_pairs
from build_engine.reward_head.questions import read_questions
from build_engine.reward_head.texts import texts_of
from build_engine.sources import resolve_source
from runtime.bundle import open_bundle
from runtime.bundle.manifest import ScoreVerification

REWARD_MODEL = "smollm2-135m-reward"


@pytest.fixture(scope="module")
def bundle() -> Path:
    command = [sys.executable, "-m", "build_engine", "build", REWARD_MODEL, "--print-path"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


@pytest.fixture(scope="module")
def accuracy(bundle: Path) -> Accuracy:
    pairs = heldout_pairs(read_questions())
    texts = texts_of(pairs)
    return measure(engine_scores(bundle, texts.rendered("chat"), Progress()), pairs, texts)


def test_the_better_answer_has_the_higher_score(accuracy: Accuracy) -> None:
    assert accuracy.overall >= 0.85


def test_no_kind_of_bad_answer_gets_through(accuracy: Accuracy) -> None:
    shares = {kind: right / accuracy.pairs[kind] for kind, right in accuracy.right.items()}
    assert min(shares.values()) >= 0.7, shares


def test_scores_are_on_the_scale_of_the_training_texts(accuracy: Accuracy) -> None:
    assert abs(accuracy.mean) < 0.5
    assert 0.5 < accuracy.deviation < 2


def test_the_engines_scores_are_those_of_float32(bundle: Path) -> None:
    verification = open_bundle(bundle).manifest.verification
    assert isinstance(verification, ScoreVerification)
    assert verification.mean_error < 0.1 * verification.reference_deviation


def test_texts_are_scored_as_the_models_template_renders_them() -> None:
    template = resolve_source("smollm2-135m-instruct").open().chat_template
    assert template is not None
    messages = [{"role": "user", "content": "How?"}, {"role": "assistant", "content": "Like\nthis."}]
    rendered = jinja2.Environment(trim_blocks=True, lstrip_blocks=True).from_string(template).render(messages=messages)
    assert rendered == chat_text("How?", "Like\nthis.")
