"""The worker's side of the protocol: a line of JSON in, a line of JSON out.

Runs in a peer's interpreter, so it needs nothing but the standard library. The first line out is ``{"ready": {...}}``;
then each ``{"prompts": [[id, ...], ...], "new_tokens": n}`` in is answered by
``{"began": s, "requests": [{"first": s, "ended": s, "tokens": n}, ...]}``, seconds on the monotonic clock, or by
``{"error": "..."}``. The worker ends with its standard input.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from typing import Any

Prompts = list[list[int]]


class Clock:
    """Times and counts of the requests of one call."""

    def __init__(self, requests: int) -> None:
        self.began = time.monotonic()
        self.requests: list[dict[str, Any]] = [{"first": 0.0, "ended": 0.0, "tokens": 0} for _ in range(requests)]

    def got(self, request: int, tokens: int = 1) -> None:
        """``request`` has got ``tokens`` more tokens."""
        if tokens:
            entry = self.requests[request]
            entry["ended"] = time.monotonic()
            entry["first"] = entry["first"] or entry["ended"]
            entry["tokens"] += tokens


def serve(load: Callable[[], Any], generate: Callable[[Any, Prompts, int, Clock], None]) -> None:
    """Load a model, then answer until the input ends.

    ``load()`` gives whatever ``generate(model, prompts, new_tokens, clock)`` wants; that tells ``clock`` of its tokens.
    """
    out = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what libraries print goes to the log
    model = load()
    out.write(json.dumps({"ready": {"python": sys.version.split()[0]}}) + "\n")
    for line in sys.stdin:
        call = json.loads(line)
        clock = Clock(len(call["prompts"]))
        try:
            generate(model, call["prompts"], call["new_tokens"], clock)
            answer = {"began": clock.began, "requests": clock.requests}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        out.write(json.dumps(answer) + "\n")
