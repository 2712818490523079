"""Coverage-guided fuzzing with atheris: ``python -m fuzz TARGET --runs N``, with ``tests`` in the path.

What is found that covers something new joins the target's corpus, if ``--keep`` says so.
"""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

import atheris
from fuzz.corpus import TARGETS, load, store

PACKAGES = ["build_engine", "runtime", "server", "jinja2"]
LONGEST = 512
SLOW_SECONDS, MEMORY_MB = 60, 2048


def main() -> None:
    """Fuzz one target."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=__doc__)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--folder", type=Path, help="where the corpus is unpacked and findings are left")
    parser.add_argument("--keep", action="store_true", help="store the smallest inputs that cover as much")
    options = parser.parse_args()
    folder = options.folder or Path(tempfile.mkdtemp(prefix=f"fuzz-{options.target}-"))
    found = folder / "corpus"
    found.mkdir(parents=True, exist_ok=True)
    if options.keep:
        store(options.target, found)
        return
    with atheris.instrument_imports(include=PACKAGES):
        target = importlib.import_module(f"fuzz.{options.target}")
    for index, data in enumerate([*target.SEEDS, *load(options.target)]):
        (found / f"seed-{index:04}").write_bytes(data)
    print(f"corpus and findings: {folder}", flush=True)
    limits = [f"-max_len={LONGEST}", f"-timeout={SLOW_SECONDS}", f"-rss_limit_mb={MEMORY_MB}"]
    flags = [f"-runs={options.runs}", *limits, f"-artifact_prefix={folder}/", "-print_final_stats=1", "-len_control=0"]
    atheris.Setup([sys.argv[0], str(found), *flags], target.one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
