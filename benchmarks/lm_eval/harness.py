"""Runs lm-eval, which lives in an environment of its own, on a server."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.lm_eval.continuations import Likelihood
from runtime.bundle import open_bundle
from runtime.bundle.bundle import TOKENIZER_FILE

CONTINUATIONS, ANSWERS = "peregrine_continuations", "peregrine_answers"
TASKS = Path(__file__).parent / "tasks"
SECONDS = 570


class Outcome(NamedTuple):
    """What lm-eval found.

    Attributes:
        scores: Its metrics, without the filter's name.
        samples: A record for each question.
    """

    scores: dict[str, float]
    samples: list[dict[str, Any]]

    def likelihoods(self) -> list[Likelihood]:
        """Of a multiple-choice task: of all choices of all questions, in order."""
        responses = [one for sample in self.samples for (one,) in sample["resps"]]
        return [Likelihood(float(logprob), str(greedy) == "True") for logprob, greedy in responses]

    def answers(self) -> list[str]:
        """Of a generative task."""
        return [str(sample["resps"][0][0]) for sample in self.samples]


def continuations_by_lm_eval(command: Path, port: int, bundle: Path, work: Path) -> Outcome:
    """``local-completions``: texts are tokenized there, and sent as ids with ``echo`` and ``logprobs``."""
    tokenizer = work / "tokenizer"
    tokenizer.mkdir()
    (tokenizer / TOKENIZER_FILE).symlink_to((bundle / TOKENIZER_FILE).resolve())
    eos = open_bundle(bundle).manifest.special_tokens.get("eos_token", "")
    (tokenizer / "tokenizer_config.json").write_text(
        json.dumps({"tokenizer_class": "PreTrainedTokenizerFast", "eos_token": eos})
    )
    model = {
        "base_url": f"http://127.0.0.1:{port}/v1/completions",
        "tokenizer_backend": "huggingface",
        "tokenizer": str(tokenizer),
    }
    return _run(command, "local-completions", model, CONTINUATIONS, work, "--batch_size", "4")


def answers_by_lm_eval(command: Path, port: int, work: Path) -> Outcome:
    """``local-chat-completions``: greedy answers of up to 48 tokens."""
    model = {"base_url": f"http://127.0.0.1:{port}/v1/chat/completions", "eos_string": "<unused>"}
    return _run(command, "local-chat-completions", model, ANSWERS, work, "--apply_chat_template")


def _run(command: Path, kind: str, model: dict[str, str], task: str, work: Path, *flags: str) -> Outcome:
    fields = {"model": "any", "num_concurrent": "4", "max_retries": "1"} | model
    arguments = ["--model", kind, "--model_args", ",".join(f"{name}={value}" for name, value in fields.items())]
    arguments += ["--tasks", task, "--include_path", ".", "--log_samples", "--output_path", str(work / task), *flags]
    # NOTE: nothing is to be fetched, and nothing of what this program's environment has is to be imported there.
    environ = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PYTHONHOME")}
    environ |= {
        "HF_HOME": str(work / "hf"),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_OFFLINE": "1",
        "OPENAI_API_KEY": "none",
    }
    ended = subprocess.run(
        [str(command), *arguments], cwd=TASKS, env=environ, capture_output=True, text=True, timeout=SECONDS, check=False
    )
    if ended.returncode:
        raise SystemExit(f"error: lm-eval ended with status {ended.returncode}:\n{ended.stderr[-2000:]}")
    (results,) = (work / task).rglob("results_*.json")
    (samples,) = (work / task).rglob(f"samples_{task}_*.jsonl")
    metrics = json.loads(results.read_text())["results"][task]
    scores = {name.partition(",")[0]: value for name, value in metrics.items() if name.endswith(",none")}
    records = [json.loads(line) for line in samples.read_text().splitlines()]
    return Outcome(scores, sorted(records, key=lambda record: int(record["doc_id"])))
