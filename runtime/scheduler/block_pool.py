"""KV blocks and their reference counts."""

from __future__ import annotations

import heapq


class BlockPool:
    """``num_blocks`` blocks, each free, or referenced by sequences, or held by the prefix tree with no reference.

    The pool counts references of sequences only; a block whose last reference goes is handed back to the
    caller, who frees it or keeps it in the prefix tree.

    NOTE: the lowest free block is taken first. Linear slots in use stay close together, so that a batch over the
    leading slots has few holes; and memory that no sequence has needed yet is never touched.
    """

    def __init__(self, num_blocks: int) -> None:
        self.num_blocks = num_blocks
        self.references = [0] * num_blocks
        self._free = list(range(num_blocks))

    @property
    def free_count(self) -> int:
        """Blocks that hold nothing."""
        return len(self._free)

    def free_blocks(self) -> list[int]:
        """The free blocks, next to be taken first."""
        return sorted(self._free)

    def take(self) -> int:
        """Take a free block with one reference. Raises ``IndexError`` when none is free."""
        block = heapq.heappop(self._free)
        self.references[block] = 1
        return block

    def acquire(self, block: int) -> bool:
        """Add a reference; returns whether it is the first one."""
        self.references[block] += 1
        return self.references[block] == 1

    def release(self, block: int) -> bool:
        """Drop a reference; returns whether it was the last one (the block is then the caller's)."""
        self.references[block] -= 1
        return self.references[block] == 0

    def free(self, block: int) -> None:
        """Put an unreferenced block on the free list."""
        heapq.heappush(self._free, block)
