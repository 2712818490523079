"""Fleets on a Ray cluster of two nodes on this machine. Skipped, and loudly, where Ray is not installed."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from importlib.util import find_spec
from pathlib import Path

import pytest
from e2e.serving import Server
from fleet_streams import Fleet

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if find_spec("ray") is not None:
        return
    absent = pytest.mark.skip(reason="Ray is not installed: pip install 'peregrine-llm[ray]'")
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(absent)


@pytest.fixture
def fleet() -> Iterator[Fleet]:
    """Starts fleets of the default model, which end with the test."""
    with ExitStack() as started:

        def start(*flags: str) -> Server:
            server = Server(*flags, ray=True)
            started.callback(server.stop)
            return server

        yield start
