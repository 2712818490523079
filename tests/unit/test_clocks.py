"""Durations are measured with clocks that never jump; the wall clock is for dates that people read."""

from __future__ import annotations

import ast
from pathlib import Path

ROOT = Path(__file__).parents[2]
JUMPING = {("time", "time"), ("time", "time_ns"), ("datetime", "now"), ("datetime", "utcnow"), ("datetime", "today")}
DATES = {
    "build_engine/build.py",
    "server/openai/chat_writer.py",
    "server/openai/completion_writer.py",
    "server/resources/openai.py",
    "server/template_environment.py",
    "server/tracing/request_trace.py",
}
"""Modules that write the date into an answer, a trace or a file."""


def test_the_wall_clock_is_read_for_dates_alone() -> None:
    readers = set()
    for package in ("runtime", "server", "build_engine"):
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                match node:
                    case ast.Attribute(value=ast.Name(id=owner), attr=name) if (owner, name) in JUMPING:
                        readers.add(str(path.relative_to(ROOT)))
                    case ast.ImportFrom(module="time", names=names):
                        assert not {alias.name for alias in names} & {"time", "time_ns"}, path
    assert readers == DATES
