"""Prefix cache: finds blocks by the tokens in them and before them, as vLLM's automatic prefix caching does.

Knows tokens and block numbers, no tensors. The key of a block is the hash of the block before it and its own tokens, which are compared
themselves; a hash is a number given at insertion, so that two blocks never share one.
"""

from collections.abc import Sequence
from dataclasses import dataclass

START = 0
"""Hash before the first block of a sequence."""

Key = tuple[int, tuple[int, ...]]


@dataclass(slots=True)
class _CachedBlock:
    """A block in the cache: its hash, its key and the number of sequences that use it."""

    link: int
    key: Key
    holders: int


class PrefixCache:
    """Full blocks by prefix. Cached blocks are never written; unused ones are evicted least recently used first.

    Sequences release their last block first, so that a prefix is evicted from its end.
    """

    def __init__(self) -> None:
        self._by_key: dict[Key, int] = {}
        self._blocks: dict[int, _CachedBlock] = {}
        self._idle: dict[int, None] = {}
        self._links = START

    @property
    def idle_blocks(self) -> int:
        """Cached blocks that no sequence uses."""
        return len(self._idle)

    def contains(self, block: int) -> bool:
        """Whether the block is cached."""
        return block in self._blocks

    def find(self, before: int, tokens: Sequence[int]) -> int | None:
        """The block of these tokens after the block with hash `before`; `None` if it is not cached."""
        return self._by_key.get((before, tuple(tokens)))

    def hash_of(self, block: int) -> int:
        """The hash of a cached block, by which the next one is found."""
        return self._blocks[block].link

    def acquire(self, block: int) -> None:
        """Count one more sequence that uses a cached block."""
        self._blocks[block].holders += 1
        self._idle.pop(block, None)

    def add(self, before: int, tokens: Sequence[int], block: int) -> int:
        """Cache a sequence's block and return its hash; where an equal block is cached already, return that one's."""
        key = (before, tuple(tokens))
        existing = self._by_key.get(key)
        if existing is not None:
            return self._blocks[existing].link
        self._links += 1
        self._by_key[key] = block
        self._blocks[block] = _CachedBlock(self._links, key, 1)
        return self._links

    def release(self, block: int) -> None:
        """Count one sequence less that uses a cached block."""
        cached = self._blocks[block]
        cached.holders -= 1
        if cached.holders == 0:
            self._idle[block] = None

    def evict_lru(self) -> int:
        """Remove the least recently used block that no sequence uses, and return it."""
        block = next(iter(self._idle))
        del self._idle[block]
        del self._by_key[self._blocks.pop(block).key]
        return block
