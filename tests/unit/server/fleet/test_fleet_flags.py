"""What the flags make of a fleet, and that the shipped files agree with them."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime.config import EngineConfig
from server.config import HttpConfig, WorkerConfig
from server.fleet.flags import fleet_settings
from server.fleet.settings import QUICK_PATHS, FleetSettings, decode_settings
from server.serve_flags import serve_parser
from server.supervisor_config import SupervisorConfig


def settings(*flags: str, threads: int | None = None) -> FleetSettings:
    config = SupervisorConfig(
        host="127.0.0.1",
        port=0,
        engine=EngineConfig(bundle="b", socket="", threads=threads),
        worker=WorkerConfig(bundle="b", engine_socket=""),
        http=HttpConfig(listener=-1, ready=-1, workers=1),
    )
    return fleet_settings(serve_parser("serve").parse_args(["--ray", "local", *flags]), config)


def test_a_fleet_is_one_engine_unless_more_are_asked_for() -> None:
    found = settings("--target", "cpu")
    assert (found.min_replicas, found.max_replicas, found.cpus, found.gpus) == (1, 1, 1.0, 0.0)


def test_engines_get_what_they_compute_on() -> None:
    assert settings("--target", "cpu", threads=4).cpus == 4.0
    assert settings("--target", "cuda").gpus == 1.0
    assert settings("--target", "cuda", "--replica_gpus", "0.5").gpus == 0.5


def test_a_range_scales() -> None:
    found = settings("--target", "cpu", "--replicas", "2:8")
    assert (found.min_replicas, found.max_replicas) == (2, 8)


@pytest.mark.parametrize("text", ["0", "3:2", "x", "1:", ":2"])
def test_a_range_that_is_none_is_refused(text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        settings("--replicas", text)
    assert "--replicas" in capsys.readouterr().err


def test_processes_get_the_settings_as_they_are() -> None:
    found = settings("--target", "cpu", "--replicas", "2:8", "--routing", "random")
    assert decode_settings(found.encode()) == found


def test_the_environment_file_says_what_the_code_says() -> None:
    lines = (Path(__file__).parents[4] / "deploy/ray/environment").read_text().splitlines()
    assert dict(line.split("=", 1) for line in lines if not line.startswith("#")) == QUICK_PATHS
