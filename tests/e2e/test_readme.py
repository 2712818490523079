"""The README's call gives the README's answer, but for the words of it: those may differ between processors."""

from __future__ import annotations

import json
import re
from pathlib import Path

from serving import Server


def test_the_readmes_curl(server: Server) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    found = re.search(r"curl http://127.0.0.1:8080/generate -d '(.*?)'\n(\{.*?\})\n", readme, re.DOTALL)
    assert found is not None
    shown = json.loads(found[2])
    answer = server.post("/generate", json.loads(found[1]))
    assert answer.keys() == shown.keys()
    assert answer | {"generated_text": None} == shown | {"generated_text": None}
