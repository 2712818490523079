"""Conformance cases: one JSON object a line, what to ask a server and what its answer has to look like."""

from __future__ import annotations

import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import msgspec

OVERLONG = "a " * 600
"""What ``$A64`` stands for in a body: more tokens than a request may have."""

SCALARS: dict[str, Callable[[Any], bool]] = {
    "str": lambda value: isinstance(value, str),
    "int": lambda value: type(value) is int,
    "float": lambda value: type(value) in (int, float),
    "bool": lambda value: isinstance(value, bool),
    "object": lambda value: isinstance(value, dict),
    "null": lambda value: value is None,
}


class Stream(msgspec.Struct, frozen=True):
    """What a stream has to look like; ``None`` checks nothing."""

    events: int | None = None
    content_type: str | None = None
    prefix: str = "data:"
    sep: str = "\n\n"
    no_done: bool = True
    event_keys: tuple[str, ...] | None = None
    token_keys: tuple[str, ...] | None = None
    null_keys: tuple[str, ...] = ()
    counts: tuple[int, ...] | None = None
    finished: tuple[bool, ...] | None = None
    last_reason: str | None = None


class Case(msgspec.Struct, frozen=True):
    """One question and its answer.

    Attributes:
        m: Method.
        p: Path.
        st: Allowed statuses; the first is LightLLM's own, the others are improvements.
        b: JSON body; ``raw`` and ``ct`` are a body as it is and a content type.
        keys: Exact keys of a successful answer, with types (``str``, ``[int;2]``, ``str|null``, ...).
        min: Keys that an answer has at least, with types.
        eq: Keys with exact values.
        has: Text that an error, or the metrics, contain.
    """

    id: int
    m: str
    p: str
    st: tuple[int, ...]
    b: Any = msgspec.UNSET
    raw: str | None = None
    ct: str = "application/json"
    keys: dict[str, str] | None = None
    min: dict[str, str] = {}
    eq: dict[str, Any] = {}
    has: str = ""
    sse: Stream | None = None
    note: str = ""

    def __str__(self) -> str:
        return f"{self.id}-{self.m}-{self.p}"


def read_cases(path: Path) -> list[Case]:
    """The cases of a file."""
    lines = path.read_text("utf-8").splitlines()
    return [msgspec.json.decode(line, type=Case) for line in lines if line.strip()]


def problems(base_url: str, case: Case) -> list[str]:
    """Ask the server and return what is wrong with its answer."""
    status, headers, body = _ask(base_url, case)
    if status not in case.st:
        return [f"status {status} is none of {case.st}: {body[:200]!r}"]
    return list(_checks(case, status, headers, body))


def has_type(value: Any, spec: str) -> bool:
    """Whether ``value`` is of the type that ``spec`` names."""
    if spec.startswith("["):
        inner, _, count = spec[1:-1].partition(";")
        fits = isinstance(value, list) and all(has_type(item, inner) for item in value)
        return fits and (not count or len(value) == int(count))
    return any(SCALARS[name](value) for name in spec.split("|"))


def _ask(base_url: str, case: Case) -> tuple[int, dict[str, str], bytes]:
    url = urlsplit(base_url)
    body = case.raw
    if case.b is not msgspec.UNSET:
        body = json.dumps(case.b).replace("$A64", OVERLONG)
    assert url.hostname is not None
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=120)
    try:
        headers = {} if body is None else {"Content-Type": case.ct}
        connection.request(case.m, case.p, None if body is None else body.encode(), headers)
        response = connection.getresponse()
        return response.status, {k.lower(): v for k, v in response.getheaders()}, response.read()
    finally:
        connection.close()


def _checks(case: Case, status: int, headers: dict[str, str], body: bytes) -> Iterator[str]:
    if case.m == "HEAD":
        if body:
            yield "an answer to HEAD has a body"
    elif case.p == "/metrics":
        if case.has not in body.decode():
            yield f"{case.has} is missing"
    elif case.sse is not None and status == 200:
        yield from _stream_checks(case.sse, headers, body.decode())
    elif case.keys is not None or case.min or case.eq or case.has:
        yield from _object_checks(case, status, body)


def _object_checks(case: Case, status: int, body: bytes) -> Iterator[str]:
    def refuse(name: str) -> None:
        raise ValueError(f"bare {name}")

    try:
        answer = json.loads(body, parse_constant=refuse)
    except ValueError as error:
        yield f"not JSON ({error}): {body[:200]!r}"
        return
    success = status < 300
    if case.keys is not None and success and set(answer) != set(case.keys):
        yield f"keys {sorted(answer)}"
    for key, spec in ((case.keys or {}) | case.min).items():
        if (success or key in case.min) and not (key in answer and has_type(answer[key], spec)):
            yield f"{key}={answer.get(key)!r} is not {spec}"
    for key, value in case.eq.items():
        if answer.get(key) != value:
            yield f"{key}={answer.get(key)!r} is not {value!r}"
    if case.has and not success and case.has not in json.dumps(answer):
        yield f"the message does not name {case.has}: {answer}"


def _stream_checks(want: Stream, headers: dict[str, str], text: str) -> Iterator[str]:
    if want.content_type and not headers.get("content-type", "").startswith(want.content_type):
        yield f"content type {headers.get('content-type')}"
    frames = [frame for frame in text.split(want.sep) if frame]
    if not all(frame.startswith(want.prefix) for frame in frames):
        yield f"a frame does not begin with {want.prefix!r}"
        return
    if want.no_done and "[DONE]" in text:
        yield "there is a [DONE]"
    events = [json.loads(frame.removeprefix("data:")) for frame in frames if "[DONE]" not in frame]
    for name, found, wanted in (
        ("events", len(events), want.events),
        ("counts", tuple(e["token"]["count_output_tokens"] for e in events), want.counts),
        ("finished", tuple(e["finished"] for e in events), want.finished),
        ("last reason", events[-1]["finish_reason"] if events else None, want.last_reason),
    ):
        if wanted is not None and found != wanted:
            yield f"{name}: {found} is not {wanted}"
    for event in events:
        if want.event_keys is not None and set(event) != set(want.event_keys):
            yield f"event keys {sorted(event)}"
        if want.token_keys is not None and set(event["token"]) != set(want.token_keys):
            yield f"token keys {sorted(event['token'])}"
        yield from (f"{key} is not null" for key in want.null_keys if event[key] is not None)
