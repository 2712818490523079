"""The simulator's commands, on figures small enough for a test."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.simulate import __main__ as engine
from benchmarks.simulate import fleets, invariants, policies
from benchmarks.simulate.cost import read_model
from benchmarks.simulate.scenario import MEASURED, policy_named
from benchmarks.simulate.served import body_of, prompt_of
from benchmarks.simulate.trace import Arrival, Segment, write_trace
from benchmarks.simulate.traffic import Source, chat
from benchmarks.usage import UsageError
from runtime.scheduler import Scheduler


def test_random_traces_keep_the_books(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(invariants, "side_by_side", lambda function, tasks: [function(task) for task in tasks])
    assert invariants.main(["--traces", "20"]) == 0
    assert "20 traces from seed 0 on: no violations" in capsys.readouterr().out


def test_spoilt_books_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    evict = Scheduler.evict

    def forgetful(self: Scheduler, group: object) -> None:
        evict(self, group)  # type: ignore[arg-type]
        self.free_rows.pop()

    monkeypatch.setattr(Scheduler, "evict", forgetful)
    assert any("rows in use or free" in wrong for wrong in invariants.batch(range(20)))


def test_one_engine_is_played_at_every_rate_with_every_policy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    target = tmp_path / "run.json"
    flags = ["--rate", "4", "8", "--policy", "future_peak", "past_future:0.1", "--requests", "12"]
    assert engine.main([*flags, "--json", str(target)]) == 0
    runs = json.loads(target.read_bytes())["runs"]
    assert [(run["rate"], run["policy"]) for run in runs] == [
        (4.0, "future_peak"),
        (4.0, "past_future:0.1"),
        (8.0, "future_peak"),
        (8.0, "past_future:0.1"),
    ]
    assert all(run["summary"]["answered"] == 12 and run["use"] for run in runs)
    assert "8192 tokens of KV cache" in capsys.readouterr().out


def test_a_stored_trace_is_played_at_its_own_rate_or_another(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "trace.jsonl"
    write_trace(path, chat(Source(1, 2048), 5.0, 12))
    assert engine.main(["--trace", str(path)]) == 0
    assert engine.main(["--trace", str(path), "--rate", "50"]) == 0
    assert capsys.readouterr().out.count("future_peak") == 2


def test_a_trace_that_is_none_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "trace.jsonl").write_text("{}\n")
    with pytest.raises(SystemExit, match=r"error: .*trace.jsonl:1: "):
        engine.main(["--trace", str(tmp_path / "trace.jsonl")])


def test_policies_stand_beside_each_other(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(policies, "side_by_side", lambda function, tasks: [function(task) for task in tasks])
    assert policies.main(["--traffic", "assistants", "--seeds", "2", "--requests", "8"]) == 0
    assert capsys.readouterr().out.count("assistants") == 3 * len(policies.POLICIES)


def test_fleets_have_a_row_for_each_question(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fleets, "side_by_side", lambda function, tasks: [function(task) for task in tasks])
    monkeypatch.setattr(fleets, "_WAVE", 2.0)
    flags = [
        "--sizes",
        "1",
        "3",
        "--requests",
        "4",
        "--middle",
        "2",
        "--seeds",
        "1",
        "--json",
        str(tmp_path / "f.json"),
    ]
    assert fleets.main(flags) == 0
    outcomes = json.loads((tmp_path / "f.json").read_bytes())["outcomes"]
    assert len(outcomes) == 2 * 4 + 4 + len(fleets.TARGETS)
    assert all(outcome["summary"]["answered"] == outcome["summary"]["requests"] for outcome in outcomes)
    assert "prefix" in capsys.readouterr().out


@pytest.mark.parametrize("name", ["past", "past_future:x", "past_future:1", "aggressive:0.1"])
def test_a_policy_that_there_is_not_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match="must be future_peak, past_future, aggressive"):
        policy_named(name)


def test_the_stored_model_can_be_read_and_others_are_refused(tmp_path: Path) -> None:
    assert read_model(MEASURED).curve[0] > 0
    for text in ("{}", '{"curve":[1],"key":1,"product":1,"output":1}'):
        (tmp_path / "cost.json").write_text(text)
        with pytest.raises(ValueError, match="is no cost model"):
            read_model(tmp_path / "cost.json")


def test_a_real_server_gets_prompts_that_share_what_the_simulated_ones_do() -> None:
    short, long = (prompt_of([Segment("a", 5), Segment(name, 9)]) for name in "bc")
    assert short[:5] == long[:5]
    assert short[5:] != long[5:]
    assert prompt_of([Segment("a", 8)])[:5] == short[:5]


def test_a_real_outputs_end_is_asked_for_without_telling_the_limit() -> None:
    stops, cut = (Arrival(seconds=0.0, prompt=[Segment("a", 3)], output=7, limit=limit) for limit in (20, 5))
    parameters = json.loads(body_of(stops))["parameters"]
    assert (parameters["min_new_tokens"], parameters["max_new_tokens"]) == (7, 20)
    assert "ignore_eos" not in parameters
    assert json.loads(body_of(cut))["parameters"]["ignore_eos"] is True


def test_figures_are_drawn(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("matplotlib")
    monkeypatch.setattr(fleets, "side_by_side", lambda function, tasks: [function(task) for task in tasks])
    monkeypatch.setattr(fleets, "_WAVE", 2.0)
    engine.main(["--rate", "4", "8", "--requests", "8", "--plot", str(tmp_path / "engine.svg")])
    fleets.main(
        ["--sizes", "1", "2", "--requests", "4", "--middle", "2", "--seeds", "1", "--plot", str(tmp_path / "fleet.svg")]
    )
    assert "time to first token" in (tmp_path / "engine.svg").read_text()
    assert "prefix" in (tmp_path / "fleet.svg").read_text()
