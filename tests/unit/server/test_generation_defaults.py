"""Defaults from ``generation_config.json``."""

from __future__ import annotations

from pathlib import Path

import pytest

from server.generation_defaults import GenerationDefaults, read_defaults


def read(tmp_path: Path, text: str) -> tuple[GenerationDefaults, list[str]]:
    path = tmp_path / "generation_config.json"
    path.write_text(text)
    return read_defaults(path)


def test_no_file_means_lightllms_defaults(tmp_path: Path) -> None:
    assert read_defaults(tmp_path / "missing.json") == (GenerationDefaults(), [])
    assert read(tmp_path, "{}") == (GenerationDefaults(), [])


def test_a_file_that_is_silent_on_top_k_means_fifty(tmp_path: Path) -> None:
    defaults, problems = read(tmp_path, '{"do_sample": true, "temperature": 0.6, "eos_token_id": 2}')
    assert defaults == GenerationDefaults(do_sample=True, temperature=0.6, top_k=50)
    assert problems == []


def test_zero_top_k_is_hugging_faces_whole_vocabulary(tmp_path: Path) -> None:
    assert read(tmp_path, '{"top_k": 0}')[0].top_k == -1


@pytest.mark.parametrize(
    "text",
    ['{"top_p": 0}', '{"temperature": "hot"}', '{"do_sample": 1}', '{"repetition_penalty": 0.5}', '{"top_k": 1.5}'],
)
def test_unusable_values_are_named_and_left_out(tmp_path: Path, text: str) -> None:
    defaults, problems = read(tmp_path, text)
    assert defaults == GenerationDefaults(top_k=50)
    assert len(problems) == 1
    assert text.split('"')[1] in problems[0]


@pytest.mark.parametrize("text", ["{", "[1]", "null"])
def test_an_unreadable_file_is_ignored(tmp_path: Path, text: str) -> None:
    assert read(tmp_path, text)[0] == GenerationDefaults()


def test_defaults_print_as_one_line() -> None:
    assert "do_sample=False temperature=1.0" in str(GenerationDefaults())
