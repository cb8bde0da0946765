"""Slot mapping: index tensors into the memory of a layer, made once a step and shared by all layers of equal shape.

Letters as in `advisor.kernels.attention.paged_attention`: P blocks, K key-value heads, S tokens of a block, N sequences, L tokens, T rows.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from advisor.backends.runtime.cache.recent_pages import RingRead, RingWrite


@dataclass(frozen=True, slots=True)
class Writing:
    """Where new tokens are written: rows [T·K] of the memory viewed as [P·K·S, ·], and rows of the ring if there is one."""

    rows: Tensor
    newest: RingWrite | None = None

    def for_both(self, tokens: int, memory_rows: int, ring_rows: int) -> "Writing":
        """The same for keys and values in one tensor: values begin after `memory_rows` rows of memory and after `tokens` new tokens."""
        newest = self.newest
        if newest is not None:
            tokens_of_both = None if newest.tokens is None else _with_offset(newest.tokens, tokens)
            newest = RingWrite(tokens_of_both, _with_offset(newest.rows, ring_rows))
        return Writing(_with_offset(self.rows, memory_rows), newest)


@dataclass(frozen=True, slots=True)
class Reading:
    """What is read of sequences of at most `tokens` tokens: `index` of their blocks, for `gather`, and rows of their newest pages."""

    index: Tensor
    tokens: int
    newest: RingRead | None = None

    def for_both(self, memory_heads: int, batch_rows: int, ring_rows: int) -> "Reading":
        """The same for keys and values in one tensor, values after keys: offsets in blocks, batch and ring."""
        newest = self.newest
        if newest is not None:
            newest = RingRead(_with_offset(newest.rows, ring_rows), _with_offset(newest.replaced, batch_rows))
        return Reading(_with_offset(self.index, memory_heads), self.tokens, newest)


def _with_offset(indices: Tensor, offset: int) -> Tensor:
    return torch.cat((indices, indices + offset))
