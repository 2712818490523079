"""Which packages an installation consists of."""

from __future__ import annotations

from importlib import metadata

import pytest

from benchmarks.installed import needed

REQUIRES = {
    "app": ["Some_Lib[fast]>=1", "tool ; extra == 'dev'", "engine>=2 ; extra == 'cpu'"],
    "Some_Lib": ["speed>=1; extra == 'fast'", "slow; extra == 'other'", "app"],
    "engine": None,
    "speed": ["absent; python_version < '3'"],
}


def requires(package: str) -> list[str] | None:
    return REQUIRES[package]


def distribution(package: str) -> str:
    if package not in REQUIRES:
        raise metadata.PackageNotFoundError(package)
    return package


@pytest.mark.parametrize(
    ("extras", "found"),
    [
        ((), {"app", "some-lib", "speed", "absent"}),
        (("cpu",), {"app", "some-lib", "speed", "absent", "engine"}),
        (("dev",), {"app", "some-lib", "speed", "absent", "tool"}),
    ],
)
def test_dependencies_are_followed_through_their_extras(
    monkeypatch: pytest.MonkeyPatch, extras: tuple[str, ...], found: set[str]
) -> None:
    monkeypatch.setattr(metadata, "requires", requires)
    monkeypatch.setattr(metadata, "distribution", distribution)
    assert needed("app", extras) == found
