"""Peregrine as one of the engines."""

from __future__ import annotations

import subprocess
import sys
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.peers.contender import Contender
from benchmarks.peers.engine import Engine
from benchmarks.peers.errors import PeerError, last_line
from benchmarks.peers.http_engine import LIGHTLLM, HttpEngine
from benchmarks.peers.models import MODEL
from benchmarks.processes import parent_of
from benchmarks.server import serving

US = "peregrine"
_ROOT = Path(__file__).parents[2]


def peregrine(capacity: int) -> Contender:
    """As ``peregrine serve`` runs it, with ``capacity`` tokens of KV cache and without speculation.

    NOTE: greedy answers to random prompts run in circles, which drafts would foretell: more than they do in earnest.
    """
    flags = ("--max_total_token_num", str(capacity), "--disable_speculation")

    @contextmanager
    def start() -> Iterator[Engine]:
        with serving(MODEL, *flags) as (port, engine, _):
            yield HttpEngine(parent_of(engine) or engine, port, LIGHTLLM)

    def prepare() -> None:
        run = subprocess.run(
            [sys.executable, "-m", "build_engine", "build", MODEL],
            capture_output=True,
            text=True,
            check=False,
        )
        if run.returncode:
            raise PeerError(last_line(run.stderr))

    settings = (
        "the default recipe: the GGUF file's 4-bit blocks, bfloat16 KV",
        f"KV cache of {capacity} tokens",
        "speculation off: answers to random prompts repeat themselves, and would be foretold too well",
    )
    return Contender(US, _version(), "HTTP", settings, prepare, start)


def _version() -> str:
    with (_ROOT / "pyproject.toml").open("rb") as file:
        declared = str(tomllib.load(file)["project"]["version"])
    git = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--exclude=*"]
    commit = subprocess.run(git, capture_output=True, text=True, check=False).stdout.strip()
    return f"{declared} ({commit})" if commit else declared
