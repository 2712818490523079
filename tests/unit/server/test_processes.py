"""What the supervisor is made of: restarts, the listening socket, the private directory."""

from __future__ import annotations

import asyncio
import resource
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.config import EngineConfig
from server.config import RUN_DIRECTORY_VARIABLE, HttpConfig, WorkerConfig, read_config, write_config
from server.engine_process import EngineProcess
from server.errors import StartError
from server.listener import allow_many_connections, listen, reserve, url
from server.restarts import RestartPolicy
from server.run_directory import run_directory


def test_an_engine_that_served_is_replaced_ever_later_and_for_ever() -> None:
    policy = RestartPolicy(delays=(0.0, 1.0, 2.0))
    assert [policy.died(float(now)) for now in range(5)] == [0.0, 1.0, 2.0, 2.0, 2.0]


def test_an_engine_that_does_not_start_is_given_up() -> None:
    policy = RestartPolicy(delays=(0.0, 1.0, 2.0))
    assert policy.died(0.0) == 0.0
    assert [policy.refused(0.0), policy.refused(1.0), policy.refused(3.0)] == [1.0, 2.0, None]
    assert policy.died(4.0) == 2.0
    assert policy.refused(4.0) is not None


def test_a_long_good_run_starts_the_delays_over() -> None:
    policy = RestartPolicy(delays=(0.0, 1.0), stable_seconds=60)
    assert [policy.died(now) for now in (0.0, 1.0, 100.0)] == [0.0, 1.0, 0.0]


def test_a_reserved_port_refuses_clients_until_it_listens() -> None:
    with reserve("127.0.0.1", 0, 5) as listener:
        address = listener.getsockname()
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(address)
        listen(listener)
        socket.create_connection(address).close()
        assert url(listener) == f"http://127.0.0.1:{address[1]}"


def test_an_address_in_use_is_named() -> None:
    with reserve("127.0.0.1", 0, 5) as first:
        listen(first)
        port = first.getsockname()[1]
        with pytest.raises(StartError, match=f"--host 127.0.0.1 --port {port}"):
            reserve("127.0.0.1", port, 5)


def test_two_servers_that_start_at_once_cannot_share_a_port() -> None:
    with reserve("127.0.0.1", 0, 5) as first, reserve("127.0.0.1", first.getsockname()[1], 5) as second:
        listen(first)
        with pytest.raises(StartError, match="in use"):
            listen(second)


def test_an_unknown_host_is_named() -> None:
    with pytest.raises(StartError, match="--host no such host"):
        reserve("no such host", 0, 5)


def test_the_private_directory_is_private_and_goes_away() -> None:
    with run_directory() as path:
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
        (path / "file").touch()
    assert not path.exists()


@pytest.fixture
def short_path() -> Iterator[Path]:
    """A directory with room for the path of a socket."""
    with tempfile.TemporaryDirectory(dir="/tmp") as path:
        yield Path(path)


def test_what_a_killed_server_left_is_swept_and_what_a_living_one_holds_is_not(
    short_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(short_path))
    left = short_path / "peregrine-left"
    left.mkdir(mode=0o700)
    (left / "lock").touch()
    (left / "worker.json").touch()
    foreign = short_path / "peregrine-notes"
    foreign.mkdir()
    with run_directory() as first, run_directory() as second:
        assert sorted(short_path.iterdir()) == sorted([foreign, first, second])
    assert [*short_path.iterdir()] == [foreign]


def test_a_long_temporary_path_does_not_break_sockets(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    deep = tmp_path / ("x" * 100)
    deep.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(deep))
    with run_directory() as path:
        assert len(str(path / "engine.sock")) <= 100


def test_the_limit_of_open_files_is_raised() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(256, soft), hard))
    try:
        allow_many_connections()
        assert resource.getrlimit(resource.RLIMIT_NOFILE) == (hard, hard)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def test_configurations_are_read_as_they_were_written(tmp_path: Path) -> None:
    worker = WorkerConfig(bundle="b", engine_socket="s", truncation="head", stall_seconds=3.5)
    http = HttpConfig(listener=3, ready=4, workers=2)
    write_config(tmp_path, worker)
    write_config(tmp_path, http)
    environ = {RUN_DIRECTORY_VARIABLE: str(tmp_path)}
    assert read_config(WorkerConfig, environ) == worker
    assert read_config(HttpConfig, environ) == http


CONFIG = EngineConfig(bundle="b", socket="s")


@pytest.mark.parametrize(
    ("program", "message"),
    [
        ('echo \'{"ready": false, "error": "no such bundle"}\'', "no such bundle"),
        ("exit 3", "status 3"),
        ("echo nonsense", "cannot be read"),
        ('echo \'{"ready": false, "error": "refused"}\'; exec sleep 60', "refused"),
    ],
)
def test_an_engine_that_does_not_start_says_why(program: str, message: str) -> None:
    with pytest.raises(StartError, match=message):
        asyncio.run(EngineProcess.start(CONFIG, ("/bin/sh", "-c", program)))


def test_a_ready_engine_is_waited_for_and_stopped() -> None:
    async def test() -> None:
        program = 'read config; echo "{\\"ready\\": true, \\"summary\\": [\\"hi\\"]}"; exec cat'
        engine = await EngineProcess.start(CONFIG, ("/bin/sh", "-c", program))
        assert (engine.summary, engine.task) == (["hi"], "text generation")
        await engine.stop(10)
        assert await engine.wait() == -15

    asyncio.run(test())


def test_an_engine_that_does_not_stop_is_killed() -> None:
    async def test() -> None:
        program = "trap '' TERM; echo '{\"ready\": true}'; while :; do read line; done"
        engine = await EngineProcess.start(CONFIG, ("/bin/sh", "-c", program))
        await engine.stop(0.1)
        assert await engine.wait() == -9

    asyncio.run(test())
