"""The likelihoods as the server gives them, asked for in the way that lm-eval's ``local-completions`` does."""

from __future__ import annotations

import http.client
import json
from typing import Any

from benchmarks.lm_eval.continuations import Continuation, Likelihood


def by_server(port: int, asked: list[Continuation], at_once: int = 4) -> list[Likelihood]:
    """Ask for ``at_once`` texts a call, as token ids; echoed, with a token that nobody wants."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=120)
    found: list[Likelihood] = []
    try:
        for first in range(0, len(asked), at_once):
            found += _ask(connection, asked[first : first + at_once])
    finally:
        connection.close()
    return found


def _ask(connection: http.client.HTTPConnection, asked: list[Continuation]) -> list[Likelihood]:
    body = {
        "model": "any",
        "prompt": [each.tokens for each in asked],
        "temperature": 0,
        "max_tokens": 1,
        "logprobs": 1,
        "seed": 1234,
        "echo": True,
    }
    connection.request("POST", "/v1/completions", json.dumps(body))
    response = connection.getresponse()
    answer = json.loads(response.read())
    if response.status != 200:
        raise SystemExit(f"error: {answer}")
    choices = sorted(answer["choices"], key=lambda choice: choice["index"])
    return [_read(choice["logprobs"], each.context) for choice, each in zip(choices, asked, strict=True)]


def _read(logprobs: dict[str, Any], context: int) -> Likelihood:
    values = logprobs["token_logprobs"][context:-1]
    tops = logprobs["top_logprobs"][context:-1]
    return Likelihood(sum(values), all(value == max(top.values()) for value, top in zip(values, tops, strict=True)))
