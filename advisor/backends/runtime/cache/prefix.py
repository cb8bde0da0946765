"""Which blocks hold which tokens, so that a sequence that begins like an earlier one takes its blocks instead of computing them.

Knows tokens and numbers of blocks, no tensors. A block is known by its tokens and by the block before it, so equal tokens in another
text are another block; tokens are compared themselves, not a digest of them.
"""

from collections.abc import Sequence
from dataclasses import dataclass

START = 0
"""What stands before the first block of a text."""

Key = tuple[int, tuple[int, ...]]


@dataclass(slots=True)
class _CachedBlock:
    """A block that is known: its place in the chains, and how many sequences hold it."""

    link: int
    key: Key
    holders: int


class PrefixCache:
    """Full blocks of tokens in chains. Nobody writes to a block that is known; those that nobody holds are given up oldest first.

    Sequences let go of their last block first, so a chain is given up from its end.
    """

    def __init__(self) -> None:
        self._by_key: dict[Key, int] = {}
        self._blocks: dict[int, _CachedBlock] = {}
        self._idle: dict[int, None] = {}
        self._links = START

    @property
    def idle_blocks(self) -> int:
        """Known blocks that nobody holds."""
        return len(self._idle)

    def contains(self, block: int) -> bool:
        """Whether the block is in a chain."""
        return block in self._blocks

    def find(self, before: int, tokens: Sequence[int]) -> int | None:
        """The block with these tokens after the link `before`."""
        return self._by_key.get((before, tuple(tokens)))

    def hash_of(self, block: int) -> int:
        """What the blocks after a known one are found by."""
        return self._blocks[block].link

    def acquire(self, block: int) -> None:
        """One sequence more holds a known block."""
        self._blocks[block].holders += 1
        self._idle.pop(block, None)

    def add(self, before: int, tokens: Sequence[int], block: int) -> int:
        """Make the block of a sequence known and return its link; a sequence that was faster keeps its own block there."""
        key = (before, tuple(tokens))
        existing = self._by_key.get(key)
        if existing is not None:
            return self._blocks[existing].link
        self._links += 1
        self._by_key[key] = block
        self._blocks[block] = _CachedBlock(self._links, key, 1)
        return self._links

    def release(self, block: int) -> None:
        """One sequence less holds a known block."""
        cached = self._blocks[block]
        cached.holders -= 1
        if cached.holders == 0:
            self._idle[block] = None

    def evict_lru(self) -> int:
        """Forget the block that nobody has held for longest, and return it."""
        block = next(iter(self._idle))
        del self._idle[block]
        del self._by_key[self._blocks.pop(block).key]
        return block
