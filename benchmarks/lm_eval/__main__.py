"""lm-eval on a server of its own, and its figures without one: ``make lm-eval``."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

import msgspec
import numpy as np
from tokenizers import Tokenizer

from benchmarks.engine import built_bundle
from benchmarks.lm_eval.continuations import Likelihood, Question, accuracy, choices, continuations, read_questions
from benchmarks.lm_eval.direct import by_executor, by_logits, in_float32
from benchmarks.lm_eval.harness import answers_by_lm_eval, continuations_by_lm_eval
from benchmarks.machine import describe, in_words
from benchmarks.server import serving
from runtime.bundle.bundle import TOKENIZER_FILE


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(prog="benchmarks.lm_eval", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--lm-eval", type=Path, default=Path("build/lm-eval/bin/lm_eval"), help="its command")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    if not args.lm_eval.is_file():
        raise SystemExit(f"error: {args.lm_eval} is not there: make lm-eval installs it")
    print(in_words(machine := describe()))
    bundle = Path(built_bundle(args.model))
    with tempfile.TemporaryDirectory() as work, serving(str(bundle)) as (port, _, _):
        served = continuations_by_lm_eval(args.lm_eval.absolute(), port, bundle, Path(work))
        chatted = answers_by_lm_eval(args.lm_eval.absolute(), port, Path(work))
    questions = read_questions()
    asked = continuations(Tokenizer.from_file(str(bundle / TOKENIZER_FILE)), questions)
    found = {
        "lm-eval": served.likelihoods(),
        "executor": by_executor(bundle, asked),
        "logits": by_logits(bundle, asked),
        "float32": in_float32(bundle, asked),
    }
    print(f"\n{len(questions)} questions, {len(asked)} continuations\n")
    print(f"{'':<10}{'accuracy':>9}{'same choice':>13}{'same bits':>11}{'difference: mean':>18}{'largest':>10}")
    for name, likelihoods in found.items():
        print(f"{name:<10}{_compared(questions, likelihoods, found['lm-eval'])}")
    print("\nlm-eval's own:", served.scores, chatted.scores)
    if args.json is not None:
        answers = {"scores": chatted.scores, "answers": chatted.answers()}
        report = {"kind": "lm_eval", "machine": machine, "likelihoods": found, "chat": answers}
        args.json.write_bytes(msgspec.json.encode(report) + b"\n")


def _compared(questions: list[Question], likelihoods: list[Likelihood], to: list[Likelihood]) -> str:
    difference = np.abs([one.logprob - other.logprob for one, other in zip(likelihoods, to, strict=True)])
    equal = sum(one == other for one, other in zip(likelihoods, to, strict=True))
    pairs = zip(choices(questions, likelihoods), choices(questions, to), strict=True)
    same = sum(one == other for one, other in pairs)
    figures = f"{accuracy(questions, likelihoods):>9.3f}{same:>10}/{len(questions)}{equal:>7}/{len(to)}"
    return f"{figures}{difference.mean():>18.3g}{difference.max():>10.3g}"


if __name__ == "__main__":
    main()
