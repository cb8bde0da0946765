"""Slot mapping: index tensors into the memory of a layer, made once a step and shared by all layers of equal shape.

Letters as in `advisor.kernels.attention.paged_attention`: P blocks, K key-value heads, S tokens of a block, N sequences, L tokens, T rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from advisor.backends.runtime.cache.recent_pages import RingRead, RingWrite


@dataclass(frozen=True, slots=True)
class Writing:
    """Rows [T·K] of new tokens in the memory seen as [P·K·S, ·], and their rows in the ring if there is one."""

    rows: Tensor
    newest: RingWrite | None = None

    def for_both(self, tokens: int, memory_rows: int, ring_rows: int) -> "Writing":
        """The same for keys and values in one memory, the values after `memory_rows` rows, and after `tokens` in what is written."""
        newest = self.newest
        if newest is not None:
            tokens_of_both = None if newest.tokens is None else _and_beyond(newest.tokens, tokens)
            newest = RingWrite(tokens_of_both, _and_beyond(newest.rows, ring_rows))
        return Writing(_and_beyond(self.rows, memory_rows), newest)


@dataclass(frozen=True, slots=True)
class Reading:
    """Sequences of at most `tokens` tokens: their blocks in `index`, as `gather` takes it, and where their newest pages are."""

    index: Tensor
    tokens: int
    newest: RingRead | None = None

    def for_both(self, memory_heads: int, batch_rows: int, ring_rows: int) -> "Reading":
        """The same for keys and values in one memory, of which the values come after the keys: offsets in blocks, batch and ring."""
        newest = self.newest
        if newest is not None:
            newest = RingRead(_and_beyond(newest.rows, ring_rows), _and_beyond(newest.replaced, batch_rows))
        return Reading(_and_beyond(self.index, memory_heads), self.tokens, newest)


def _and_beyond(indices: Tensor, offset: int) -> Tensor:
    return torch.cat((indices, indices + offset))
