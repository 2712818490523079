"""Gives sequences their KV blocks: from the prefix cache, from the free list, or by eviction."""

from __future__ import annotations

from runtime.scheduler.block_pool import BlockPool
from runtime.scheduler.prefix_cache import Node, PrefixCache
from runtime.scheduler.sequence import Sequence


def blocks_for(tokens: int, block_size: int) -> int:
    """Blocks that ``tokens`` tokens need."""
    return -(-tokens // block_size)


class KvCache:
    """Block bookkeeping of all sequences.

    Who owns a sequence's blocks::

        tokens   |<-- published -->|<-- private, full -->|<- partial ->|
        blocks   shared with tree    this sequence's alone, not in the tree

    A block joins the tree as soon as it is full and computed, unless another sequence's equal block is there
    already; from there on the sequence keeps its blocks private until it lets go, when they join or are freed.

    Args:
        num_blocks: Blocks in the pool.
        block_size: Tokens in a block.
        sharing: Whether sequences may share blocks at all (an executor with linear slots cannot).
        prefix_cache: Whether computed blocks are kept for later requests; needs ``sharing``.
    """

    def __init__(self, num_blocks: int, block_size: int, *, sharing: bool = True, prefix_cache: bool = True) -> None:
        self.pool = BlockPool(num_blocks)
        self.block_size = block_size
        self.sharing = sharing
        self.prefix_cache = prefix_cache and sharing
        self.tree = PrefixCache()

    @property
    def available(self) -> int:
        """Blocks that can be had now: free ones and those only the prefix tree holds."""
        return self.pool.free_count + self.tree.unreferenced

    @property
    def referenced(self) -> int:
        """Blocks that sequences hold."""
        return self.pool.num_blocks - self.available

    def attach_prefix(self, sequence: Sequence) -> int:
        """Give a sequence without blocks the longest cached prefix, all but its last token; returns the tokens."""
        if not self.prefix_cache or sequence.group.params.prompt_logprobs:
            return 0
        limit = (len(sequence.tokens) - 1) // self.block_size
        path = self.tree.match(sequence.group.salt, sequence.tokens, self.block_size, limit)
        for node in path:
            self.pool.acquire(node.block)
            self.tree.reference(node)
        sequence.blocks = [node.block for node in path]
        sequence.published = len(path)
        sequence.computed = sequence.committed = len(path) * self.block_size
        return sequence.computed

    def shareable(self, sequence: Sequence) -> int:
        """Blocks of a sequence without blocks that other sequences hold now, and that it would get from the tree."""
        if not self.prefix_cache or sequence.group.params.prompt_logprobs:
            return 0
        limit = (len(sequence.tokens) - 1) // self.block_size
        path = self.tree.match(sequence.group.salt, sequence.tokens, self.block_size, limit)
        return sum(node.referenced for node in path)

    def extend(self, sequence: Sequence, tokens: int) -> list[int] | None:
        """Let ``sequence`` hold ``tokens`` tokens; returns the added blocks, or ``None`` if there are too few."""
        if tokens <= len(sequence.blocks) * self.block_size:
            return []
        needed = blocks_for(tokens, self.block_size) - len(sequence.blocks)
        if needed > self.available:
            return None
        added = [self._take() for _ in range(needed)]
        sequence.blocks.extend(added)
        return added

    def trim(self, sequence: Sequence) -> None:
        """Take back the blocks beyond the sequence's computed tokens; they are its alone."""
        kept = blocks_for(sequence.computed, self.block_size)
        for block in sequence.blocks[kept:]:
            self.pool.release(block)
            self.pool.free(block)
        del sequence.blocks[kept:]

    def fork(self, source: Sequence, target: Sequence, tokens: int) -> list[tuple[int, int]] | None:
        """Let ``target`` share the first ``tokens`` computed tokens of ``source``.

        Full blocks are shared; a partial last one is copied, since both will write into it. A linear slot is one block
        that is never full, so it is copied as a whole.

        Returns:
            Copies ``(from, to)`` to make before the next step, or ``None`` when blocks cannot be shared or
            none is left for the copy.
        """
        full, rest = divmod(tokens, self.block_size)
        if (full and not self.sharing) or (rest and self.available < 1):
            return None
        for block in source.blocks[:full]:
            self.pool.acquire(block)
        target.blocks = source.blocks[:full]
        # NOTE: only the part of the path that the source published is the tree's; the rest is shared privately.
        target.published = min(source.published, full)
        target.computed = target.committed = tokens
        if not rest:
            return []
        copy = self._take()
        target.blocks.append(copy)
        return [(source.blocks[full], copy)]

    def publish(self, sequence: Sequence) -> None:
        """Add the sequence's full, computed blocks to the tree, up to the first that is there already."""
        if not self.prefix_cache:
            return
        full = sequence.committed // self.block_size
        if sequence.published >= full:
            return
        node: Node = (
            self.tree.nodes[sequence.blocks[sequence.published - 1]]
            if sequence.published
            else self.tree.root(sequence.group.salt)
        )
        for index in range(sequence.published, full):
            tokens = self._tokens(sequence, index)
            block = sequence.blocks[index]
            child = node.children.get(tokens)
            if child is None:
                child = self.tree.insert(node, tokens, block)
            elif child.block != block:
                return
            node = child
            sequence.published = index + 1

    def release(self, sequence: Sequence) -> None:
        """Take all blocks from ``sequence``; computed full blocks stay in the prefix tree."""
        full = sequence.committed // self.block_size if self.prefix_cache else 0
        root = self.tree.root(sequence.group.salt)
        node: Node | None = root
        for index, block in enumerate(sequence.blocks):
            last = self.pool.release(block)
            if node is not None and index < full:
                tokens = self._tokens(sequence, index)
                child = node.children.get(tokens)
                if child is None and last and block not in self.tree.nodes:
                    child = self.tree.insert(node, tokens, block)
                node = child
            if last:
                self._let_go(block)
        self.tree.prune(root)
        sequence.blocks = []
        sequence.published = sequence.computed = sequence.committed = 0

    def disown(self, sequence: Sequence) -> None:
        """Let nobody meet what ``sequence`` computed: what it holds alone leaves the tree, with all below it."""
        own = (i for i, block in enumerate(sequence.blocks[: sequence.published]) if self.pool.references[block] == 1)
        first = next(own, None)
        if first is not None:
            for block in self.tree.cut(self.tree.nodes[sequence.blocks[first]]):
                self.pool.free(block)
            sequence.published = first
        # NOTE: so that ``release`` adds nothing.
        sequence.committed = sequence.published * self.block_size

    def _let_go(self, block: int) -> None:
        node = self.tree.nodes.get(block)
        if node is None:
            self.pool.free(block)
        else:
            self.tree.dereference(node)

    def _take(self) -> int:
        if not self.pool.free_count:
            evicted = self.tree.evict()
            assert evicted is not None, "a block was promised that does not exist"
            self.pool.free(evicted)
        return self.pool.take()

    def _tokens(self, sequence: Sequence, index: int) -> tuple[int, ...]:
        start = index * self.block_size
        return tuple(sequence.tokens[start : start + self.block_size])
