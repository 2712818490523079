"""Traces: one JSON object a line, with the lengths of a request or its prompt, and when it came."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import msgspec

from benchmarks.usage import UsageError

Count = Annotated[int, msgspec.Meta(ge=1)]


class TraceEntry(msgspec.Struct, frozen=True, kw_only=True):
    """One request. Other keys of the line are ignored.

    Attributes:
        prompt: Text or token ids, sent as they are.
        prompt_tokens: Length of a random prompt instead.
        output_tokens: Tokens to generate.
        arrival: Seconds since the beginning of the trace.
    """

    output_tokens: Count
    prompt: str | list[int] | None = None
    prompt_tokens: Count | None = None
    arrival: Annotated[float, msgspec.Meta(ge=0)] | None = None


def read_trace(path: str | Path) -> list[TraceEntry]:
    """The entries of a JSONL file, in order of arrival where they have one.

    Raises:
        UsageError: The file cannot be read, or a line of it is no entry.
    """
    try:
        lines = Path(path).read_bytes().splitlines()
    except OSError as error:
        message = f"the trace {path} cannot be read: {error.strerror}"
        raise UsageError(message) from None
    entries = []
    for number, line in enumerate(lines, 1):
        if line.strip():
            entries.append(_entry(line, f"{path}, line {number}"))
    if not entries:
        message = f"the trace {path} is empty"
        raise UsageError(message)
    timed = sum(entry.arrival is not None for entry in entries)
    if timed not in (0, len(entries)):
        message = f"{path}: {timed} of {len(entries)} entries have an arrival; all must, or none"
        raise UsageError(message)
    return sorted(entries, key=lambda entry: entry.arrival or 0.0)


def _entry(line: bytes, where: str) -> TraceEntry:
    try:
        entry = msgspec.json.decode(line, type=TraceEntry)
    except msgspec.MsgspecError as error:
        message = f"{where}: {error}"
        raise UsageError(message) from None
    if (entry.prompt is None) == (entry.prompt_tokens is None) or entry.prompt in ("", []):
        message = f"{where}: one of prompt and prompt_tokens is needed"
        raise UsageError(message)
    return entry
