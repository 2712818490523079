"""Throughput of a served reward model: calls one after the other against the same number at once.

``python -m benchmarks.scores``; prints medians over alternating repetitions. Every chat is new to the prefix cache.
Run it on an otherwise idle machine.
"""

from __future__ import annotations

import argparse
import http.client
import json
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from importlib.resources import files

from benchmarks.server import serving

CALLS = 64


def conversations(count: int, salt: str = "") -> list[str]:
    """Formatted chats of the API page's form; ``salt`` makes them new."""
    lines = files("build_engine.data").joinpath("reward_questions.jsonl").read_text("utf-8").splitlines()
    return [
        f"<|im_start|>user\n{salt}{item['question']}<|im_end|>\n<|im_start|>assistant\n{item['answer']}<|im_end|>\n"
        "<|reward|>"
        for item in map(json.loads, lines[:count])
    ]


class Caller:
    """Calls ``/get_score`` over one kept connection a thread."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._local = threading.local()

    def __call__(self, chat: str) -> int:
        """Score ``chat``; returns its tokens."""
        connection = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=60)
        connection.request("POST", "/get_score", json.dumps({"chat": chat}))
        answer = json.loads(connection.getresponse().read())
        return int(answer["prompt_tokens"])


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="smollm2-135m-reward")
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    single: list[float] = []
    together: list[float] = []
    with serving(args.model) as (port, _, _), ThreadPoolExecutor(CALLS) as threads:
        call, tokens = Caller(port), 0
        for repetition in range(args.repetitions + 1):
            chats = conversations(CALLS, f"{repetition} one ")
            began = time.monotonic()
            tokens = sum(call(chat) for chat in chats)
            alone = time.monotonic() - began
            chats = conversations(CALLS, f"{repetition} all ")
            began = time.monotonic()
            tokens = sum(threads.map(call, chats))
            if repetition:
                single.append(CALLS / alone)
                together.append(CALLS / (time.monotonic() - began))
    ratio = statistics.median(b / a for a, b in zip(single, together, strict=True))
    print(
        f"{CALLS} chats of {tokens / CALLS:.0f} tokens: one at a time {statistics.median(single):.1f}/s, "
        f"at once {statistics.median(together):.1f}/s, ratio {ratio:.2f}"
    )


if __name__ == "__main__":
    main()
