"""``peregrine health``: the health check of a container that has no curl."""

from __future__ import annotations

import argparse
import http.client
import sys
from collections.abc import Sequence


def main(argv: Sequence[str]) -> int:
    """Run ``peregrine health``; returns 0 if the server answers 200, else 1."""
    parser = argparse.ArgumentParser("peregrine health", description="Ask a server whether it is well.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=8000)
    parser.add_argument("--path", default="/health", help="/health, /liveness or /readiness (default: %(default)s)")
    parser.add_argument("--timeout", type=float, default=5.0, metavar="S")
    arguments = parser.parse_args(argv)
    connection = http.client.HTTPConnection(arguments.host, arguments.port, timeout=arguments.timeout)
    try:
        connection.request("GET", arguments.path)
        status = connection.getresponse().status
        told = f"{arguments.path} answers {status}"
    except (OSError, http.client.HTTPException) as error:
        status, told = 0, f"{arguments.host}:{arguments.port} does not answer: {error}"
    finally:
        connection.close()
    (sys.stdout if status == 200 else sys.stderr).write(f"{told}\n")
    return 0 if status == 200 else 1
