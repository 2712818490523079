"""The replay of the regression gate, on the scripted engine: the counts can be worked out by hand."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.regression.replay import Arrival, Leave, Scenario, count, play, request
from runtime.config import EngineConfig
from runtime.engine.core import EngineCore
from runtime.engine.factory import build_engine


def scripted(folder: Path, **wishes: object) -> EngineCore:
    script = folder / "script.json"
    script.write_text(json.dumps({"vocab_size": 2000, "max_sequence_tokens": 256}))
    return build_engine(EngineConfig(bundle=str(script), socket="", executor="scripted", **wishes))[0]


def test_one_stream(tmp_path: Path) -> None:
    found = count(scripted(tmp_path), Scenario("one", (Arrival(prompt=20, output=4),)))
    assert found == {
        "steps": 4,
        "graph runs": 4,
        "rows": 4,
        "tokens computed": 23,
        "logits rows": 4,
        "KV tokens read": 20 + 21 + 22 + 23,
        "tokens generated": 4,
        "ended": 1,
    }


def test_arrivals_wait_for_their_step(tmp_path: Path) -> None:
    found = count(
        scripted(tmp_path), Scenario("late", (Arrival(prompt=8, output=2), Arrival(step=10, prompt=8, output=2)))
    )
    assert (found["steps"], found["graph runs"]) == (12, 4)


def test_a_shared_prefix_is_computed_once(tmp_path: Path) -> None:
    core = scripted(tmp_path)
    arrivals = tuple(Arrival(step=4 * i, prompt=40, output=2, shared=32) for i in range(3))
    found = count(core, Scenario("shared", arrivals))
    assert found["prefix hits"] == 2 * 32
    assert found["tokens computed"] == 3 * 41 - 2 * 32


def test_samples_share_their_prompt_and_copy_its_last_block(tmp_path: Path) -> None:
    found = count(scripted(tmp_path), Scenario("samples", (Arrival(prompt=20, output=3, samples=3),)))
    assert found["blocks copied"] == 2
    assert found["tokens generated"] == 9


def test_scarce_blocks_make_room_by_preemption(tmp_path: Path) -> None:
    core = scripted(tmp_path, max_total_tokens=96, max_request_tokens=64, admission="aggressive")
    found = count(core, Scenario("scarce", tuple(Arrival(prompt=20, output=40) for _ in range(3))))
    assert found["preemptions"] > 0
    assert (found["ended"], found["tokens generated"]) == (3, 120)


def test_who_leaves_gets_nothing_more(tmp_path: Path) -> None:
    arrivals = (Arrival(prompt=8, output=10), Arrival(prompt=8, output=10))
    found = count(scripted(tmp_path), Scenario("leave", arrivals, leaves=(Leave(4, 1),)))
    assert (found["ended"], found["tokens generated"]) == (1, 14)


def test_a_replay_can_be_repeated_on_one_engine(tmp_path: Path) -> None:
    core = scripted(tmp_path, prefix_cache=False)
    scenario = Scenario("again", tuple(Arrival(step=i, prompt=30, output=5) for i in range(4)))
    assert play(core, scenario) == play(core, scenario)
    assert not core.has_work


def test_a_request_is_always_the_same() -> None:
    first, again, other = (request(n, Arrival(prompt=30, output=1, shared=10), 500).prompt for n in (3, 3, 4))
    assert first == again
    assert first[:10] == other[:10]
    assert first[10] != other[10]


def test_a_request_that_does_not_fit_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="too long: "):
        count(scripted(tmp_path), Scenario("too long", (Arrival(prompt=500, output=1),)))
