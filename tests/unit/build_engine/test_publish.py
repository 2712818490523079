import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from build_engine.errors import BuildError
from build_engine.progress import Progress
from build_engine.publish import link, publishing, remove_leftovers, staged

HOLD = """
import sys
from pathlib import Path
from build_engine.progress import Progress
from build_engine.publish import publishing, staged
target = Path(sys.argv[1])
with publishing(target, Progress()), staged(target) as staging:
    (staging / "weights").write_text("half")
    print("ready", flush=True)
    sys.stdin.read()
"""


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path / "cache"))


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "bundles" / "some-bundle"


def publish(target: Path, text: str) -> None:
    with publishing(target, Progress()), staged(target) as staging:
        (staging / "manifest.json").write_text(text)


def builder(target: Path) -> subprocess.Popen[str]:
    """A process in the middle of building ``target``."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(target)],
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[3])},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def kill(process: subprocess.Popen[str]) -> None:
    process.send_signal(signal.SIGKILL)
    process.communicate()


def test_nothing_is_visible_before_the_end(target: Path) -> None:
    with publishing(target, Progress()), staged(target) as staging:
        (staging / "manifest.json").write_text("1")
        assert not target.exists()
        assert staging.stat().st_dev == target.parent.stat().st_dev
    assert (target / "manifest.json").read_text() == "1"
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit])
def test_a_failure_leaves_nothing_behind(target: Path, error: type[BaseException]) -> None:
    def fail() -> None:
        with publishing(target, Progress()), staged(target) as staging:
            (staging / "weights").write_text("half")
            raise error

    with pytest.raises(error):
        fail()
    assert list(target.parent.iterdir()) == []


def test_a_failure_keeps_the_bundle_that_was_there(target: Path) -> None:
    publish(target, "old")
    with pytest.raises(ValueError, match="x"), publishing(target, Progress()), staged(target):
        raise ValueError("x")
    assert (target / "manifest.json").read_text() == "old"


def test_an_old_bundle_is_replaced(target: Path) -> None:
    publish(target, "old")
    publish(target, "new")
    assert (target / "manifest.json").read_text() == "new"
    assert list(target.parent.iterdir()) == [target]


def test_what_is_no_bundle_is_left_alone(target: Path, tmp_path: Path) -> None:
    target.mkdir(parents=True)
    (target / "thesis.txt").write_text("ten years of work")
    with pytest.raises(BuildError, match=r"not an engine bundle: it holds 'thesis.txt'; it is left alone"):
        publish(target, "x")
    assert (target / "thesis.txt").exists()
    (target / "manifest.json").write_text('{"manifest_version": 3}')  # of a browser extension
    with pytest.raises(BuildError, match="it is left alone"):
        publish(target, "x")
    assert (target / "thesis.txt").exists()
    alias = tmp_path / "alias"
    alias.symlink_to(target)
    with pytest.raises(BuildError, match="symbolic link"):
        publish(alias, "x")


def test_a_killed_build_publishes_nothing_and_is_cleaned_up_by_the_next(target: Path) -> None:
    kill(builder(target))
    (leftover,) = target.parent.iterdir()
    assert leftover.name.startswith(".peregrine-staging-some-bundle-")
    remove_leftovers(target.parent)
    assert list(target.parent.iterdir()) == []


def test_folders_that_only_look_like_leftovers_are_kept(tmp_path: Path) -> None:
    for name in (".staging-area", ".peregrine-staging-area", ".peregrine-staging-x-1234"):
        (tmp_path / name).mkdir()
    remove_leftovers(tmp_path)
    assert len([path for path in tmp_path.iterdir() if "staging" in path.name]) == 3


def test_a_damaged_bundle_in_the_cache_is_replaced_even_without_its_manifest(tmp_path: Path) -> None:
    target = tmp_path / "cache" / "bundles" / "some-bundle"
    target.mkdir(parents=True)
    (target / "other").write_text("x")
    publish(target, "new")
    assert [path.name for path in target.iterdir()] == ["manifest.json"]


def test_the_old_bundle_comes_back_when_the_new_one_cannot_be_put_in_its_place(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(target, "old")
    rename = Path.rename

    def fail_into_place(self: Path, other: Path) -> Path:
        if other == target and (self / "manifest.json").read_text() == "new":
            raise OSError(5, "Input/output error")
        return rename(self, other)

    monkeypatch.setattr(Path, "rename", fail_into_place)
    with pytest.raises(OSError, match="Input/output"):
        publish(target, "new")
    assert (target / "manifest.json").read_text() == "old"
    assert list(target.parent.iterdir()) == [target]


def test_the_staging_of_a_living_build_is_kept(target: Path) -> None:
    process = builder(target)
    remove_leftovers(target.parent)
    assert len(list(target.parent.iterdir())) == 1
    process.communicate("")
    assert (target / "weights").read_text() == "half"


def test_a_second_build_waits_for_the_first(target: Path) -> None:
    process = builder(target)
    notes: list[str] = []
    waiting, entered = threading.Event(), threading.Event()

    class Waiting(Progress):
        def note(self, message: str) -> None:
            notes.append(message)
            waiting.set()

    def second() -> None:
        with publishing(target, Waiting()):
            assert target.exists()
            entered.set()

    thread = threading.Thread(target=second)
    thread.start()
    assert waiting.wait(20)
    assert not entered.is_set()
    process.communicate("")
    assert entered.wait(20)
    thread.join()
    assert "some-bundle" in notes[0]


def test_links_are_replaced_but_nothing_else_is(target: Path, tmp_path: Path) -> None:
    alias = tmp_path / "models" / "some" / "cpu"
    target.mkdir(parents=True)
    assert link(target, alias)
    assert alias.resolve() == target
    assert link(tmp_path, alias)
    assert alias.readlink() == tmp_path
    alias.unlink()
    alias.mkdir()
    assert not link(target, alias)
    assert [path.name for path in alias.parent.iterdir()] == ["cpu"]
    (alias / "file").write_text("")
    assert not link(target, alias / "file" / "cpu")


def test_a_folder_that_cannot_be_made_is_one_message(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BuildError, match="cannot be written"):
        publish(tmp_path / "file" / "bundle", "x")
