"""The load tool against a real server on a scripted engine: refusals and failures are counted, never dropped."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from server_process import ServerProcess
from toy_tokenizer import VOCAB_SIZE, write_toy_bundle

from benchmarks.load.__main__ import main
from benchmarks.server import free_port
from runtime.executors.scripted import Script

ROOM = ("--running_max_req_size", "1", "--max_queued", "2", "--max_req_total_len", "512")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Room for one running and two waiting requests."""
    bundle = write_toy_bundle(tmp_path_factory.mktemp("bundle"))
    script = Script(vocab_size=VOCAB_SIZE, first_token=98, step_seconds=0.01, max_sequence_tokens=512)
    (bundle / "script.json").write_bytes(msgspec.json.encode(script))
    with ServerProcess(str(bundle), "--executor", "scripted", "--port", "0", *ROOM) as started:
        yield started.wait_until_serving()


def load(server: ServerProcess, tmp_path: Path, *arguments: str) -> dict[str, Any]:
    report = tmp_path / "load.json"
    where = ["--url", f"http://127.0.0.1:{server.port}", "--server-pid", str(server.process.pid)]
    prompts = ["--last-token", str(VOCAB_SIZE - 1), "--warm-up", "1", "--json", str(report)]
    assert main([*where, *prompts, *arguments]) == 0
    found: dict[str, Any] = json.loads(report.read_text())
    return found


def test_an_open_loop_counts_what_the_server_refuses(server: ServerProcess, tmp_path: Path) -> None:
    shape = ["--input", "8", "--output", "40", "--requests", "12", "--slo", "ttft=60"]
    (run,) = load(server, tmp_path, "--rate", "200", *shape)["runs"]
    summary = run["summary"]
    assert summary["requests"] == 12
    assert summary["errors"] == {"503": 12 - summary["whole"]}
    assert 1 <= summary["whole"] < 12
    assert summary["good_share"] == summary["whole"] / 12
    whole = [record for record in run["records"] if not record["error"]]
    assert {len(record["token_times"]) for record in whole} == {40}
    assert {record["prompt_tokens"] for record in whole} == {8}
    for record in whole:
        times = record["token_times"]
        assert record["arrival"] <= record["sent"] <= times[0]
        assert times == sorted(times)
        assert times[-1] - times[0] >= 39 * 0.01 * 0.9
    assert set(run["cpu_seconds"]) == {"supervisor", "engine", "HTTP arbiter", "HTTP worker", "client"}


def test_a_closed_loop_keeps_its_requests_open_and_meets_no_refusal(server: ServerProcess, tmp_path: Path) -> None:
    shape = ["--input", "uniform:2:9", "--output", "uniform:1:5", "--requests", "6"]
    runs = load(server, tmp_path, "--concurrency", "1", "2", *shape)["runs"]
    assert [run["level"] for run in runs] == [1, 2]
    for run in runs:
        assert (run["summary"]["whole"], run["summary"]["errors"]) == (6, {})
        assert {len(record["token_times"]) - record["wanted_tokens"] for record in run["records"]} == {0}


def test_a_trace_is_replayed_at_its_own_times(server: ServerProcess, tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    entries = [{"prompt": "hello", "output_tokens": 2, "arrival": 0.0}, {"prompt_tokens": 600, "output_tokens": 1}]
    entries[1]["arrival"] = 0.2
    trace.write_text("\n".join(map(json.dumps, entries)))
    (run,) = load(server, tmp_path, "--trace", str(trace))["runs"]
    first, too_long = run["records"]
    assert [first["arrival"], too_long["arrival"]] == [0.0, 0.2]
    assert too_long["sent"] >= 0.2
    assert (first["status"], len(first["token_times"])) == (200, 2)
    assert (too_long["status"], run["summary"]["errors"]) == (417, {"417": 1})


def test_a_server_that_is_not_there_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    url = f"http://127.0.0.1:{free_port()}"
    assert main(["--url", url, "--warm-up", "0", "--rate", "50", "--requests", "2"]) == 1
    assert "2 x no connection" in capsys.readouterr().out


def test_without_a_load_there_is_one_clear_message(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--url", "http://127.0.0.1:1"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith("give --rate, --concurrency or a --trace with arrivals\n")
