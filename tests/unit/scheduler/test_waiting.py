"""Who is next: the order within a tenant, the turns of tenants, and what neither can be made to do."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from harness import Harness
from hypothesis import given, settings
from hypothesis import strategies as st

from runtime.request import SamplingParams
from runtime.scheduler import Group, Share, WaitingQueue
from runtime.scheduler.shares import GENERATED_COST, PLACES

PARAMS = SamplingParams()


def group(number: int, tenant: str = "", priority: int = 0, prompt: int = 10, samples: int = 1) -> Group:
    return Group((b"", number), [1] * prompt, PARAMS, samples=samples, tenant=tenant, priority=priority)


def admit(queue: WaitingQueue) -> int:
    """Admit the head, which is charged for its prompt; returns its number."""
    head = queue.head()
    assert head is not None
    queue.admit()
    queue.joined(head)
    queue.charge(head, head.prompt_length)
    return head.key[1]


def drain(queue: WaitingQueue) -> list[int]:
    return [admit(queue) for _ in range(len(queue))]


@given(seed=st.integers(0, 2**32))
@settings(max_examples=50, deadline=None)
def test_one_tenant_of_one_priority_is_a_plain_queue(seed: int) -> None:
    rng = random.Random(seed)
    queue, plain = WaitingQueue(), list[Group]()
    for number in range(60):
        match rng.randrange(4):
            case 0 | 1:
                plain.append(group(number, prompt=rng.randrange(1, 50)))
                queue.add(plain[-1])
            case 2 if plain:
                gone = plain.pop(rng.randrange(len(plain)))
                assert gone in queue
                queue.discard(gone)
                assert gone not in queue
            case 3 if plain:
                assert admit(queue) == plain.pop(0).key[1]
        assert [*queue] == plain
        assert (len(queue), queue.tokens) == (len(plain), sum(waiting.prompt_length for waiting in plain))


def test_who_gave_way_resumes_first_in_the_order_of_admission() -> None:
    queue = WaitingQueue()
    first, second = group(1), group(2, priority=8)
    queue.add(group(3, priority=8))
    for preempted in (second, first):
        queue.put_back(preempted)
    assert drain(queue) == [1, 2, 3]


def test_a_priority_brings_a_request_forward() -> None:
    queue = WaitingQueue()
    for number, priority in enumerate([0, 0, 1, -1, 2, 0]):
        queue.add(group(number, priority=priority))
    assert drain(queue) == [4, 2, 0, 1, 5, 3]


def test_nobody_is_overtaken_for_ever() -> None:
    """However many urgent requests come, so many of them go first, and no more."""
    queue = WaitingQueue()
    queue.add(group(0, priority=-1))
    for number in range(1, 1000):
        queue.add(group(number, priority=1))
    assert drain(queue).index(0) == 2 * PLACES - 1


def test_tenants_take_turns_whoever_came_first() -> None:
    queue = WaitingQueue()
    for number in range(6):
        queue.add(group(number, "greedy"))
    queue.add(group(10, "modest"))
    queue.add(group(11, "modest"))
    assert drain(queue) == [0, 10, 1, 11, 2, 3, 4, 5]


def test_a_priority_does_not_bring_one_tenant_before_another() -> None:
    queue = WaitingQueue()
    for number in range(3):
        queue.add(group(number, "urgent", priority=8))
        queue.add(group(10 + number, "calm"))
    assert drain(queue) == [0, 10, 1, 11, 2, 12]


def test_who_comes_late_has_no_claim_to_what_others_had_before() -> None:
    queue = WaitingQueue()
    for number in range(100):
        queue.add(group(number, "early"))
    for _ in range(50):
        admit(queue)
    for number in range(100, 150):
        queue.add(group(number, "late"))
    first = [admit(queue) for _ in range(20)]
    assert 9 <= sum(number >= 100 for number in first) <= 11


def test_a_pause_neither_saves_up_nor_washes_clean() -> None:
    queue = WaitingQueue()
    queue.add(group(0, "a", prompt=1000))
    queue.add(group(1, "b"))
    assert drain(queue) == [0, 1]
    queue.add(group(2, "b"))
    queue.add(group(3, "a"))
    assert drain(queue) == [2, 3], "nobody waited in between: all begin anew"
    for number in range(10, 20):
        queue.add(group(number, "b"))
    queue.add(group(4, "a", prompt=100))
    while 4 in [waiting.key[1] for waiting in queue]:
        admit(queue)
    queue.add(group(5, "a"))
    assert admit(queue) >= 10, "its queue was empty for a moment, and it has had its share"


def test_a_tenant_at_its_limit_does_not_hold_up_others() -> None:
    queue = WaitingQueue({"capped": Share(max_running=2)})
    for number in range(4):
        queue.add(group(number, "capped"))
    queue.add(group(10, "free", prompt=1000))
    queue.add(group(11, "free"))
    assert [admit(queue) for _ in range(4)] == [0, 10, 1, 11]
    assert queue.head() is None
    queue.left(group(0, "capped"))
    assert admit(queue) == 2
    assert queue.head() is None


def test_who_was_held_up_by_its_own_limit_has_not_saved_up() -> None:
    queue = WaitingQueue({"capped": Share(max_running=1)})
    for number in range(20):
        queue.add(group(number, "capped"))
    for number in range(100, 200):
        queue.add(group(number, "free"))
    for _ in range(51):
        admit(queue)
    newcomer = group(1000, "new")
    queue.add(newcomer)
    for number in range(1001, 1010):
        queue.add(group(number, "new"))
    first = [admit(queue) for _ in range(8)]
    assert 3 <= sum(number >= 1000 for number in first) <= 5, "the newcomer begins where the free tenant is"


def test_a_turn_is_kept_until_it_is_used() -> None:
    """A large request waits for room while its tenant's others run on, and stays the next."""
    queue = WaitingQueue()
    large = group(0, "a", prompt=500)
    queue.add(large)
    queue.add(group(1, "b"))
    assert queue.head() is large
    queue.charge(large, 10_000)
    assert queue.head() is large
    queue.discard(large)
    head = queue.head()
    assert head is not None
    assert head.key[1] == 1


