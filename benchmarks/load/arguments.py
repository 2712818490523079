"""The command line of ``python -m benchmarks.load``."""

from __future__ import annotations

import argparse
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from benchmarks.load.lengths import parse_lengths
from benchmarks.load.slo import parse_slo
from benchmarks.load.trace import read_trace
from benchmarks.usage import UsageError, at_least, positive

MODEL = "smollm2-135m-instruct"


def parser(description: str | None) -> argparse.ArgumentParser:
    """All options."""
    made = argparse.ArgumentParser(
        prog="benchmarks.load", description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    _add_server(made)
    _add_load(made)
    _add_prompts(made)
    made.add_argument("--slo", type=parse_slo, metavar="S", help="a good answer, in seconds: ttft=1.0,tpot=0.05")
    made.add_argument("--json", type=Path, metavar="FILE", help="write figures and all records there")
    made.add_argument("--flags", nargs=argparse.REMAINDER, default=[], help="passed on to peregrine serve; last")
    return made


def parse_url(text: str) -> SplitResult:
    """``http://host:port``.

    Raises:
        UsageError: It is not.
    """
    parts = urlsplit(text)
    try:
        usable = parts.scheme == "http" and parts.hostname and (parts.port or 80) and parts.path in ("", "/")
    except ValueError:  # the port is no number
        usable = False
    if not usable:
        message = f"must be http://host:port, not {text!r}"
        raise UsageError(message)
    return parts


def _add_server(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("server")
    group.add_argument("--url", type=parse_url, help="a running server, http://host:port; else one is started")
    group.add_argument("--server-pid", type=at_least(1), metavar="PID", help="its supervisor here, for CPU times")
    group.add_argument("--model", default=MODEL, help="what to serve (default: %(default)s)")


def _add_load(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("load")
    how = group.add_mutually_exclusive_group()
    how.add_argument("--rate", type=positive, nargs="+", metavar="R", help="open loop: requests a second")
    how.add_argument("--concurrency", type=at_least(1), nargs="+", metavar="N", help="closed loop: requests at once")
    group.add_argument("--seconds", type=positive, default=20.0, help="time of sending at each (default: 20)")
    group.add_argument("--requests", type=at_least(1), metavar="N", help="requests at each, instead of --seconds")
    group.add_argument("--warm-up", type=at_least(0), default=8, metavar="N", help="requests before (default: 8)")
    group.add_argument("--timeout", type=positive, default=600.0, metavar="S", help="of a request (default: 600)")
    group.add_argument("--seed", type=int, default=0)


def _add_prompts(made: argparse.ArgumentParser) -> None:
    group = made.add_argument_group("prompts")
    lengths = "128, uniform:64:256 or lognormal:MEDIAN:SIGMA:LARGEST"
    group.add_argument("--input", type=parse_lengths, default="128", metavar="L", help=f"prompt tokens: {lengths}")
    group.add_argument("--output", type=parse_lengths, default="128", metavar="L", help="output tokens, likewise")
    group.add_argument("--trace", type=read_trace, metavar="FILE", help="JSONL: output_tokens, prompt or prompt_tokens")
    group.add_argument("--shared-prefix", type=at_least(0), default=0, metavar="N", help="tokens put before prompts")
    group.add_argument("--shared-prefixes", type=at_least(1), default=1, metavar="N", help="different ones of these")
    group.add_argument("--last-token", type=at_least(101), default=40000, metavar="ID", help="of random prompts")
