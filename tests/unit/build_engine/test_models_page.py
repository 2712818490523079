"""The tables of docs/models.md are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

from build_engine.families import FAMILIES
from build_engine.readers.gguf_encodings import ENCODINGS as GGUF_ENCODINGS
from build_engine.readers.gguf_file import VERSIONS
from build_engine.readers.safetensors_file import ENCODINGS as SAFETENSORS_ENCODINGS
from build_engine.tokenizers.pre_tokenizers import PRE_TOKENIZERS

PAGE = (Path(__file__).parents[3] / "docs" / "models.md").read_text("utf-8")


def table(heading: str) -> dict[str, list[str]]:
    """First cell of each row of the table under the column names ``heading`` -> the other cells."""
    lines = iter(PAGE.splitlines())
    assert any(line.startswith(heading) for line in lines)
    next(lines)
    rows: dict[str, list[str]] = {}
    for line in lines:
        if not line.startswith("|"):
            break
        first, *others = (cell.strip() for cell in line.strip("|").split("|"))
        rows[first] = others
    return rows


def names(cell: str) -> list[str]:
    return re.findall(r"`([^`]+)`", cell)


def test_the_families_and_their_classes_are_those_that_are_read() -> None:
    rows = table("| family | to generate |")
    assert [row.lower() for row in rows] == list(FAMILIES)
    for row, (generate, score, gguf, _) in rows.items():
        family = FAMILIES[row.lower()]
        assert names(generate) == list(family.classes)
        assert names(score) == list(family.reward_classes)
        assert names(gguf) == list(family.gguf_architectures)


def test_the_encodings_are_those_that_are_read() -> None:
    (gguf, (gguf_tensors, _)), (_, (float_tensors, _)) = table("| format | tensors |").items()
    assert gguf == f"GGUF {', '.join(map(str, VERSIONS))}"
    assert set(gguf_tensors.split(", ")) == {encoding.name.upper() for encoding in GGUF_ENCODINGS.values()}
    assert set(float_tensors.split(", ")) == set(SAFETENSORS_ENCODINGS)


def test_the_pre_tokenizers_are_those_that_are_known() -> None:
    (sentence,) = re.findall(r"`tokenizer\.ggml\.pre` of ([^.]*?), and SentencePiece", PAGE)
    assert names(sentence) == list(PRE_TOKENIZERS)
