"""Renders chats in a process of its own, whose memory, time and access to the machine are limited from outside.

Jinja's sandbox keeps a template away from the interpreter, but one expression of it can ask for any amount of memory
or time. This process has neither to give away: the kernel bounds its memory, and its parent ends it when it is late.
"""

from __future__ import annotations

import os
import resource
import struct
import sys
from contextlib import suppress
from typing import Any, BinaryIO

import msgspec

from server.template_renderer import Renderer, RenderError

MEMORY_BYTES = 2**29
"""Of the address space; about 50 MB are the interpreter's."""

HEADER = struct.Struct("<Q")


class Job(msgspec.Struct):
    """The first message to the process.

    Attributes:
        source: The template, in Jinja.
        max_characters: Longest text that may come out.
    """

    source: str
    max_characters: int


class Compiled(msgspec.Struct):
    """The answer to ``Job``: see ``Renderer``."""

    problem: str
    variables: list[str]


class Rendered(msgspec.Struct):
    """The answer to the variables of a chat: its text, or why there is none."""

    text: str = ""
    problem: str = ""


_VARIABLES = msgspec.json.Decoder(dict[str, Any])
_JOB = msgspec.json.Decoder(Job)


def serve(requests: BinaryIO, answers: BinaryIO) -> None:
    """Answer until there are no more requests."""
    job = _JOB.decode(_read(requests))
    renderer = Renderer(job.source, job.max_characters)
    write(answers, Compiled(renderer.problem, sorted(renderer.variables)))
    while frame := _read(requests):
        try:
            answer = Rendered(text=renderer.render(_VARIABLES.decode(frame)))
        except RenderError as error:
            answer = Rendered(problem=str(error).encode(errors="replace").decode())
        write(answers, answer)


def write(stream: BinaryIO, message: Any) -> None:
    """Send one message."""
    frame = msgspec.json.encode(message)
    stream.write(HEADER.pack(len(frame)))
    stream.write(frame)
    stream.flush()


def _read(stream: BinaryIO) -> bytes:
    header = stream.read(HEADER.size)
    return stream.read(HEADER.unpack(header)[0]) if header else b""


def confine() -> None:
    """Give up what rendering does not need: more memory, files, processes."""
    # NOTE: this makes Jinja and Python load now what they load at the first need of it.
    for source in ("{{ [0] | tojson }}{{ strftime_now('%c') }}", "{{ a.b.c }}", "{%"):
        with suppress(RenderError):
            Renderer(source, 2**10).render({})
    for what, most in (
        (resource.RLIMIT_AS, MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, 0),
        (resource.RLIMIT_NOFILE, 0),
        (resource.RLIMIT_NPROC, 0),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(what, (most, most))


if __name__ == "__main__":
    # NOTE: what a template prints by some way yet unknown must not be read as an answer.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    confine()
    with suppress(MemoryError):
        serve(sys.stdin.buffer, answers)
