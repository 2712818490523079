"""The control socket's file, who may use it, and how it is found."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from server.control import control_socket, may_command
from server.control_command import ask, find_socket
from server.control_protocol import ControlAnswer, ControlRequest
from server.errors import StartError


async def handle(request: ControlRequest) -> ControlAnswer:
    return ControlAnswer(message=f"{request.command} {request.spec}")


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def told(path: Path, request: ControlRequest) -> ControlAnswer:
    async def run() -> ControlAnswer:
        async with control_socket(path, handle):
            assert mode_of(path) == 0o600
            return await asyncio.to_thread(ask, path, request)

    return asyncio.run(run())


def test_a_command_is_answered_and_the_socket_removed(tmp_path: Path) -> None:
    path = tmp_path / "control"
    assert told(path, ControlRequest("swap", "x")).message == "swap x"
    assert not path.exists()


def test_what_a_killed_server_left_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(path))
    assert told(path, ControlRequest("status")).message == "status None"


def test_another_servers_socket_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "control"
    with socket.socket(socket.AF_UNIX) as other:
        other.bind(str(path))
        other.listen()
        with pytest.raises(StartError, match="another server"):
            told(path, ControlRequest("status"))
    assert path.exists()


def test_a_file_is_not_taken_for_a_socket(tmp_path: Path) -> None:
    (tmp_path / "control").write_text("precious")
    with pytest.raises(StartError, match="no socket"):
        told(tmp_path / "control", ControlRequest("status"))
    assert (tmp_path / "control").read_text() == "precious"


def test_a_directory_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="nowhere"):
        told(tmp_path / "nowhere" / "control", ControlRequest("status"))


def test_only_root_and_the_servers_user_may_command() -> None:
    assert may_command(0)
    assert may_command(os.geteuid())
    assert not may_command(os.geteuid() + 1)


def test_others_are_told_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("server.control.may_command", lambda uid: False)
    assert "only the server's own user" in told(tmp_path / "control", ControlRequest("stop")).error
    assert f"refused uid {os.geteuid()} (pid {os.getpid()})" in capsys.readouterr().err


def test_the_one_running_server_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("server.control_command.PREFIX", "peregrine-test-")
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    with pytest.raises(StartError, match="no running server"):
        find_socket()
    folders = [tmp_path / f"peregrine-test-{name}" for name in ("live", "dead", "second")]
    for folder in folders:
        folder.mkdir()
    (folders[1] / "control.sock").touch()
    with socket.socket(socket.AF_UNIX) as first, socket.socket(socket.AF_UNIX) as second:
        for listener, folder in ((first, folders[0]), (second, folders[2])):
            listener.bind(str(folder / "control.sock"))
        first.listen()
        assert find_socket() == folders[0] / "control.sock"
        second.listen()
        with pytest.raises(StartError, match="several servers"):
            find_socket()


def test_without_a_server_the_path_is_named(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="nothing: No such file"):
        ask(tmp_path / "nothing", ControlRequest("status"))
