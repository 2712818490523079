"""Starts, memory and size: ``python -m benchmarks.startup``.

Cold and warm starts alternate. A start ends with the first 200 of ``/health``, and again with the first token.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from benchmarks.client import stream
from benchmarks.engine import built_bundle
from benchmarks.installed import installed_megabytes
from benchmarks.machine import describe, in_words
from benchmarks.page_cache import make_cold
from benchmarks.processes import memory_megabytes, parent_of, roles
from benchmarks.server import serving
from benchmarks.usage import at_least

LOAD = (32, 128, 128)
"""Requests at once, prompt and output tokens of what memory is measured under."""
_PROBE_SECONDS = 0.2


def import_seconds(repetitions: int = 5) -> list[float]:
    """Of ``python -c 'import server'``, the interpreter's own start included."""
    times = []
    for _ in range(repetitions):
        began = time.monotonic()
        subprocess.run([sys.executable, "-c", "import server"], check=True)
        times.append(time.monotonic() - began)
    return times


def start_seconds(bundle: str) -> tuple[float, float]:
    """From nothing to ``/health``, and to the first token of a short prompt."""
    began = time.monotonic()
    with serving(bundle) as (port, _, healthy):
        first = asyncio.run(stream("127.0.0.1", port, [100, 200, 300, 400], 1))
        return healthy, first.ended - began


def memory(bundle: str) -> list[dict[str, Any]]:
    """MiB of each process after the start and at its peak under load."""
    with serving(bundle) as (port, engine, _):
        supervisor = parent_of(engine)
        assert supervisor is not None
        found = roles(supervisor)
        idle = {process: memory_megabytes(process) for process in found}
        peak_pss = _under_load(port, list(found))
        return [
            {
                "role": role,
                "idle_rss": idle[process]["rss"],
                "idle_pss": idle[process]["pss"],
                "peak_rss": memory_megabytes(process)["peak_rss"],
                "peak_pss": peak_pss[process],
            }
            for process, role in found.items()
        ]


def _under_load(port: int, processes: Sequence[int]) -> dict[int, float]:
    """The largest PSS seen of each process; the kernel keeps no peak of it."""
    peaks = dict.fromkeys(processes, 0.0)
    ended = threading.Event()

    def watch() -> None:
        while not ended.wait(_PROBE_SECONDS):
            for process in processes:
                peaks[process] = max(peaks[process], memory_megabytes(process).get("pss", 0.0))

    async def load() -> None:
        count, prompt, output = LOAD
        prompts = [[100 + (row * prompt + i) % 39000 for i in range(prompt)] for row in range(count)]
        await asyncio.gather(*(stream("127.0.0.1", port, tokens, output) for tokens in prompts))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        asyncio.run(load())
    finally:
        ended.set()
        watcher.join()
    return peaks


def main() -> None:
    """Command line."""
    parser = argparse.ArgumentParser(
        prog="benchmarks.startup", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--repetitions", type=at_least(1), default=5)
    parser.add_argument("--drop-caches", action="store_true", help="drop the whole machine's page cache (as root)")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    document: dict[str, Any] = {"kind": "startup", "machine": describe()}
    print(in_words(document["machine"]))
    bundle = built_bundle(args.model)
    document["starts"] = _starts(bundle, args.repetitions, whole_machine=args.drop_caches)
    document["import_server"] = import_seconds(args.repetitions)
    print(_line("import server", document["import_server"]))
    document["memory"] = memory(bundle)
    document["installed"] = installed_megabytes()
    _print_tables(document)
    if args.json is not None:
        args.json.write_bytes(msgspec.json.encode(document) + b"\n")


def _starts(bundle: str, repetitions: int, *, whole_machine: bool) -> dict[str, list[float]]:
    start_seconds(bundle)
    how = ""
    times: dict[str, list[float]] = {
        f"{kind}, to {event}": [] for kind in ("cold", "warm") for event in ("/health", "first token")
    }
    for _ in range(repetitions):
        for kind in ("cold", "warm"):
            if kind == "cold":
                how = make_cold(Path(bundle), whole_machine=whole_machine)
            for event, seconds in zip(("/health", "first token"), start_seconds(bundle), strict=True):
                times[f"{kind}, to {event}"].append(seconds)
    print(how)
    for name, seconds_each in times.items():
        print(_line(name, seconds_each))
    return times


def _line(name: str, seconds: Sequence[float]) -> str:
    return f"{name:<28}{statistics.median(seconds):>8.3f} s  ({min(seconds):.3f} to {max(seconds):.3f})"


def _print_tables(document: dict[str, Any]) -> None:
    figures = ("idle_rss", "idle_pss", "peak_rss", "peak_pss")
    rows = [*document["memory"], {"role": "all"}]
    rows[-1] |= {name: sum(row[name] for row in document["memory"]) for name in figures}
    print(f"{'MiB':<14}" + "".join(f"{name.replace('_', ' '):>12}" for name in figures))
    for row in rows:
        print(f"{row['role']:<14}" + "".join(f"{row[name]:>12.1f}" for name in figures))
    sizes = document["installed"]
    if not sizes:
        print("installed size: Peregrine runs from its sources here; install it to know")
        return
    print(f"installed to serve on a CPU: {sum(sizes.values()):.0f} MB in {len(sizes)} packages")
    for name, size in list(sizes.items())[:10]:
        print(f"  {name:<24}{size:>8.1f}")


if __name__ == "__main__":
    main()
