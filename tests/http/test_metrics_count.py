"""What ``/metrics`` says is what clients counted, with two HTTP workers and whatever they do."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from server_process import ServerProcess, command_line, completion, descendants, wait_until
from toy_tokenizer import VOCAB_SIZE, write_toy_bundle

from benchmarks.soak.exposition import Samples, differences, fallen, faults, restless, samples
from benchmarks.soak.metrics_load import Load, Tally
from runtime.executors.scripted import Script

SCRIPT = Script(vocab_size=VOCAB_SIZE, first_token=98, step_seconds=0.004, max_sequence_tokens=1024)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tokenizer, and a script instead of a model."""
    path = write_toy_bundle(tmp_path_factory.mktemp("bundle"))
    (path / "script.json").write_bytes(msgspec.json.encode(SCRIPT))
    return path


@pytest.fixture(scope="module")
def server(bundle: Path) -> Iterator[ServerProcess]:
    """Two workers, and a queue that two clients cannot fill and 32 do."""
    flags = ("--executor", "scripted", "--port", "0", "--httpserver_workers", "2", "--log_level", "warning")
    with ServerProcess(str(bundle), *flags, "--max_queued", "8", "--running_max_req_size", "6") as server:
        yield server.wait_until_serving()


def scrape(server: ServerProcess) -> str:
    return server.request("GET", "/metrics")[2].decode()


def at_rest(server: ServerProcess) -> Samples:
    """The numbers once nothing is going on any more."""
    seen: list[Samples] = []

    def rests() -> bool:
        seen.append(samples(scrape(server)))
        return not restless(seen[-1])

    wait_until(rests, f"no rest: {restless(samples(scrape(server)))}")
    return seen[-1]


def loaded(server: ServerProcess, clients: int, *, crowded: bool) -> tuple[Samples, Samples, Tally]:
    before = at_rest(server)
    tally = Load(server.port, seed=1, crowded=crowded).run(jobs=120, clients=clients)
    return before, at_rest(server), tally


def test_every_counter_says_what_the_clients_counted(server: ServerProcess) -> None:
    before, after, tally = loaded(server, clients=2, crowded=False)
    assert differences(before, after, tally) == []
    assert tally.exact["vllm:admission_rejections_total"] == 0
    assert tally.exact["vllm:prefix_cache_hits_total"] > 0
    generated = after["vllm:generation_tokens_total"] - before["vllm:generation_tokens_total"]
    assert generated == tally.exact["lightllm_request_generated_tokens_sum"]


def test_clients_that_are_refused_or_leave_are_counted_as_such(server: ServerProcess) -> None:
    before, after, tally = loaded(server, clients=32, crowded=True)
    assert differences(before, after, tally) == []
    assert tally.exact['vllm:request_success_total{finished_reason="abort"}'] > 0
    assert tally.exact["vllm:admission_rejections_total"] > 0


def test_the_text_is_what_prometheus_takes(server: ServerProcess) -> None:
    assert server.request("POST", "/generate", completion(3))[0] == 200
    text = scrape(server)
    assert faults(text) == []
    found = samples(text)
    assert found["peregrine_build_info"] == found["peregrine_engine_up"] == 1
    assert found['peregrine_processes{process="http"}'] == 2
    for process in ("engine", "http"):
        assert found[f'process_resident_memory_bytes{{process="{process}"}}'] > 2**20
        assert found[f'process_open_fds{{process="{process}"}}'] > 3
        assert found[f'process_start_time_seconds{{process="{process}"}}'] > 1.7e9


def test_what_is_open_is_a_gauge(server: ServerProcess) -> None:
    at_rest(server)
    streams = [server.stream(tokens=900) for _ in range(3)]
    found = samples(scrape(server))
    assert (found["peregrine_http_streams_open"], found["peregrine_http_requests_in_flight"]) == (3, 4)
    assert found["peregrine_engine_seconds_since_step"] < 1
    for stream in streams:
        stream.close()
    at_rest(server)


def test_counters_survive_a_workers_death_and_gauges_do_not(server: ServerProcess) -> None:
    for _ in range(6):
        assert server.request("POST", "/generate", completion(2))[0] == 200
    before = at_rest(server)
    streams = [server.stream(tokens=900) for _ in range(6)]
    workers = http_workers(server)
    assert samples(scrape(server))["peregrine_http_streams_open"] == 6
    for pid in workers:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    name = "peregrine_http_worker_starts_total"
    wait_until(lambda: server.metric(name) == before[name] + 2, "no new workers")
    for stream in streams:
        stream.close()
    after = at_rest(server)
    assert fallen(before, after) == []


def test_an_engines_death_is_counted_and_the_http_side_goes_on_counting(server: ServerProcess) -> None:
    before = at_rest(server)
    with suppress(ProcessLookupError):
        os.kill(server.engine_pid(), signal.SIGKILL)
    wait_until(lambda: server.request("POST", "/generate", completion(2))[0] == 200, "no recovery")
    after = at_rest(server)
    assert after["peregrine_engine_restarts_total"] == before["peregrine_engine_restarts_total"] + 1
    assert fallen(before, after) == []
    assert after["vllm:prompt_tokens_total"] > before["vllm:prompt_tokens_total"]


def http_workers(server: ServerProcess) -> list[int]:
    """gunicorn's workers, without its master."""
    named = [pid for pid in descendants(server.process.pid) if "gunicorn" in command_line(pid)]
    return [pid for pid in named if not any(child in named for child in descendants(pid))]
