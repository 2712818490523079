"""Compares every counter of ``/metrics`` with what the clients of a mixed load counted themselves.

    python -m benchmarks.soak.metrics MODEL [--jobs 400] [--clients 24] [--seed 1]

Serves MODEL with two HTTP workers and a short queue, so that requests are refused too, and ends with status 1 where
the two differ, a gauge does not come to rest, or the text has faults.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import time
from typing import Any

from benchmarks.server import serving
from benchmarks.soak.exposition import differences, faults, restless, samples
from benchmarks.soak.metrics_load import Load
from benchmarks.usage import at_least

REST_SECONDS = 30.0
CALM_CLIENTS = 2
"""So few that nobody is refused."""


def main() -> int:
    """Run it; returns the exit status."""
    parser = argparse.ArgumentParser(prog="benchmarks.soak.metrics", description="Count what the server counts.")
    parser.add_argument("model", nargs="?", default="smollm2-135m-instruct")
    parser.add_argument("--jobs", type=at_least(1), default=400)
    parser.add_argument("--clients", type=at_least(1), default=24)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with serving(arguments.model, "--httpserver_workers", "2", "--max_queued", "8") as (port, _, _):
        problems = compare(port, arguments)
    for problem in problems:
        sys.stdout.write(f"WRONG {problem}\n")
    return 1 if problems else 0


def compare(port: int, arguments: Any) -> list[str]:
    """What is wrong; prints what was compared."""
    return [
        *_round(port, Load(port, arguments.seed, crowded=False), arguments.jobs // 4, CALM_CLIENTS),
        *_round(port, Load(port, arguments.seed, crowded=True), arguments.jobs, arguments.clients),
    ]


def _round(port: int, load: Load, jobs: int, clients: int) -> list[str]:
    before = samples(scrape(port))
    tally = load.run(jobs, clients)
    deadline = time.monotonic() + REST_SECONDS
    while restless(samples(scrape(port))) and time.monotonic() < deadline:
        time.sleep(0.05)
    text = scrape(port)
    after = samples(text)
    for name in sorted(tally.exact):
        sys.stdout.write(f"{name:90} clients {tally.exact[name]:8} server {after[name] - before[name]:8g}\n")
    return [*differences(before, after, tally), *restless(after), *faults(text)]


def scrape(port: int) -> str:
    """``/metrics``."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request("GET", "/metrics")
        return connection.getresponse().read().decode()
    finally:
        connection.close()


if __name__ == "__main__":
    sys.exit(main())
