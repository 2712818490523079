from __future__ import annotations

from pathlib import Path

import pytest

from runtime.bundle import BundleError
from runtime.bundle.target import Target
from server import serve
from server.serve_flags import serve_parser


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """What the build was asked for; what is looked for is not found."""
    commands: list[list[str]] = []

    def build(*wishes: object) -> Path:
        commands.append([str(wish) for wish in wishes])
        return Path("bundle")

    monkeypatch.setattr(serve, "_build", build)
    monkeypatch.setattr(serve, "choose_target", lambda asked: Target("cpu" if asked == "auto" else asked, "no GPU"))
    return commands


def resolve(*flags: str) -> Path:
    return serve.resolve_bundle(serve_parser("serve").parse_args(list(flags)))


def test_the_machine_decides_and_the_reason_is_told(built: list[list[str]], capsys: pytest.CaptureFixture[str]) -> None:
    assert resolve("smollm2-135m-instruct") == Path("bundle")
    assert built == [["smollm2-135m-instruct", "cpu", "None"]]
    assert capsys.readouterr().out == "peregrine: target cpu: no GPU\n"


def test_who_names_target_and_cache_gets_them_without_a_word(
    built: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    resolve("smollm2-135m-instruct", "--target", "tensorrt-rtx", "--kv", "linear")
    assert built == [["smollm2-135m-instruct", "tensorrt-rtx", "linear"]]
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(("flags", "alias"), [((), "cpu"), (("--kv", "linear"), "cpu-linear")])
def test_a_built_model_is_looked_for_by_target_and_cache(
    built: list[list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...], alias: str
) -> None:
    monkeypatch.setenv("PEREGRINE_CACHE", str(tmp_path))
    with pytest.raises(BundleError, match=rf"\(target {alias}\)"):
        resolve("unheard-of", *flags)
    assert built == []
