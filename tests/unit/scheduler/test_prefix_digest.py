"""Digests of cached prefixes, and of prompts that look for them."""

from __future__ import annotations

from runtime.scheduler.prefix_cache import Node, PrefixCache
from runtime.scheduler.prefix_digest import cached_digests, prompt_digests

BLOCK = 4


def cached(cache: PrefixCache, salt: str, tokens: range) -> None:
    node: Node = cache.root(salt)
    for start in range(0, len(tokens), BLOCK):
        block = tuple(tokens[start : start + BLOCK])
        node = node.children.get(block) or cache.insert(node, block, len(cache.nodes))


def test_a_tree_has_the_digests_of_the_prompts_in_it() -> None:
    cache = PrefixCache()
    cached(cache, "", range(12))
    cached(cache, "", range(100, 108))
    expected = prompt_digests("", range(12), BLOCK) + prompt_digests("", range(100, 108), BLOCK)
    assert set(cached_digests(cache, 100)) == set(expected)


def test_only_full_blocks_have_one() -> None:
    assert len(prompt_digests("", range(11), BLOCK)) == 2
    assert prompt_digests("", range(3), BLOCK) == []


def test_a_digest_is_of_all_tokens_before_it() -> None:
    one, other = prompt_digests("", range(8), BLOCK), prompt_digests("", [9, 1, 2, 3, 4, 5, 6, 7], BLOCK)
    assert one[1] != other[1]


def test_tenants_have_none_in_common() -> None:
    assert not {*prompt_digests("a", range(8), BLOCK)} & {*prompt_digests("b", range(8), BLOCK)}


def test_the_blocks_used_last_are_told_where_not_all_can_be() -> None:
    cache = PrefixCache()
    cached(cache, "", range(12))
    cached(cache, "", range(100, 108))
    assert set(cached_digests(cache, 2)) == set(prompt_digests("", range(100, 108), BLOCK))
