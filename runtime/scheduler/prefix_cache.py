"""Radix tree over full KV blocks: which prompts' blocks can be used again.

One node a block; a child is found by the block's whole token tuple, so a hash collision can never serve
another prompt's KV. Each tenant (``salt``) has a root of its own.
"""

from __future__ import annotations

import heapq
from dataclasses import dataclass, field
from itertools import count

BlockTokens = tuple[int, ...]

_STALE_LEAVES = 64
"""Entries of the eviction order beyond twice the tree's size that are tolerated before it is made anew."""


@dataclass(slots=True, eq=False)
class Node:
    """A full block in the tree.

    Attributes:
        used: Clock value of the last use.
        referenced: Whether some running sequence holds the block.
    """

    block: int
    tokens: BlockTokens
    parent: Node | None
    used: int = 0
    referenced: bool = True
    children: dict[BlockTokens, Node] = field(default_factory=dict)


@dataclass(slots=True, eq=False)
class Root(Node):
    """Where one tenant's prompts begin; holds no block."""

    salt: str = ""


class PrefixCache:
    """The tree and its eviction order.

    A sequence that references a node references all of its ancestors, so everything below an unreferenced
    node is unreferenced too, and leaves-first eviction can reach every unreferenced block.
    """

    def __init__(self) -> None:
        self.roots: dict[str, Root] = {}
        self.nodes: dict[int, Node] = {}
        self.unreferenced = 0
        self._clock = count(1)
        self._order = count()
        self._leaves: list[tuple[int, int, Node]] = []

    def root(self, salt: str) -> Root:
        """The tenant's root; creates it."""
        root = self.roots.get(salt)
        if root is None:
            root = self.roots[salt] = Root(-1, (), None, salt=salt)
        return root

    def match(self, salt: str, tokens: list[int], block_size: int, limit: int) -> list[Node]:
        """Nodes of the longest cached prefix of ``tokens``, at most ``limit`` blocks. Does not modify the tree."""
        path: list[Node] = []
        node: Node | None = self.roots.get(salt)
        while node is not None and len(path) < limit:
            start = len(path) * block_size
            node = node.children.get(tuple(tokens[start : start + block_size]))
            if node is not None:
                path.append(node)
        return path

    def insert(self, parent: Node, tokens: BlockTokens, block: int) -> Node:
        """Add a block that a sequence holds below ``parent``, which has no such child yet."""
        node = Node(block, tokens, parent, next(self._clock))
        parent.children[tokens] = node
        self.nodes[block] = node
        return node

    def reference(self, node: Node) -> None:
        """A sequence begins to hold ``node``."""
        node.used = next(self._clock)
        if not node.referenced:
            node.referenced = True
            self.unreferenced -= 1

    def dereference(self, node: Node) -> None:
        """Nobody holds ``node`` any more; it stays until evicted."""
        node.used = next(self._clock)
        node.referenced = False
        self.unreferenced += 1
        self._offer(node)

    def evict(self) -> int | None:
        """Remove the least recently used unreferenced leaf and return its block, or ``None``."""
        while self._leaves:
            used, _, node = heapq.heappop(self._leaves)
            if used != node.used or node.children or self.nodes.get(node.block) is not node:
                continue  # the entry is stale: the node was used, extended or evicted since
            parent = node.parent
            assert parent is not None
            del parent.children[node.tokens]
            del self.nodes[node.block]
            self.unreferenced -= 1
            if isinstance(parent, Root):
                self.prune(parent)
            else:
                self._offer(parent)
            return node.block
        return None

    def cut(self, node: Node) -> list[int]:
        """Take ``node`` out, which one sequence holds, and all below it; returns those blocks that nobody holds."""
        parent = node.parent
        assert parent is not None
        del parent.children[node.tokens]
        if isinstance(parent, Root):
            self.prune(parent)
        orphans: list[int] = []
        below = [node]
        while below:
            gone = below.pop()
            below += gone.children.values()
            del self.nodes[gone.block]
            if not gone.referenced:
                self.unreferenced -= 1
                orphans.append(gone.block)
        return orphans

    def _offer(self, node: Node) -> None:
        if node.referenced or node.children:
            return
        heapq.heappush(self._leaves, (node.used, next(self._order), node))
        if len(self._leaves) > 2 * len(self.nodes) + _STALE_LEAVES:
            leaves = [leaf for leaf in self.nodes.values() if not leaf.referenced and not leaf.children]
            self._leaves = [(leaf.used, next(self._order), leaf) for leaf in leaves]
            heapq.heapify(self._leaves)

    def prune(self, root: Root) -> None:
        """Forget a tenant that has no block left."""
        if not root.children:
            self.roots.pop(root.salt, None)
