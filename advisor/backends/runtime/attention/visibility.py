"""What tokens attend to beyond the model's own mask: sliding windows, block patterns, evicted tokens, re-rotation.

Letters: N sequences of a group, W query tokens of each, L cached tokens, B blocks of a sequence, S tokens of a block.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advisor.backends.deployment import CacheRetention
from advisor.kernels.attention.block_pattern import BlockPattern

SKIP_BLOCKS_FROM_WINDOWS = 2
"""Fewest keys, as a multiple of the window, for which a prompt is computed block by block: below, few blocks are fully masked."""


@dataclass(frozen=True, slots=True)
class Visibility:
    """What every token attends to. Which tokens the cache retains is in the pool's `CacheConfig`."""

    window: int | None = None
    """Newest tokens that each token attends to, itself included."""
    pattern: BlockPattern | None = None
    """Block-sparse mask, in a cache that evicts nothing."""
    frequencies: tuple[Tensor, ...] = ()
    """Rotary frequencies of every layer, where positions are counted within the cache; else empty."""

    def narrowed_window(self, window: int | None) -> int | None:
        """The shorter of a layer's own window and this one."""
        return self.window if window is None else min(window, self.window or window)

    def prompt_pattern(self, retention: CacheRetention | None, window: int | None, length: int) -> BlockPattern | None:
        """The block pattern of a chunk at the end of `length` keys, where it skips blocks; `None` for a mask over all of them."""
        if self.pattern is not None:
            return self.pattern
        if (
            window is None
            or length < SKIP_BLOCKS_FROM_WINDOWS * window
            or (retention is not None and (retention.first or retention.window < window))
        ):
            return None
        return BlockPattern(window=window)


PLAIN = Visibility()


def last_evicted(retention: CacheRetention | None, query_positions: Tensor) -> tuple[Tensor, int] | None:
    """The last evicted position of queries at `query_positions` [N, W], and the first one; `None` without eviction."""
    return None if retention is None else (query_positions - retention.window, retention.first)


def rerotations(retention: CacheRetention | None, query_positions: Sequence[int]) -> list[int] | None:
    """How far queries at these positions are re-rotated for the sink tokens, in positions; `None` where none is."""
    if retention is None or not retention.first:
        return None
    distances = [retention.rerotation(position) for position in query_positions]
    return distances if any(distances) else None


def visited_blocks(pattern: BlockPattern, positions: Tensor, length: int, block_tokens: int) -> Tensor:
    """The blocks [N, B'] of `length` keys to which a query at `positions` [N, W] attends; shorter lists are padded with masked blocks."""
    key_positions = torch.arange(length, device=positions.device)
    seen = pattern.allows(positions.unsqueeze(-1), key_positions).any(1).view(len(positions), -1, block_tokens).any(-1)
    most = int(seen.sum(1).max())
    return seen.int().argsort(dim=1, descending=True, stable=True)[:, :most]


def columns_of_blocks(mask: Tensor, chosen: Tensor, block_tokens: int) -> Tensor:
    """The columns of a mask [N, W, L] that belong to the `chosen` blocks [N, B']."""
    sequences, width, _ = mask.shape
    index = chosen[:, None, :, None].expand(-1, width, -1, block_tokens)
    return mask.view(sequences, width, -1, block_tokens).gather(2, index).flatten(2)
