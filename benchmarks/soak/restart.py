"""How long a killed engine is missed: ``python -m benchmarks.soak.restart``.

The engine of a server under load gets SIGKILL. A new request is sent at once, and sent again whenever it is turned
away, until it is answered. Servers without and with ``--replay`` take turns, each killed once. The exit status is 1
where a request was left without an answer or an error, or ``--replay`` lost one.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import random
import signal
import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from benchmarks.client import StreamResult, encode_request, exchange
from benchmarks.engine import built_bundle
from benchmarks.machine import describe, in_words
from benchmarks.server import serving
from benchmarks.usage import at_least

HOST = "127.0.0.1"
PROMPT_TOKENS = 64
TIMEOUT = 120.0
GOAL_SECONDS = 5.0


@dataclass
class Trial:
    """What came of one killed engine.

    Attributes:
        answered: Seconds from the kill until a new request had its answer.
        pause: The longest that a stream which went on stood still; 0 where none did.
        whole: Streams that got all of their tokens.
        failed: Streams that ended with an error of the API's form.
        unanswered: Streams that ended otherwise, or not at all.
    """

    answered: float
    pause: float
    whole: int
    failed: int
    unanswered: int


async def trial(port: int, engine: int, streams: int, new_tokens: int, seed: int) -> Trial:
    """Load a server, kill its engine once every stream has tokens, and wait for all answers."""
    chance = random.Random(seed)
    loads = [
        asyncio.create_task(exchange(HOST, port, encode_request(HOST, prompt, new_tokens), TIMEOUT))
        for prompt in ([chance.randrange(100, 39000) for _ in range(PROMPT_TOKENS)] for _ in range(streams))
    ]
    warm = encode_request(HOST, [100] * PROMPT_TOKENS, new_tokens // 8)
    await exchange(HOST, port, warm, TIMEOUT)
    os.kill(engine, signal.SIGKILL)
    killed = time.monotonic()
    probe = StreamResult(killed, error="none yet")
    while probe.error and time.monotonic() - killed < TIMEOUT:
        probe = await exchange(HOST, port, encode_request(HOST, [100, 200, 300], 1), TIMEOUT)
    answered = time.monotonic() - killed
    return judge(await asyncio.gather(*loads), killed, answered)


def judge(results: Sequence[StreamResult], killed: float, answered: float) -> Trial:
    """Sort what the streams got."""
    whole = [result for result in results if not result.error]
    failed = sum(result.error.startswith("error event") or result.status == 503 for result in results)
    gaps = [
        after - before
        for result in whole
        for before, after in zip(result.token_times, result.token_times[1:], strict=False)
        if after > killed
    ]
    return Trial(answered, max(gaps, default=0.0), len(whole), failed, len(results) - len(whole) - failed)


def measure(bundle: str, flags: Sequence[str], args: argparse.Namespace, seed: int) -> Trial:
    """One server, one kill."""
    with serving(bundle, *flags) as (port, engine, _):
        return asyncio.run(trial(port, engine, args.streams, args.tokens, seed))


def main() -> int:
    """Command line; returns the exit status."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.soak.restart", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--repetitions", type=at_least(1), default=5)
    parser.add_argument("--streams", type=at_least(1), default=16)
    parser.add_argument("--tokens", type=at_least(8), default=200, help="of each stream (default: 200)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    machine = describe()
    print(in_words(machine))
    bundle = built_bundle(args.model)
    trials: dict[str, list[Trial]] = {"without": [], "--replay": []}
    for repetition in range(args.repetitions):
        for name, done in trials.items():
            done.append(measure(bundle, [name] if name.startswith("--") else [], args, repetition))
            print(f"  {_line(name, done[-1:])}", flush=True)
    for name, done in trials.items():
        print(_line(name, done))
    if args.json is not None:
        args.json.write_bytes(msgspec.json.encode({"kind": "restart", "machine": machine, "trials": trials}) + b"\n")
    return 0 if _good(trials) else 1


def _good(trials: dict[str, list[Trial]]) -> bool:
    every = [trial for done in trials.values() for trial in done]
    lost = sum(trial.unanswered for trial in every) + sum(trial.failed for trial in trials["--replay"])
    return not lost and statistics.median(trial.answered for trial in every) < GOAL_SECONDS


def _line(name: str, trials: Sequence[Trial]) -> str:
    answered = [trial.answered for trial in trials]
    pause = max(trial.pause for trial in trials)
    return (
        f"{name:<10}new requests answered after {statistics.median(answered):.2f} s "
        f"({min(answered):.2f} to {max(answered):.2f}); streams whole {sum(trial.whole for trial in trials)}, "
        f"failed {sum(trial.failed for trial in trials)}, unanswered {sum(trial.unanswered for trial in trials)}"
        + (f"; longest pause {pause:.2f} s" if pause else "")
    )


if __name__ == "__main__":
    raise SystemExit(main())
