"""One build of the default model, and servers on it, for the whole run."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from serving import MODEL, Server


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "e2e" in item.path.parts:
            item.add_marker(pytest.mark.e2e)


@pytest.fixture(scope="session")
def default_bundle() -> Path:
    """The default model, built for this machine's processor."""
    command = [sys.executable, "-m", "build_engine", "build", MODEL, "--target", "cpu", "--print-path"]
    return Path(subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1])


@pytest.fixture(scope="session")
def server() -> Iterator[Server]:
    """A server with default limits."""
    started = Server()
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="session")
def small_server() -> Iterator[Server]:
    """A server held to 256 tokens a request, as the contract's cases assume."""
    started = Server("--max_req_total_len", "256", "--chunked_prefill_size", "128")
    yield started
    assert started.stop() == 0


@pytest.fixture(scope="session")
def server_url(small_server: Server) -> str:
    return small_server.url
