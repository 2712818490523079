"""Keys: how operators write them, who may read them, how they are found."""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path

import pytest

from runtime.tenants import TenantLimits
from server.access.failed_logins import LINES, SECONDS, FailedLogins
from server.access.key_ring import KeyRing, publish
from server.access.key_source import KeySource, exposure, take_environment
from server.access.tenant import Tenant
from server.errors import StartError

KEY, OTHER = "correct-horse-battery", "staple-staple-staple"


def digest(key: str) -> str:
    return hashlib.sha256(key.encode()).hexdigest()


def key_file(folder: Path, text: str | bytes, mode: int = 0o600) -> KeySource:
    path = folder / "keys.toml"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    path.chmod(mode)
    return KeySource(path)


def test_a_file_names_tenants_their_keys_and_limits(tmp_path: Path) -> None:
    text = f"""
        [alice]
        key = "{KEY}"
        weight = 2
        max_running = 8
        max_queued = 0
        max_queued_tokens = 5000
        max_priority = 5
        metrics = true

        [bob]
        key = ["sha256:{digest(OTHER).upper()}", "an-old-key-of-bobs-1"]
    """
    alice, bob = key_file(tmp_path, text).read()
    limits = TenantLimits(name="alice", weight=2.0, max_running=8, max_queued=0, max_queued_tokens=5000)
    assert alice == Tenant(limits=limits, digests=(digest(KEY),), max_priority=5, metrics=True)
    assert bob == Tenant(limits=TenantLimits(name="bob"), digests=(digest(OTHER), digest("an-old-key-of-bobs-1")))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it has no keys"),
        (f"[alice]\nkey = '{KEY}'\nwieght = 2", r"\[alice\].*wieght"),
        (f"[alice]\nkey = '{KEY}'\nweight = 0", r"\[alice\].*weight"),
        ("[alice]\nkey = 'too short'", r"\[alice\]: a key has 16 to 512"),
        ("[alice]\nkey = 'sha256:12'", "64 hexadecimal digits"),
        ("[alice]\nkey = []", "it has no key"),
        ("[alice]", r"\[alice\].*key"),
        (f"['al ice']\nkey = '{KEY}'", "entry 1: a name has 1 to 64"),
        (f"{KEY} = 'alice'", "entry 1: need a table"),
        (f"[alice]\nkey = '{KEY}'\n[bob]\nkey = '{KEY}'", "the same key is there twice"),
        (f"{KEY}\n", "line 1"),
        (b"\xff", "not UTF-8"),
        ("a=" + 5000 * "[", "recursion"),
    ],
)
def test_a_mistake_in_the_file_is_named_without_the_key(tmp_path: Path, text: str | bytes, message: str) -> None:
    with pytest.raises(StartError, match=message) as caught:
        key_file(tmp_path, text).read()
    assert KEY not in str(caught.value)
    assert "keys.toml" in str(caught.value) or "twice" in message


def test_a_file_that_others_can_read_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"others can read or change it \(mode 640\); need: chmod 600"):
        key_file(tmp_path, f"[alice]\nkey = '{KEY}'", mode=0o640).read()


@pytest.mark.parametrize(
    ("mode", "owner", "allowed"),
    [
        (0o600, 7, True),
        (0o400, 7, True),
        (0o604, 7, False),
        (0o640, 7, False),
        (0o440, 0, True),
        (0o460, 0, False),
        (0o444, 0, False),
        (0o600, 8, False),
    ],
)
def test_a_mounted_secret_of_roots_may_be_its_groups(mode: int, owner: int, allowed: bool) -> None:
    assert (exposure(stat.S_IFREG | mode, owner, 7) == "") is allowed


def test_what_is_no_file_is_no_key_file(tmp_path: Path) -> None:
    with pytest.raises(StartError, match=r"keys\.toml: No such file"):
        KeySource(tmp_path / "keys.toml").read()
    with pytest.raises(StartError, match="Is a directory"):
        KeySource(tmp_path).read()
    assert exposure(stat.S_IFIFO | 0o600, 7, 7) == "it is no regular file"


def test_keys_from_the_environment_do_not_stay_there() -> None:
    environ = {"PEREGRINE_API_KEYS": f"{KEY}, bob:{OTHER},sha256:{digest('third')},bob:bobs-other-key-00", "HOME": "/"}
    unnamed, bob = take_environment(environ)
    assert environ == {"HOME": "/"}
    assert (unnamed.name, unnamed.digests, unnamed.metrics) == ("default", (digest(KEY), digest("third")), True)
    assert (bob.name, bob.digests) == ("bob", (digest(OTHER), digest("bobs-other-key-00")))
    assert take_environment(environ) == ()


@pytest.mark.parametrize("text", ["secret", "bob:secret", f"b b:{KEY}", "sha256:beef", ":"])
def test_a_mistake_in_the_environment_is_named_without_the_key(text: str) -> None:
    with pytest.raises(StartError, match="PEREGRINE_API_KEYS, entry 2: a") as caught:
        take_environment({"PEREGRINE_API_KEYS": f"{OTHER},{text}"})
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("text", ["", " , "])
def test_keys_that_got_lost_open_no_door(text: str) -> None:
    with pytest.raises(StartError, match="PEREGRINE_API_KEYS is there and has no key in it"):
        take_environment({"PEREGRINE_API_KEYS": text})


def test_a_tenant_is_named_in_one_place(tmp_path: Path) -> None:
    source = key_file(tmp_path, f"[default]\nkey = '{KEY}'")
    inherited = take_environment({"PEREGRINE_API_KEYS": OTHER})
    with pytest.raises(StartError, match="the same tenant is there twice"):
        KeySource(source.path, inherited).read()
    assert not KeySource()
    assert KeySource(None, inherited)


def tenant(name: str, *keys: str) -> Tenant:
    return Tenant(limits=TenantLimits(name=name), digests=tuple(map(digest, keys)))


def test_a_key_is_found_and_nothing_like_it(tmp_path: Path) -> None:
    ring = KeyRing(publish([tenant("alice", KEY), tenant("bob", OTHER, "third")], tmp_path))
    found = [ring.find(key) for key in (KEY.encode(), OTHER.encode(), b"third")]
    assert [each.name for each in found if each] == ["alice", "bob", "bob"]
    for wrong in (b"", KEY.encode()[:-1], KEY.encode() + b"x", digest(KEY).encode(), b"\xff"):
        assert ring.find(wrong) is None


def test_a_change_of_the_keys_counts_at_once(tmp_path: Path) -> None:
    ring = KeyRing(publish([tenant("alice", KEY)], tmp_path))
    publish([tenant("bob", OTHER)], tmp_path)
    assert ring.find(KEY.encode()) is None
    assert ring.find(OTHER.encode()) == tenant("bob", OTHER)


def test_what_workers_are_given_has_no_key_and_is_the_users_alone(tmp_path: Path) -> None:
    path = publish([tenant("alice", KEY)], tmp_path)
    assert KEY.encode() not in path.read_bytes()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [*tmp_path.iterdir()] == [path]


def test_guessing_fills_no_log(caplog: pytest.LogCaptureFixture) -> None:
    now = 0.0
    failed = FailedLogins(lambda: now)
    for _ in range(LINES + 25):
        failed.note("192.0.2.1", "/generate", "the API key is not valid")
    assert len(caplog.records) == LINES
    now = SECONDS
    failed.note("192.0.2.1", "/generate", "the API key is not valid")
    assert caplog.messages[-1] == (
        'login_failed peer=192.0.2.1 path=/generate reason="the API key is not valid" unlogged_before=25'
    )
