"""The conformance cases against a server with the default model and at most 256 tokens a request."""

from __future__ import annotations

from pathlib import Path

import pytest
from cases import Case, problems, read_cases

CASES = list(read_cases(Path(__file__).parent / "data" / "cases.jsonl"))


@pytest.mark.e2e
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_server_answers_as_lightllm_does(server_url: str, case: Case) -> None:
    assert problems(server_url, case) == []
