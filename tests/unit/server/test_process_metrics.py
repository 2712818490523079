"""What is told of this server's processes."""

from __future__ import annotations

import os
import time

import pytest
from prometheus_client import CollectorRegistry

from server.process_metrics import ProcessCollector, facts_of, http_workers


def test_a_process_has_memory_files_and_a_start() -> None:
    facts = facts_of(os.getpid())
    assert facts is not None
    assert facts.resident_bytes > 2**20
    assert facts.open_files >= 3
    assert time.time() - 86400 < facts.started_at <= time.time() + 2


def test_a_process_that_has_ended_is_left_out() -> None:
    assert facts_of(2**30) is None
    registry = CollectorRegistry()
    registry.register(ProcessCollector({"engine": [2**30], "http": [os.getpid(), 2**30]}))
    assert registry.get_sample_value("peregrine_processes", {"process": "engine"}) is None
    assert registry.get_sample_value("peregrine_processes", {"process": "http"}) == 1


def test_outside_of_gunicorn_this_process_is_the_only_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    assert http_workers() == [os.getpid()]
