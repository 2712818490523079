"""What the prefix cache keeps and what it gives up first."""

from __future__ import annotations

from harness import Harness

from runtime.scheduler.prefix_cache import Node, PrefixCache


def cached_tokens(harness: Harness, number: int, prompt: list[int]) -> int:
    """Runs a request and returns how much of its prompt was there."""
    group = harness.add(number, prompt, max_new_tokens=1)
    harness.run()
    return group.sequences[0].cached


def unused(tree: PrefixCache, parent: Node, block: int) -> Node:
    node = tree.insert(parent, (block,), block)
    tree.dereference(node)
    return node


def use(tree: PrefixCache, node: Node) -> None:
    tree.reference(node)
    tree.dereference(node)


def test_the_least_recently_used_prompt_is_given_up_first() -> None:
    harness = Harness(num_blocks=6, max_rows=1)
    first, second, third = ([start] * 9 for start in (10, 20, 30))
    order = [first, second, first, third, first, second]
    cached = [cached_tokens(harness, number, prompt) for number, prompt in enumerate(order)]
    assert cached == [0, 0, 8, 0, 8, 4], "the third prompt needed one block and took the second's last"


def test_a_prompt_is_given_up_from_its_end() -> None:
    harness = Harness(num_blocks=6, max_rows=1)
    assert cached_tokens(harness, 1, [10] * 17) == 0
    assert cached_tokens(harness, 2, [20] * 9) == 0
    assert cached_tokens(harness, 3, [10] * 17) == 12


def test_leaves_go_in_the_order_of_their_last_use() -> None:
    tree = PrefixCache()
    nodes = [unused(tree, tree.root("a"), block) for block in range(4)]
    use(tree, nodes[1])
    use(tree, nodes[0])
    assert [tree.evict() for _ in range(5)] == [2, 3, 1, 0, None]
    assert not tree.roots, "a tenant without blocks is forgotten"


def test_a_node_in_use_or_with_descendants_stays() -> None:
    tree = PrefixCache()
    parent = tree.insert(tree.root("a"), (1,), 1)
    child = tree.insert(parent, (2,), 2)
    tree.dereference(child)
    tree.reference(child)
    assert tree.evict() is None
    tree.dereference(child)
    tree.dereference(parent)
    assert [tree.evict() for _ in range(3)] == [2, 1, None]


def test_using_the_same_prompts_for_ever_takes_no_memory() -> None:
    tree = PrefixCache()
    nodes = [unused(tree, tree.root("a"), block) for block in range(10)]
    chained = unused(tree, nodes[0], 10)
    held = tree.insert(tree.root("a"), (11,), 11)
    for turn in range(1000):
        use(tree, nodes[1 + turn % 9])
        assert len(tree._leaves) <= 2 * len(tree.nodes) + 65
    assert tree.unreferenced == 11
    order = [tree.evict() for _ in range(12)]
    assert order == [chained.block, 0, *(1 + turn % 9 for turn in range(991, 1000)), None]
    assert tree.nodes == {held.block: held}
