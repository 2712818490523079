"""What deploy/ asks of the command line, and promises of it."""

from __future__ import annotations

import configparser
import json
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest

from server.control_protocol import Command
from server.serve_flags import serve_parser

DEPLOY = Path(__file__).parents[3] / "deploy"
UNIT = DEPLOY / "systemd" / "peregrine.service"
CONTAINERFILE = DEPLOY / "container" / "Containerfile"


def service() -> dict[str, str]:
    parser = configparser.RawConfigParser(strict=False)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read(UNIT)
    return dict(parser["Service"])


def test_the_unit_starts_what_the_command_line_takes_and_waits_for_its_drain() -> None:
    program, command, *flags = shlex.split(service()["ExecStart"])
    assert (program, command) == ("/opt/peregrine/bin/peregrine", "serve")
    arguments = serve_parser("peregrine serve").parse_args(flags)
    assert int(service()["TimeoutStopSec"]) >= arguments.drain_delay + arguments.drain_seconds + 15
    reload = shlex.split(service()["ExecReload"])
    assert reload[-1] in Command.__args__
    assert reload[reload.index("--control_socket") + 1] == arguments.control_socket
    assert arguments.control_socket.startswith("/run/" + service()["RuntimeDirectory"])


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not installed")
def test_systemd_understands_the_unit_and_finds_it_hardened() -> None:
    verified = subprocess.run(["systemd-analyze", "verify", UNIT], capture_output=True, text=True)
    complaints = [line for line in verified.stderr.splitlines() if UNIT.name in line]
    assert [line for line in complaints if "is not executable: No such file" not in line] == []
    audit = ["systemd-analyze", "security", "--offline=true", "--threshold=20", UNIT]
    assert subprocess.run(audit, capture_output=True).returncode == 0


def test_the_image_starts_what_the_command_line_takes_as_nobody_special() -> None:
    lines = CONTAINERFILE.read_text()
    server = lines.partition(" AS server\n")[2].partition("\nFROM")[0]
    (command,) = re.findall(r"^CMD (\[.*\])$", server, re.MULTILINE)
    serve, *flags = json.loads(command)
    assert serve == "serve"
    assert serve_parser("peregrine serve").parse_args(flags).host == "0.0.0.0"
    assert re.search(r"^USER [1-9]\d+:[1-9]\d+$", server, re.MULTILINE)
    assert "STOPSIGNAL SIGTERM" in server
    assert "g++" not in server
