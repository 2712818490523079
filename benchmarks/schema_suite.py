"""How much of JSON Schema constraints cover, by the public JSON-Schema-Test-Suite.

The suite is in the source distribution of ``jsonschema``::

    pip download --no-deps --no-binary jsonschema jsonschema==4.26.0 && tar xzf jsonschema-4.26.0.tar.gz
    python -m benchmarks.schema_suite jsonschema-4.26.0/json/tests/draft2020-12

A schema is covered if it compiles. An instance of what is covered is judged right if its tokens, as compact JSON, take
the grammar to its end exactly when the suite calls it valid. Constrained output has its keys in the schema's order, so
an instance is tried with its keys in every order.
"""

from __future__ import annotations

import argparse
import itertools
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runtime.bundle.bundle import TOKENIZER_FILE
from runtime.bundle.manifest_file import read_manifest
from runtime.constraints import ConstraintError, json_schema
from runtime.constraints.compiled_grammar import compile_grammar
from runtime.constraints.vocabulary import Vocabulary, load_vocabulary

_ORDERS = 200


def orders(value: Any) -> Iterator[Any]:
    """A value with the keys of its objects in every order."""
    if isinstance(value, dict):
        for keys in itertools.permutations(value):
            for values in itertools.product(*(list(itertools.islice(orders(value[key]), 6)) for key in keys)):
                yield dict(zip(keys, values, strict=True))
    elif isinstance(value, list):
        yield from map(list, itertools.product(*(list(itertools.islice(orders(item), 6)) for item in value)))
    else:
        yield value


class Tally:
    """Counts for one file of the suite."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self.counts: Counter[str] = Counter()
        self.reasons: Counter[str] = Counter()

    def add(self, case: dict[str, Any]) -> None:
        """Judge one schema and its instances."""
        self.counts["schemas"] += 1
        try:
            grammar = compile_grammar(self._vocabulary, json_schema(json.dumps(case["schema"])))
        except ConstraintError as error:
            self.reasons[str(error)[:60]] += 1
            return
        self.counts["compile"] += 1
        for test in case["tests"]:
            kind = "valid" if test["valid"] else "invalid"
            self.counts[kind] += 1
            accepted = any(
                self._accepts(grammar.matcher(), one) for one in itertools.islice(orders(test["data"]), _ORDERS)
            )
            self.counts[f"{kind} right"] += accepted == test["valid"]

    def _accepts(self, matcher: Any, instance: Any) -> bool:
        text = json.dumps(instance, ensure_ascii=False, separators=(",", ":"))
        tokens = self._vocabulary.tokenize_str(text)
        return bool(matcher.try_consume_tokens(tokens) == len(tokens) and matcher.is_accepting())


def line(name: str, counts: Counter[str]) -> str:
    """A row of the table."""
    parts = [f"{counts['compile']}/{counts['schemas']}"]
    parts += [f"{counts[f'{kind} right']}/{counts[kind]}" for kind in ("valid", "invalid")]
    return f"| {name} | " + " | ".join(parts) + " |"


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("suite", type=Path, help="folder of one draft")
    parser.add_argument("--model", default="smollm2-135m-instruct", help="whose tokenizer to use")
    parser.add_argument("--reasons", action="store_true", help="say why schemas do not compile")
    args = parser.parse_args()
    build = [sys.executable, "-m", "build_engine", "build", args.model, "--print-path"]
    bundle = Path(subprocess.run(build, check=True, stdout=subprocess.PIPE, text=True).stdout.split()[-1])
    manifest = read_manifest(bundle)
    vocabulary = load_vocabulary(bundle / TOKENIZER_FILE, manifest.architecture.vocab_size, manifest.eos_token_ids)
    total: Counter[str] = Counter()
    print(
        "| keyword | schemas that compile | valid instances accepted | invalid instances refused |\n|---|---|---|---|"
    )
    reasons: Counter[str] = Counter()
    for path in sorted(args.suite.glob("*.json")):
        tally = Tally(vocabulary)
        for case in json.loads(path.read_text(encoding="utf-8")):
            tally.add(case)
        print(line(path.stem, tally.counts))
        total += tally.counts
        reasons += tally.reasons
    print(line("all", total))
    for reason, count in reasons.most_common(40 if args.reasons else 0):
        print(f"{count:>5}  {reason}")


if __name__ == "__main__":
    main()
