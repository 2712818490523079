"""Swaps the bundle of a busy server and counts what became of each request: ``python -m benchmarks.soak.swap``.

The exit status is 0 if every request was answered, with the text that it gets without load, and the server counted
as many answers as its clients.
"""

from __future__ import annotations

import argparse
import http.client
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from benchmarks.processes import memory_megabytes, parent_of, process_tree
from benchmarks.server import serving
from benchmarks.soak.keeping_clients import KINDS, PROMPTS, Client, clients_of, right_texts
from server.control_command import ask
from server.control_protocol import ControlRequest

END_SECONDS = 90.0
"""Time that retired generations get to end, once their clients have left."""


def main() -> int:
    arguments = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        control = Path(folder, "control")
        with serving(arguments.model, "--control_socket", str(control)) as (port, engine, _):
            supervisor = parent_of(engine) or 0
            texts, alone = right_texts(port), _memory(supervisor)
            with _peak_memory(supervisor) as peak, clients_of(port, arguments.clients, texts) as clients:
                swaps = _swap_now_and_then(control, arguments.model, arguments.swaps, arguments.seconds)
            _wait_for_retirement(control)
            answered = _counted(port) - len(PROMPTS)
            print(
                f"memory of all processes: {alone:.0f} MB before, {max(peak):.0f} MB at most, now "
                f"{_memory(supervisor):.0f} MB"
            )
    return _report(clients, swaps, answered)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.soak.swap", description=__doc__)
    parser.add_argument("--model", default="smollm2-135m-instruct")
    parser.add_argument("--seconds", type=float, default=30.0, help="of load (default: 30)")
    parser.add_argument("--swaps", type=int, default=2, help="at equal distances (default: 2)")
    parser.add_argument("--clients", type=int, default=3, help=f"of each kind: {', '.join(KINDS)} (default: 3)")
    return parser.parse_args()


def _swap_now_and_then(control: Path, model: str, swaps: int, seconds: float) -> list[tuple[float, float]]:
    """Swap at equal distances; when each began and how long it took."""
    done, began = [], time.monotonic()
    for number in range(1, swaps + 1):
        _sleep_until(began + seconds * number / (swaps + 1))
        at = time.monotonic()
        answer = ask(control, ControlRequest("swap", model))
        if answer.error:
            raise SystemExit(f"error: {answer.error}")
        done.append((at, time.monotonic() - at))
    _sleep_until(began + seconds)
    return done


def _sleep_until(when: float) -> None:
    time.sleep(max(0.0, when - time.monotonic()))


def _wait_for_retirement(control: Path) -> None:
    deadline = time.monotonic() + END_SECONDS
    while ask(control, ControlRequest("status")).status["retiring"]:
        if time.monotonic() > deadline:
            raise SystemExit("error: an old generation does not end")
        time.sleep(0.1)


def _counted(port: int) -> int:
    """Requests that the server says it has answered in full."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("GET", "/metrics")
    lines = connection.getresponse().read().decode().splitlines()
    connection.close()
    return int(
        sum(float(line.rsplit(" ", 1)[1]) for line in lines if line.startswith("lightllm_request_success_total"))
    )


def _memory(supervisor: int) -> float:
    """Proportional set size of a server's processes together, in MB."""
    return sum(memory_megabytes(process).get("pss", 0.0) for process in process_tree(supervisor))


@contextmanager
def _peak_memory(supervisor: int) -> Iterator[list[float]]:
    """Measures four times a second until the end of the block."""
    over, seen = threading.Event(), [0.0]

    def watch() -> None:
        while not over.wait(0.25):
            seen.append(_memory(supervisor))

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield seen
    finally:
        over.set()
        watcher.join()


def _report(clients: Sequence[Client], swaps: Sequence[tuple[float, float]], answered: int) -> int:
    asked = [request for client in clients for request in client.asked]
    failures = [failure for client in clients for failure in client.failures]
    during = [took for began, took in asked if any(at - took < began < at + lasted for at, lasted in swaps)]
    outside = [took for began, took in asked if not any(at - took < began < at + lasted for at, lasted in swaps)]
    for kind in KINDS:
        of_kind = [client for client in clients if client.kind == kind]
        requests, moved = sum(len(client.asked) for client in of_kind), sum(client.moved for client in of_kind)
        print(f"{kind:9} {requests:5} requests, {moved:3} told that their connection closes")
    print("swaps took " + ", ".join(f"{lasted:.1f} s" for _, lasted in swaps))
    for name, times in (("during swaps", during), ("otherwise", outside)):
        print(f"{name}: {len(times)} requests, p50 {_share(times, 0.5):.3f} s, p99 {_share(times, 0.99):.3f} s")
    print(f"{len(asked)} requests, {len(failures)} failed; the server counts {answered} answered")
    for failure in failures[:10]:
        print(f"  {failure}", file=sys.stderr)
    return 0 if not failures and answered == len(asked) else 1


def _share(values: Sequence[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))] if values else 0.0


if __name__ == "__main__":
    sys.exit(main())
