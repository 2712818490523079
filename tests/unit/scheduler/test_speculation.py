"""How much is drafted: where a guess brings more for its time than the step without it."""

from __future__ import annotations

import random
from dataclasses import dataclass

import pytest

from runtime.request import SamplingParams
from runtime.scheduler import FixedSpeculation, Group, MeasuredSpeculation, Sequence
from runtime.scheduler.guesses import Guesses
from runtime.scheduler.step_time import StepTime

TRUTH = list(range(1, 1000))


@dataclass
class Copyist:
    """Guesses the truth, but for every ``lapse``-th token."""

    lapse: int = 10**6

    def guess(self, sequence: Sequence, length: int) -> list[int]:
        place = len(sequence.tokens)
        return [token if token % self.lapse else -1 for token in TRUTH[place : place + length]]


def sequences(count: int) -> list[Sequence]:
    return [Group((b"", n), TRUTH[:9], SamplingParams(max_new_tokens=900)).sequences[0] for n in range(count)]


def drive(
    speculation: MeasuredSpeculation, running: list[Sequence], fixed: float, a_token: float, steps: int
) -> list[int]:
    """Let steps take ``fixed + a_token`` times their tokens; returns how many tokens were drafted in each."""
    drafted = []
    for _ in range(steps):
        drafts = speculation.drafts(running, [50] * len(running), 64)
        for sequence, draft in zip(running, drafts, strict=True):
            place = len(sequence.tokens)
            right = next((n for n, token in enumerate(draft) if token != TRUTH[place + n]), len(draft))
            sequence.tokens += TRUTH[place : place + right + 1]
        drafted.append(sum(map(len, drafts)))
        tokens = len(running) + drafted[-1]
        speculation.time.observe(tokens, fixed + a_token * tokens)
    return drafted


def test_a_text_that_comes_as_foretold_is_drafted_at_full_length() -> None:
    assert drive(MeasuredSpeculation(Copyist()), sequences(1), 3.0, 0.5, 40)[-1] == 15


def test_guesses_that_are_always_wrong_are_soon_run_no_more() -> None:
    assert sum(drive(MeasuredSpeculation(Copyist(lapse=1)), sequences(1), 3.0, 0.5, 200)) < 40


def test_a_sequence_that_becomes_foreseeable_is_drafted_although_none_of_its_guesses_was_run() -> None:
    source = Copyist(lapse=1)
    speculation, (sequence,) = MeasuredSpeculation(source), sequences(1)
    assert drive(speculation, [sequence], 3.0, 0.5, 60)[-1] == 0
    source.lapse = 10**6
    assert drive(speculation, [sequence], 3.0, 0.5, 40)[-1] > 5


def test_where_the_batch_fills_the_machine_only_what_is_sure_is_drafted() -> None:
    speculation, running = MeasuredSpeculation(Copyist(lapse=2)), sequences(32)
    drafted = drive(speculation, running, 1.0, 0.5, 150)
    assert sum(drafted[50:]) < 100, "now and then a few, to see what they cost"
    (alone,) = sequences(1)
    assert drive(MeasuredSpeculation(Copyist(lapse=2)), [alone], 1.0, 0.2, 30)[-1] > 0


def test_the_likeliest_guesses_come_first_where_room_is_short() -> None:
    speculation = MeasuredSpeculation(Copyist())
    good, bad = sequences(2)
    drive(speculation, [good], 3.0, 0.1, 30)
    drafts = speculation.drafts([bad, good], [50, 50], 5)
    assert [len(draft) for draft in drafts] == [0, 5]


def test_a_fixed_draft_keeps_to_its_limits() -> None:
    drafts = FixedSpeculation(Copyist(), 4).drafts(sequences(3), [9, 2, 9], 8)
    assert [len(draft) for draft in drafts] == [4, 2, 2]


def test_a_line_is_found_through_noise() -> None:
    rng, time = random.Random(1), StepTime()
    for _ in range(200):
        tokens = rng.choice([1, 1, 4, 9, 16])
        time.observe(tokens, (3.0 + 0.5 * tokens) * rng.uniform(0.95, 1.05))
    assert time.fixed == pytest.approx(3.0, rel=0.15)
    assert time.a_token == pytest.approx(0.5, rel=0.15)


def test_a_disturbed_step_is_not_believed() -> None:
    time = StepTime()
    for _ in range(50):
        time.observe(1, 1.0)
    time.observe(4, 1000.0)
    assert time.of(1) < 1.2


@pytest.mark.parametrize("change", [3.0, 1 / 3])
def test_a_machine_that_slows_down_or_speeds_up_is_noticed(change: float) -> None:
    time = StepTime()
    for seconds in (1.0, change):
        for _ in range(200):
            time.observe(1, seconds)
    assert time.of(1) == pytest.approx(change, rel=0.1)


@pytest.mark.parametrize("pause", [0.1, 60.0, 100_000.0])
def test_a_first_step_that_was_disturbed_is_soon_forgotten(pause: float) -> None:
    speculation, running = MeasuredSpeculation(Copyist(lapse=1)), sequences(8)
    speculation.time.observe(8, pause)
    drafted = drive(speculation, running, 0.003, 0.0005, 200)
    assert sum(drafted[60:]) < 100
    assert speculation.time.of(8) == pytest.approx(0.007, rel=0.1)


def test_steps_that_are_all_alike_do_not_hide_what_a_draft_costs() -> None:
    speculation, running = MeasuredSpeculation(Copyist()), sequences(8)
    for sequence in running:
        sequence.guesses = Guesses(0.99)
    for _ in range(300):
        speculation.time.observe(72, 3.0 + 0.1 * 72)
    drafted = drive(speculation, running, 3.0, 0.1, 50)
    assert drafted.count(0) == 1
    assert drafted[-1] == 64
    assert speculation.time.a_token == pytest.approx(0.1, rel=0.1)


def test_nothing_is_free_whatever_noise_says() -> None:
    time = StepTime()
    for _ in range(50):
        time.observe(1, 1.1)
        time.observe(16, 1.0)
    assert time.a_token > 0


@pytest.mark.parametrize("tokens", [1, 32])
def test_what_a_token_costs_is_thought_little_until_it_is_measured(tokens: int) -> None:
    time = StepTime()
    for _ in range(100):
        time.observe(tokens, 8.0)
    assert time.of(tokens) == pytest.approx(8.0)
    assert 0 < time.a_token <= 0.1 * 8.0 / tokens + 1e-9
