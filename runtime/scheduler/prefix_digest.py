"""Names for prefixes that take 8 bytes, by which a router finds the engine that has them cached.

A block's digest is one of its tokens and of the digest of the block before it, so it stands for everything up to its
end. An engine never trusts one: what a request finds in the prefix cache is compared token by token.
"""

from __future__ import annotations

import heapq
from array import array
from collections.abc import Sequence
from hashlib import blake2b

from runtime.scheduler.prefix_cache import Node, PrefixCache, Root

DIGEST_BYTES = 8


def prompt_digests(salt: str, tokens: Sequence[int], block_size: int) -> list[bytes]:
    """One digest for each full block of a prompt, the first block's first.

    Args:
        salt: Of the tenant; prompts of different ones have no digest in common.
        tokens: The prompt.
        block_size: Tokens in a block.
    """
    digests = []
    digest = _root_digest(salt)
    for start in range(0, len(tokens) - block_size + 1, block_size):
        digest = _block_digest(digest, tokens[start : start + block_size])
        digests.append(digest)
    return digests


def cached_digests(cache: PrefixCache, limit: int) -> list[bytes]:
    """Digests of the ``limit`` blocks of the tree that were used last, in no order."""
    known: dict[Node, bytes] = {}
    return [_digest(node, known) for node in heapq.nlargest(limit, cache.nodes.values(), key=lambda node: node.used)]


def _digest(node: Node, known: dict[Node, bytes]) -> bytes:
    path = []
    above: Node | None = node
    while above is not None and above not in known and not isinstance(above, Root):
        path.append(above)
        above = above.parent
    digest = _root_digest(above.salt) if isinstance(above, Root) else known[above] if above is not None else b""
    for below in reversed(path):
        digest = known[below] = _block_digest(digest, below.tokens)
    return digest


def _root_digest(salt: str) -> bytes:
    return blake2b(salt.encode(), digest_size=DIGEST_BYTES).digest()


def _block_digest(before: bytes, tokens: Sequence[int]) -> bytes:
    return blake2b(before + array("I", tokens).tobytes(), digest_size=DIGEST_BYTES).digest()
