"""Who gives way when blocks run out, and who comes next."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness import Harness

from runtime.scheduler import AdmissionPolicy, Aggressive, Group, Sequence
from runtime.scheduler.admission import Load

PROMPT = [11, 12, 13, 14, 15, 16]


@dataclass
class Listening:
    """The aggressive policy, with a note of whom it was asked about."""

    asked: list[int] = field(default_factory=list)

    def peak(self, samples: list[Sequence], load: Load) -> int:
        return Aggressive().peak(samples, load)

    def admits(self, running: list[Sequence], candidate: Group, load: Load) -> bool:
        self.asked.append(candidate.key[1])
        return Aggressive().admits(running, candidate, load)


def crowd(policy: AdmissionPolicy | None = None) -> Harness:
    """Three requests that hold all six blocks, and each wants one more in the next step."""
    harness = Harness(num_blocks=6, max_rows=4, max_step_tokens=32, policy=policy or Aggressive(), prefix_cache=False)
    for number in (1, 2, 3):
        harness.add(number, PROMPT[number:] + PROMPT[:number], max_new_tokens=6, ignore_eos=True)
    for _ in range(3):
        harness.step()
    assert [len(sequence.blocks) for sequence in harness.scheduler.running] == [2, 2, 2]
    assert {sequence.computed for sequence in harness.scheduler.running} == {8}
    return harness


def numbers(harness: Harness) -> tuple[list[int], list[int]]:
    """Requests that run, and those that wait."""
    scheduler = harness.scheduler
    return [item.group.key[1] for item in scheduler.running], [group.key[1] for group in scheduler.waiting]


def test_the_youngest_gives_way() -> None:
    harness = crowd()
    harness.step()
    assert numbers(harness) == ([1, 2], [3])


def test_who_gave_way_waits_ahead_of_everybody_who_never_ran() -> None:
    harness = crowd()
    harness.add(4, PROMPT, max_new_tokens=6, ignore_eos=True)
    harness.step()
    assert numbers(harness) == ([1, 2], [3, 4])
    harness.run()
    harness.assert_exact()
    assert [key[0] for key in harness.finishes] == [1, 2, 3, 4]


def test_a_step_that_preempted_somebody_admits_nobody() -> None:
    policy = Listening()
    harness = crowd(policy)
    harness.add(4, [9], max_new_tokens=1)
    policy.asked.clear()
    harness.step()
    assert harness.scheduler.counters.preemptions == 1
    assert policy.asked == []
    harness.step()
    assert policy.asked == [3]


def test_the_samples_of_a_request_give_way_together() -> None:
    harness = Harness(num_blocks=6, max_rows=4, max_step_tokens=32, prefix_cache=False)
    harness.add(1, PROMPT, max_new_tokens=12, ignore_eos=True)
    harness.add(2, PROMPT, samples=2, max_new_tokens=6, ignore_eos=True)
    harness.run(until=lambda: harness.scheduler.counters.preemptions > 0)
    assert numbers(harness) == ([1], [2])
    harness.run()
    harness.assert_exact()
    assert harness.scheduler.counters.preemptions == 1


def test_a_resumed_request_is_not_counted_as_a_new_one() -> None:
    harness = crowd()
    harness.run()
    assert harness.scheduler.counters.preemptions > 0
    assert harness.scheduler.counters.prompt_tokens == 3 * len(PROMPT)
