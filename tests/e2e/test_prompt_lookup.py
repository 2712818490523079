"""Speculation on the default model: what it drafts from real prompts is often right, and changes no bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from serving import MODEL

from benchmarks.copying_prompts import COPYING_PROMPTS
from benchmarks.speculation import chats, compare
from runtime.config import EngineConfig
from runtime.engine.factory import build_engine
from runtime.messages import AddRequest
from runtime.request import SamplingParams

GREEDY = SamplingParams(max_new_tokens=96)
SAMPLED = SamplingParams(max_new_tokens=64, temperature=0.8, top_p=0.9, top_k=-1, seed=7, repetition_penalty=1.1)


def test_tokens_and_logprobs_are_those_of_a_run_without() -> None:
    command = [sys.executable, "-m", "build_engine", "build", MODEL, "--print-path"]
    bundle = subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]
    core, _ = build_engine(EngineConfig(bundle=bundle, socket=""))
    prompts = chats(Path(bundle))
    assert set(prompts) == set(COPYING_PROMPTS)
    requests = [AddRequest(number, prompt, GREEDY) for number, prompt in enumerate(prompts.values())]
    requests += [AddRequest(len(requests) + number, prompt, SAMPLED) for number, prompt in enumerate(prompts.values())]
    plain, drafted = compare(core, requests, streams=2, rounds=1)
    assert drafted.accepted > 50
    assert drafted.steps < plain.steps
