"""Inputs that fuzzing has found worth keeping, and those that were findings once: nothing but the documented errors."""

from __future__ import annotations

import importlib
from pathlib import Path

import numpy as np
import pytest
from fuzz.corpus import FOLDER, TARGETS, load

REGRESSIONS = sorted((FOLDER / "regressions").glob("*/*"))


@pytest.mark.parametrize("target", TARGETS)
def test_the_corpus_finds_nothing(target: str) -> None:
    module = importlib.import_module(f"fuzz.{target}")
    for data in [*module.SEEDS, *load(target)]:
        with np.errstate(all="ignore"):
            module.one_input(data)


@pytest.mark.parametrize("path", REGRESSIONS, ids=[f"{path.parent.name}/{path.name}" for path in REGRESSIONS])
def test_what_was_a_finding_is_none_any_more(path: Path) -> None:
    module = importlib.import_module(f"fuzz.{path.parent.name}")
    module.one_input(path.read_bytes())
