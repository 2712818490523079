"""Everything that must hold between two steps, checked from the books alone."""

from __future__ import annotations

from collections import Counter

from runtime.scheduler.kv_cache import blocks_for
from runtime.scheduler.prefix_cache import Node
from runtime.scheduler.scheduler import Scheduler
from runtime.scheduler.sequence import NO_ROW, Sequence


def check_invariants(scheduler: Scheduler) -> list[str]:
    """All violations, in words; empty when the books are in order."""
    bad = [*_blocks(scheduler), *_tree(scheduler), *_leaves(scheduler), *_rows(scheduler), *_sequences(scheduler)]
    bad += [*_queue(scheduler), *_tenants(scheduler)]
    for sequence in scheduler.running:
        bad += [*_published(scheduler, sequence), *_tail(scheduler, sequence)]
    return bad


def _blocks(scheduler: Scheduler) -> list[str]:
    pool, tree = scheduler.kv.pool, scheduler.kv.tree
    bad = []
    held = Counter(block for sequence in scheduler.running for block in sequence.blocks)
    free = pool.free_blocks()
    if len(set(free)) != len(free):
        bad.append("a block is on the free list twice")
    bad += [
        f"block {block} counts {counted} references, {held[block]} exist"
        for block, counted in enumerate(pool.references)
        if counted != held[block]
    ]
    cached = {block for block in tree.nodes if not held[block]}
    everything = [*free, *cached, *held]
    if len(everything) != pool.num_blocks or len(set(everything)) != pool.num_blocks:
        bad.append(f"{len(free)} free + {len(cached)} cached + {len(held)} held != {pool.num_blocks}")
    return bad


def _tree(scheduler: Scheduler) -> list[str]:
    kv = scheduler.kv
    bad = [f"tenant {root.salt!r} has an empty tree" for root in kv.tree.roots.values() if not root.children]
    reached = 0
    stack: list[Node] = list(kv.tree.roots.values())
    while stack:
        node = stack.pop()
        for tokens, child in node.children.items():
            reached += 1
            if child.tokens != tokens or len(tokens) != kv.block_size or child.parent is not node:
                bad.append(f"node of block {child.block} is misfiled")
            if kv.tree.nodes.get(child.block) is not child:
                bad.append(f"block {child.block} is in the tree twice")
            if child.referenced != (kv.pool.references[child.block] > 0):
                bad.append(f"node of block {child.block} is wrong about being referenced")
            if child.referenced and not (node.referenced or node.parent is None):
                bad.append(f"block {child.block} is referenced and its parent is not")
            stack.append(child)
    if reached != len(kv.tree.nodes):
        bad.append(f"{len(kv.tree.nodes)} nodes, {reached} reachable")
    unreferenced = sum(not node.referenced for node in kv.tree.nodes.values())
    if unreferenced != kv.tree.unreferenced:
        bad.append(f"{unreferenced} unreferenced nodes, {kv.tree.unreferenced} counted")
    return bad


def _leaves(scheduler: Scheduler) -> list[str]:
    """Eviction takes what its order offers: a leaf that is missing there is lost to everybody."""
    tree = scheduler.kv.tree
    offered = {node for used, _, node in tree._leaves if used == node.used}  # noqa: SLF001 - an audit looks at all books
    return [
        f"nothing references block {block} and eviction cannot find it"
        for block, node in tree.nodes.items()
        if not (node.referenced or node.children or node in offered)
    ]


def _published(scheduler: Scheduler, sequence: Sequence) -> list[str]:
    """What a sequence has published is its own path, from its own tenant's root."""
    size = scheduler.kv.block_size
    node: Node | None = scheduler.kv.tree.roots.get(sequence.group.salt)
    for index, block in enumerate(sequence.blocks[: sequence.published]):
        tokens = tuple(sequence.tokens[index * size : (index + 1) * size])
        node = node.children.get(tokens) if node is not None else None
        if node is None or node.block != block:
            return [f"{_name(sequence)} has published block {block}, which is not on its path"]
    return []


def _tail(scheduler: Scheduler, sequence: Sequence) -> list[str]:
    """The blocks that a sequence still writes are its alone, and nobody can find them."""
    kv = scheduler.kv
    tail = sequence.blocks[sequence.committed // kv.block_size :]
    bad = [
        f"{_name(sequence)} writes block {block}, which others hold" for block in tail if kv.pool.references[block] > 1
    ]
    bad += [f"{_name(sequence)} writes block {block}, which is in the tree" for block in tail if block in kv.tree.nodes]
    return bad


def _rows(scheduler: Scheduler) -> list[str]:
    rows = [sequence.row for sequence in scheduler.running]
    every = sorted(rows + scheduler.free_rows)
    return [] if every == list(range(scheduler.config.max_rows)) else [f"rows in use or free: {every}"]


def _sequences(scheduler: Scheduler) -> list[str]:
    bad = []
    for group in scheduler.groups.values():
        if not group.live():
            bad.append(f"group {group.key!r} has ended but is still there")
        for sequence in group.live():
            name = _name(sequence)
            if (sequence.row == NO_ROW) != (group in scheduler.waiting or group in scheduler.withheld):
                bad.append(f"{name} is neither running nor waiting, or both")
            if sequence.row == NO_ROW and (sequence.blocks or sequence.computed):
                bad.append(f"{name} waits but holds KV")
            if not 0 <= sequence.committed <= sequence.computed <= len(sequence.tokens) + sequence.pending:
                bad.append(f"{name} has run {sequence.committed}/{sequence.computed} of {len(sequence.tokens)}")
            needed = blocks_for(sequence.computed, scheduler.kv.block_size)
            if len(sequence.blocks) < needed:
                bad.append(f"{name} has run further than its blocks")
            if len(sequence.blocks) > needed and not sequence.pending:
                bad.append(f"{name} keeps blocks that it does not need")
    return bad


def _queue(scheduler: Scheduler) -> list[str]:
    """Whoever waits is a request of the engine's, and waits once."""
    waiting = [*scheduler.waiting]
    bad = [f"group {group.key!r} waits and is not known" for group in waiting if group.key not in scheduler.groups]
    if len(set(waiting)) != len(waiting):
        bad.append("a group waits twice")
    return bad + [
        f"group {group.key!r} waits to resume and has not run"
        for group in scheduler.waiting.resuming
        if not group.preempted
    ]


def _tenants(scheduler: Scheduler) -> list[str]:
    """What each tenant has waiting and running is what its books say."""
    running = Counter(sequence.group.tenant for sequence in scheduler.running)
    books = scheduler.waiting.tenants
    bad = [f"nobody counts what tenant {name!r} runs" for name in running if name not in books]
    for name, tenant in books.items():
        places = [group.place for group in tenant.queue]
        if tenant.running != running[name]:
            bad.append(f"tenant {name!r} counts {tenant.running} samples, {running[name]} run")
        if tenant.queued_tokens != sum(group.prompt_length for group in tenant.queue):
            bad.append(f"tenant {name!r} has miscounted its queued tokens")
        if any(group.tenant != name for group in tenant.queue) or places != sorted(places):
            bad.append(f"the queue of tenant {name!r} is not in order")
    return bad


def _name(sequence: Sequence) -> str:
    return f"sample {sequence.sample} of {sequence.group.key!r}"
