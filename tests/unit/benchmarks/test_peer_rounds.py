"""Rounds of peers: order, prompts, checks and figures."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

import pytest

from benchmarks.peers import __main__ as command
from benchmarks.peers.contender import Contender
from benchmarks.peers.engine import Completion, checked
from benchmarks.peers.errors import PeerError
from benchmarks.peers.measure import measure_round
from benchmarks.peers.report import Record
from benchmarks.peers.rounds import WARM_UP_TOKENS, figures, prompts_of, rotated
from benchmarks.workloads import Workload

PAIR = Workload("pair", 2, 3, 20)


class Scripted:
    """An engine that answers at once, wrongly on request."""

    root = 1

    def __init__(self, missing: int = 0) -> None:
        self.missing = missing
        self.calls: list[tuple[list[list[int]], int]] = []

    def generate(self, prompts: list[list[int]], new_tokens: int) -> list[Completion]:
        self.calls.append((prompts, new_tokens))
        return [Completion(1.0, 2.0, 3.0, new_tokens - self.missing * (new_tokens > WARM_UP_TOKENS)) for _ in prompts]


def contender(engine: Scripted, name: str = "scripted") -> Contender:
    return Contender(name, "1", "in process", (), lambda: None, lambda: nullcontext(engine))


def test_every_engine_comes_first_in_turn() -> None:
    orders = [rotated("abc", index) for index in range(4)]
    assert orders == [["a", "b", "c"], ["b", "c", "a"], ["c", "a", "b"], ["a", "b", "c"]]
    assert rotated([], 3) == []


def test_prompts_are_the_same_for_all_engines_of_a_round_and_new_in_the_next() -> None:
    assert prompts_of(PAIR, 0) == prompts_of(PAIR, 0)
    assert prompts_of(PAIR, 0) != prompts_of(PAIR, 1)
    assert [len(prompt) for prompt in prompts_of(PAIR, 0)] == [3, 3]


def test_a_round_warms_up_with_other_prompts_and_fewer_tokens() -> None:
    engine = Scripted()
    measured = measure_round(contender(engine), [PAIR], 0)
    (_, one), (warm, few), (prompts, all_tokens) = engine.calls
    assert (one, few, all_tokens) == (1, WARM_UP_TOKENS, 20)
    assert prompts == prompts_of(PAIR, 0)
    assert warm != prompts
    assert [len(prompt) for prompt in warm] == [3, 3]
    assert measured["pair"]["output_tokens_per_s"] == 20.0
    assert set(measured["start"]) == {"first_token_s", "peak_process_mb", "peak_all_mb"}


def test_figures_are_over_the_wall_time_of_all_requests() -> None:
    done = [Completion(10.0, 11.0, 14.0, 20), Completion(10.5, 12.0, 15.0, 20)]
    assert figures(PAIR, done) == {
        "output_tokens_per_s": 40 / 5.0,
        "prompt_tokens_per_s": 6 / 2.0,
        "first_token_ms": 1250.0,
    }


@pytest.mark.parametrize(
    ("completions", "message"),
    [
        ([Completion(0, 1, 2, 20)], "1 answers to 2 requests"),
        ([Completion(0, 1, 2, 20), Completion(0, 1, 2, 19)], "19 tokens instead of 20"),
        ([Completion(0, 1, 2, 20), Completion(0, 0.0, -1, 20)], "out of order"),
    ],
)
def test_anything_but_what_was_asked_for_is_refused(completions: list[Completion], message: str) -> None:
    with pytest.raises(PeerError, match=message):
        checked(completions, 2, 20)


def test_a_peer_that_gives_too_few_tokens_is_left_out_with_the_reason_and_the_others_go_on() -> None:
    good, bad = Scripted(), Scripted(missing=1)
    chosen = [contender(good, "good"), contender(bad, "bad")]
    records = {engine.name: Record(engine.name, "1", "in process", ()) for engine in chosen}
    command.run(chosen, records, [PAIR], 3)
    assert len(records["good"].rounds) == 3
    assert records["bad"].rounds == []
    assert records["bad"].failure == "a request got 19 tokens instead of 20"
    assert len(bad.calls) == 3


def test_a_peer_that_cannot_be_installed_is_never_started() -> None:
    def prepare() -> None:
        raise PeerError("pip ended with 1: no such package")

    engine = Scripted()
    broken = Contender("broken", "1", "HTTP", (), prepare, lambda: nullcontext(engine))
    records = {"broken": Record("broken", "1", "HTTP", ())}
    command.prepare([broken], records)
    command.run([broken], records, [PAIR], 2)
    assert records["broken"].failure == "pip ended with 1: no such package"
    assert engine.calls == []


def test_workers_need_nothing_of_this_project() -> None:
    for script in (Path(command.__file__).parent / "workers").glob("*.py"):
        text = script.read_text(encoding="utf-8")
        assert not any(f"import {name}" in text for name in ("benchmarks", "runtime", "server", "build_engine"))
        assert "from benchmarks" not in text
