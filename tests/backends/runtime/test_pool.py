"""Blocks are handed out once, come back, and rows lie where the tables say."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from hypothesis import given, settings
from hypothesis import strategies as st

if TYPE_CHECKING:
    from advisor.backends.runtime.cache.pool import Pool


def new_pool(blocks: int = 6, block_tokens: int = 4, sequences: int = 3, max_tokens: int = 16) -> Pool:
    import torch

    from advisor.backends.runtime.cache.pool import CacheConfig, KvShape, Pool

    config = CacheConfig(blocks=blocks, block_tokens=block_tokens, sequences=sequences, max_tokens=max_tokens)
    return Pool((KvShape(2, 4, 4),), config, torch.float32, torch.device("cpu"))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 10**6), blocks=st.integers(1, 12), size=st.integers(1, 7))
def test_no_block_is_ever_allocated_twice_or_lost(seed: int, blocks: int, size: int) -> None:
    from advisor.backends.runtime.cache.pool import SequenceBlocks

    draw, pool, opened = random.Random(seed), new_pool(blocks, size, 4, blocks * size), list[SequenceBlocks]()
    for _ in range(40):
        action = draw.choice(("open", "grow", "shrink", "close"))
        if action == "open" and len(opened) < 4:
            opened.append(pool.open())
        elif opened and action == "grow":
            sequence, wanted = draw.choice(opened), draw.randint(0, blocks * size)
            before = list(sequence.blocks)
            if pool.allocate(sequence, wanted):
                assert len(sequence.blocks) == max(len(before), pool.blocks_for(wanted))
                sequence.tokens = max(sequence.tokens, wanted)
            else:
                assert sequence.blocks == before
        elif opened and action == "shrink":
            sequence = draw.choice(opened)
            pool.truncate(sequence, draw.randint(0, sequence.tokens))
        elif opened and action == "close":
            pool.free(opened.pop(draw.randrange(len(opened))))
        allocated = [block for sequence in opened for block in sequence.blocks]
        assert len(allocated) == len(set(allocated))
        assert len(allocated) + pool.free_blocks == blocks
        assert len({sequence.row for sequence in opened}) == len(opened)
        for sequence in opened:
            assert pool.tables[sequence.row, : len(sequence.blocks)].tolist() == sequence.blocks


def test_growing_beyond_the_pool_takes_nothing() -> None:
    pool = new_pool(blocks=3)
    first, second = pool.open(), pool.open()
    assert pool.allocate(first, 8)
    assert not pool.allocate(second, 5)
    assert second.blocks == []
    assert pool.free_blocks == 1


def test_the_peak_counts_blocks_allocated_at_once() -> None:
    pool = new_pool(blocks=6)
    first, second = pool.open(), pool.open()
    pool.allocate(first, 8)
    pool.free(first)
    pool.allocate(second, 12)
    assert pool.used_bytes_peak == pool.allocated_bytes * 3 // 6


def test_a_block_as_long_as_a_sequence_makes_the_layout_contiguous() -> None:
    assert new_pool(block_tokens=16).config.is_contiguous
    assert not new_pool(block_tokens=4).config.is_contiguous
    assert new_pool(block_tokens=16).read_length(5) == 5
    assert new_pool(block_tokens=4).read_length(5) == 8
