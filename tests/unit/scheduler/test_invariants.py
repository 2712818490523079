"""The audit of the books: each way to cook them is named."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from harness import Harness

from runtime.request import FinishReason
from runtime.scheduler import Group, Scheduler, Sequence, check_invariants
from runtime.scheduler.prefix_cache import Node

PROMPT = [11, 12, 13, 14, 15, 16, 17, 18, 19, 20]


def busy_scheduler() -> Scheduler:
    """Two samples and a tenant's request running, one request waiting, one prompt's three blocks cached."""
    harness = Harness(num_blocks=24, max_rows=3)
    harness.add(0, [5] * 13, max_new_tokens=1)
    harness.run()
    harness.add(1, PROMPT, samples=2, max_new_tokens=30, ignore_eos=True)
    harness.add(2, PROMPT, salt="b", max_new_tokens=30, ignore_eos=True)
    harness.add(3, PROMPT, max_new_tokens=30)
    for _ in range(5):
        harness.step()
    scheduler = harness.scheduler
    assert (len(scheduler.running), len(scheduler.waiting), scheduler.kv.tree.unreferenced) == (3, 1, 3)
    return scheduler


def leader(scheduler: Scheduler) -> Sequence:
    return scheduler.running[0]


def waiting(scheduler: Scheduler) -> Group:
    (group,) = scheduler.waiting
    return group


def cached_path(scheduler: Scheduler) -> list[Node]:
    """The nodes of the prompt that nobody holds, from the root down."""
    return scheduler.kv.tree.match("", [5] * 12, 4, 3)


def free_a_block_twice(scheduler: Scheduler) -> None:
    pool = scheduler.kv.pool
    pool.free(pool.free_blocks()[0])


def lose_a_block(scheduler: Scheduler) -> None:
    pool = scheduler.kv.pool
    pool.references[pool.take()] = 0


def forget_a_reference(scheduler: Scheduler) -> None:
    scheduler.kv.pool.references[leader(scheduler).blocks[0]] -= 1


def leave_an_empty_tenant(scheduler: Scheduler) -> None:
    scheduler.kv.tree.root("nobody")


def change_a_nodes_tokens(scheduler: Scheduler) -> None:
    cached_path(scheduler)[0].tokens = (1, 2, 3, 4)


def file_a_block_twice(scheduler: Scheduler) -> None:
    node = cached_path(scheduler)[2]
    node.children[1, 2, 3, 4] = Node(node.block, (1, 2, 3, 4), node, referenced=False)


def misjudge_a_node(scheduler: Scheduler) -> None:
    cached_path(scheduler)[2].referenced = True


def hold_a_child_without_its_parent(scheduler: Scheduler) -> None:
    node = cached_path(scheduler)[2]
    leader(scheduler).blocks.append(node.block)
    scheduler.kv.pool.acquire(node.block)
    scheduler.kv.tree.reference(node)


def cut_off_a_branch(scheduler: Scheduler) -> None:
    cached_path(scheduler)[1].children.clear()


def miscount_what_can_be_evicted(scheduler: Scheduler) -> None:
    scheduler.kv.tree.unreferenced += 1


def lose_the_order_of_eviction(scheduler: Scheduler) -> None:
    scheduler.kv.tree._leaves.clear()


def give_a_row_away_twice(scheduler: Scheduler) -> None:
    scheduler.free_rows.append(leader(scheduler).row)


def keep_a_group_that_has_ended(scheduler: Scheduler) -> None:
    waiting(scheduler).sequences[0].finish = FinishReason.STOP


def let_a_running_group_wait_too(scheduler: Scheduler) -> None:
    scheduler.waiting.add(leader(scheduler).group)


def let_a_waiting_sequence_hold_kv(scheduler: Scheduler) -> None:
    waiting(scheduler).sequences[0].computed = 1


def commit_what_has_not_run(scheduler: Scheduler) -> None:
    leader(scheduler).committed += 1


def run_further_than_the_blocks(scheduler: Scheduler) -> None:
    sequence = leader(scheduler)
    sequence.tokens += [1] * 8
    sequence.computed += 8


def keep_the_blocks_of_a_draft(scheduler: Scheduler) -> None:
    scheduler.kv.extend(leader(scheduler), leader(scheduler).computed + 8)


def move_a_sequence_to_another_tenant(scheduler: Scheduler) -> None:
    leader(scheduler).group.salt = "b"


def claim_to_have_published_a_private_block(scheduler: Scheduler) -> None:
    sequence = leader(scheduler)
    sequence.published = len(sequence.blocks)


def share_a_block_that_is_being_written(scheduler: Scheduler) -> None:
    block = leader(scheduler).blocks[-1]
    scheduler.running[2].blocks.append(block)
    scheduler.kv.pool.acquire(block)


def publish_a_block_that_is_being_written(scheduler: Scheduler) -> None:
    tree = scheduler.kv.tree
    tree.insert(tree.root(""), (1, 2, 3, 4), leader(scheduler).blocks[-1])


def let_a_stranger_wait(scheduler: Scheduler) -> None:
    scheduler.waiting.add(Group((b"test", 9), [1], waiting(scheduler).params))


def let_a_group_wait_twice(scheduler: Scheduler) -> None:
    scheduler.waiting.put_back(waiting(scheduler))


def let_a_new_group_resume(scheduler: Scheduler) -> None:
    group = waiting(scheduler)
    scheduler.waiting.discard(group)
    scheduler.waiting.put_back(group)


def miscount_what_a_tenant_runs(scheduler: Scheduler) -> None:
    scheduler.waiting.left(leader(scheduler).group)


def miscount_what_a_tenant_has_waiting(scheduler: Scheduler) -> None:
    scheduler.waiting.tenants[""].queued_tokens += 1


def misfile_a_request(scheduler: Scheduler) -> None:
    waiting(scheduler).tenant = "b"


@pytest.mark.parametrize(
    ("corrupt", "words"),
    [
        (free_a_block_twice, "on the free list twice"),
        (lose_a_block, " cached + "),
        (forget_a_reference, "references, "),
        (leave_an_empty_tenant, "tenant 'nobody' has an empty tree"),
        (change_a_nodes_tokens, "is misfiled"),
        (file_a_block_twice, "is in the tree twice"),
        (misjudge_a_node, "is wrong about being referenced"),
        (hold_a_child_without_its_parent, "is referenced and its parent is not"),
        (cut_off_a_branch, "reachable"),
        (miscount_what_can_be_evicted, "unreferenced nodes, "),
        (lose_the_order_of_eviction, "eviction cannot find it"),
        (give_a_row_away_twice, "rows in use or free: "),
        (keep_a_group_that_has_ended, "has ended but is still there"),
        (let_a_running_group_wait_too, "neither running nor waiting, or both"),
        (let_a_waiting_sequence_hold_kv, "waits but holds KV"),
        (commit_what_has_not_run, "has run "),
        (run_further_than_the_blocks, "has run further than its blocks"),
        (keep_the_blocks_of_a_draft, "keeps blocks that it does not need"),
        (move_a_sequence_to_another_tenant, "which is not on its path"),
        (claim_to_have_published_a_private_block, "which is not on its path"),
        (share_a_block_that_is_being_written, ", which others hold"),
        (let_a_stranger_wait, "waits and is not known"),
        (let_a_group_wait_twice, "a group waits twice"),
        (let_a_new_group_resume, "waits to resume and has not run"),
        (miscount_what_a_tenant_runs, "counts 2 samples, 3 run"),
        (miscount_what_a_tenant_has_waiting, "miscounted its queued tokens"),
        (misfile_a_request, "the queue of tenant '' is not in order"),
        (publish_a_block_that_is_being_written, ", which is in the tree"),
    ],
)
def test_cooked_books_are_called_out(corrupt: Callable[[Scheduler], None], words: str) -> None:
    scheduler = busy_scheduler()
    assert check_invariants(scheduler) == []
    corrupt(scheduler)
    violations = check_invariants(scheduler)
    assert any(words in violation for violation in violations), violations