def test_tenants_who_have_gone_are_forgotten() -> None:
    queue = WaitingQueue()
    for number in range(1000):
        one = group(number, f"tenant {number}")
        queue.add(one)
        admit(queue)
        queue.left(one)
    assert len(queue.tenants) <= 2


WEIGHTS = {"light": 1.0, "middle": 2.0, "heavy": 5.0}


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32), rows=st.integers(1, 6), priorities=st.booleans())
def test_shares_follow_the_weights_whatever_the_requests(seed: int, rows: int, priorities: bool) -> None:
    """What each tenant has had for its weight differs by less than a full engine can hold, at any time."""
    rng = random.Random(seed)
    harness = Harness(max_rows=rows, shares={name: Share(weight) for name, weight in WEIGHTS.items()})
    had: Counter[str] = Counter()
    number, longest = 0, 24
    for _ in range(250):
        for name in WEIGHTS:
            while len([g for g in harness.scheduler.waiting if g.tenant == name]) < 2:
                prompt = [rng.randrange(1, 97) for _ in range(rng.randrange(1, longest))]
                priority = rng.randrange(-8, 9) if priorities else 0
                new = rng.randrange(1, 12)
                harness.add(number, prompt, tenant=name, salt=str(number), priority=priority, max_new_tokens=new)
                number += 1
        for emission in harness.step():
            group = emission.sequence.group
            had[group.tenant] += GENERATED_COST + (group.prompt_length if emission.sequence.generated == 1 else 0)
        parts = [had[name] / weight for name, weight in WEIGHTS.items()]
        assert max(parts) - min(parts) <= 2 * (rows + 1) * (longest + 12 * GENERATED_COST)
    assert had["heavy"] > 3 * had["light"] > 0
    harness.assert_exact()


@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_a_large_request_gets_through_a_flood_of_small_ones(seed: int) -> None:
    rng = random.Random(seed)
    harness = Harness(num_blocks=16, max_rows=4, prefix_cache=False)
    harness.add(0, [5] * 30, samples=1, tenant="large", max_new_tokens=20, ignore_eos=True)
    for step in range(1, 400):
        if step % 2:
            harness.add(step, [rng.randrange(1, 97)] * rng.randrange(1, 8), tenant=f"t{step % 5}", max_new_tokens=4)
        harness.step()
        if (0, 0) in harness.finishes:
            break
    else:
        pytest.fail("the large request starves")
    harness.run()
    harness.assert_exact()


def test_limits_of_tenants_hold_in_every_step() -> None:
    harness = Harness(max_rows=4, shares={"a": Share(max_running=1), "b": Share(max_running=2)}, num_blocks=20)
    for number in range(30):
        harness.add(number, [7 + number % 5] * 9, tenant="abc"[number % 3], max_new_tokens=8, ignore_eos=True)
    most: Counter[str] = Counter()
    while harness.scheduler.has_work:
        harness.step()
        running = Counter(sequence.group.tenant for sequence in harness.scheduler.running)
        most |= running
    assert (most["a"], most["b"]) == (1, 2)
    assert most["c"] > 2
    harness.assert_exact()
