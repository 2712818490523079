"""``python -m build_engine.reward_head``: train the head of the default reward model, or measure a built bundle."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from build_engine.errors import BuildError
from build_engine.progress import Progress, make_progress
from build_engine.readers.score_head_file import BACKBONE_DIGEST
from build_engine.reward_head.accuracy import Accuracy, accuracy_lines, measure
from build_engine.reward_head.engine_scores import engine_scores
from build_engine.reward_head.features import last_hidden_states
from build_engine.reward_head.head_file import write_head
from build_engine.reward_head.pairs import SEED, heldout_pairs, training_pairs
from build_engine.reward_head.questions import read_questions
from build_engine.reward_head.texts import FORMS, texts_of
from build_engine.reward_head.train import TrainedHead, train_head
from build_engine.sources import resolve_source
from runtime.bundle.errors import BundleError
from runtime.bundle.locate import find_bundle

BACKBONE = "smollm2-135m-instruct"
OUTPUT = Path("models", "smollm2-135m-reward.safetensors")

_USER_ERROR = 2
_INTERRUPTED = 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line ``argv``.

    Returns:
        Exit status: 0, 2 for a mistake that the message explains, 130 when interrupted.
    """
    arguments = _parser().parse_args(argv)
    progress = make_progress(quiet=arguments.quiet)
    try:
        _evaluate(arguments, progress) if arguments.evaluate else _train(arguments, progress)
    except (BuildError, BundleError) as error:
        progress.close()
        sys.stderr.write(f"error: {error}\n")
        return _USER_ERROR
    except KeyboardInterrupt:
        progress.close()
        sys.stderr.write("error: interrupted\n")
        return _INTERRUPTED
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m build_engine.reward_head",
        description=f"Train a linear score head on {BACKBONE} and measure it on questions that were held out.",
    )
    parser.add_argument("--output", type=Path, default=OUTPUT, help=f"file of the head (default: {OUTPUT})")
    parser.add_argument("--questions", type=Path, help="JSON Lines of topic, question, answer (default: checked in)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the bad answers (default: {SEED})")
    parser.add_argument("--evaluate", metavar="BUNDLE", help="train nothing: measure a built reward bundle")
    parser.add_argument("--quiet", action="store_true", help="say nothing but the result")
    return parser


def _train(arguments: argparse.Namespace, progress: Progress) -> None:
    if not arguments.output.absolute().parent.is_dir():
        raise BuildError(f"{arguments.output}: there is no such folder to write to")
    questions = read_questions(arguments.questions)
    learned, unseen = training_pairs(questions, arguments.seed), heldout_pairs(questions, arguments.seed)
    checkpoint = resolve_source(BACKBONE, progress).open(progress)
    texts, unseen_texts = texts_of(learned), texts_of(unseen)
    states = {form: last_hidden_states(checkpoint, texts.rendered(form), progress) for form in FORMS}
    progress.note("fitting ...")
    head = train_head(states, texts)
    measured: dict[str, Accuracy] = {}
    for form in FORMS:
        scores = head.scores(last_hidden_states(checkpoint, unseen_texts.rendered(form), progress))
        measured[form] = measure(scores, unseen, unseen_texts)
    counts = {"training_pairs": len(learned), "heldout_pairs": len(unseen), "seed": arguments.seed}
    write_head(arguments.output, head, _metadata(checkpoint.source.digest, head, measured, counts))
    progress.close()
    _say(
        f"trained on {len(learned)} pairs over {len(texts.answers)} questions (ridge {head.strength:g}); held out: "
        f"{len(unseen)} pairs over {len(unseen_texts.answers)} others, in float32:",
        *accuracy_lines(measured),
        f"written to {arguments.output}",
    )


def _evaluate(arguments: argparse.Namespace, progress: Progress) -> None:
    pairs = heldout_pairs(read_questions(arguments.questions), arguments.seed)
    texts = texts_of(pairs)
    bundle = find_bundle(arguments.evaluate)
    measured = {form: measure(engine_scores(bundle, texts.rendered(form), progress), pairs, texts) for form in FORMS}
    progress.close()
    _say(f"{len(pairs)} held-out pairs over {len(texts.answers)} questions, by {bundle}:", *accuracy_lines(measured))


def _metadata(
    digest: str, head: TrainedHead, measured: Mapping[str, Accuracy], counts: Mapping[str, int]
) -> dict[str, str]:
    return {
        BACKBONE_DIGEST: digest,
        "backbone_recipe": BACKBONE,
        "licence": "Apache-2.0",
        "method": "Bradley-Terry on the final hidden states of a frozen backbone",
        "ridge": f"{head.strength:g}",
        **{key: str(value) for key, value in counts.items()},
        **{f"heldout_accuracy_{form}": f"{result.overall:.4f}" for form, result in measured.items()},
        **{f"heldout_deviation_{form}": f"{result.deviation:.4f}" for form, result in measured.items()},
    }


def _say(*lines: str) -> None:
    sys.stdout.write("".join(f"{line}\n" for line in lines))


if __name__ == "__main__":
    sys.exit(main())
