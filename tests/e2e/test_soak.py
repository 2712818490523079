"""The soaks of benchmarks/soak in forms of seconds: on models of random weights or none, with real servers."""

from __future__ import annotations

from pathlib import Path

import msgspec

from benchmarks.soak import chaos, overload, requests


def test_overlapping_requests_are_answered_as_they_are_alone(tmp_path: Path) -> None:
    shape = ["--model", "tiny", "--requests", "200", "--distinct", "40"]
    assert requests.main([*shape, "--dump", str(tmp_path / "faults.json")]) == 0


def test_faults_under_load_leave_nothing_unanswered_and_nothing_behind(tmp_path: Path) -> None:
    report = tmp_path / "chaos.json"
    shape = ["--model", "tiny", "--minutes", "0.3", "--rate", "40", "--distinct", "30"]
    assert chaos.main([*shape, "--seed", "368", "--json", str(report)]) == 0
    found = msgspec.json.decode(report.read_bytes())
    assert set(found["faults"]) == {"kill engine", "stop engine", "kill worker", "stop worker"}
    assert found["outcomes"]["answered"] > found["sent"] / 4


def test_what_is_more_than_a_server_can_do_is_shed_and_not_waited_for(tmp_path: Path) -> None:
    report = tmp_path / "overload.json"
    shape = ["--model", "scripted", "--capacity", "20", "--multiples", "4", "--seconds", "2", "--patience", "2"]
    assert overload.main([*shape, "--json", str(report), "--flags", "--running_max_req_size", "8"]) == 0
    unbounded, limited = msgspec.json.decode(report.read_bytes())["points"]
    assert limited["shed"] > unbounded["shed"] == 0
    assert limited["gave_up"] < unbounded["gave_up"]
