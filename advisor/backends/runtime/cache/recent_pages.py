"""A ring that stores the newest pages of every sequence in the model's own type, in addition to an int4 cache of all tokens.

A page is a block of tokens; in the contiguous layout, where a block is a whole sequence, a fixed number of them. Each row of the
pool stores two pages, page p in slot p mod 2: rejected draft tokens may have started the next page.

Letters as in `advisor.kernels.attention.paged_attention`; R rows of the pool, S tokens of a page.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from advisor.profiles.formats import RECENT_PAGES


@dataclass(frozen=True, slots=True)
class Span:
    """New tokens of one sequence: its row in the pool, the position of the first and their number."""

    row: int
    first: int
    count: int

    @property
    def last(self) -> int:
        """The position of the last one."""
        return self.first + self.count - 1


@dataclass(frozen=True, slots=True)
class RingWrite:
    """Which tokens of a step are written to the ring (`None` for all), and their rows [n·K] of it, viewed as [R·2·K·S, D]."""

    tokens: Tensor | None
    rows: Tensor


@dataclass(frozen=True, slots=True)
class RingRead:
    """Rows [m] of the ring, viewed as [R·2·K·S, D], and the rows of a batch, viewed as [N·K·L, D], that they replace."""

    rows: Tensor
    replaced: Tensor


class Ring:
    """The two newest pages of keys or of values in one layer."""

    def __init__(self, data: Tensor) -> None:
        self.data = data
        """[R, 2, K, S, D]."""

    def halves(self) -> tuple["Ring", "Ring"]:
        """The first and the second half of the rows, in the same memory."""
        first, second = self.data.chunk(2)
        return Ring(first), Ring(second)

    def write(self, at: RingWrite, new: Tensor) -> None:
        """Store those of the new rows [T, K, D] that belong to the newest two pages."""
        width = self.data.shape[-1]
        recent = new if at.tokens is None else new.index_select(0, at.tokens)
        self.data.view(-1, width).index_copy_(0, at.rows, recent.reshape(-1, width))

    def overlay(self, at: RingRead, rows: Tensor, scales: Tensor | None) -> None:
        """Replace the rounded copies of the pages in contiguous `rows` [N, K, L, D], and set their `scales` [N, K, L] to one."""
        width = self.data.shape[-1]
        rows.view(-1, width).index_copy_(0, at.replaced, self.data.view(-1, width).index_select(0, at.rows))
        if scales is not None:
            scales.view(-1).index_fill_(0, at.replaced, 1.0)


def new_ring(rows: int, kv_heads: int, page: int, width: int, dtype: torch.dtype, device: torch.device) -> Ring:
    """An empty ring for `rows` sequences."""
    return Ring(torch.zeros((rows, RECENT_PAGES, kv_heads, page, width), dtype=dtype, device=device))


def ring_write(spans: Sequence[Span], page: int, kv_heads: int, device: torch.device) -> RingWrite:
    """Where a step's tokens are written: of each sequence, those of its last page and of the one before."""
    tokens, slots, offsets, passed = [], [], [], 0
    for span in spans:
        for position in range(max(span.first, (span.last // page - 1) * page), span.last + 1):
            tokens.append(passed + position - span.first)
            slots.append(span.row * RECENT_PAGES + position // page % RECENT_PAGES)
            offsets.append(position % page)
        passed += span.count
    slot, offset = (torch.tensor(numbers, dtype=torch.int64, device=device) for numbers in (slots, offsets))
    heads = torch.arange(kv_heads, device=device)
    rows = ((slot.unsqueeze(1) * kv_heads + heads) * page + offset.unsqueeze(1)).reshape(-1)
    recent = None if len(tokens) == passed else torch.tensor(tokens, dtype=torch.int64, device=device)
    return RingWrite(recent, rows)


def ring_read(spans: Sequence[Span], page: int, length: int, kv_heads: int, device: torch.device) -> RingRead:
    """Where the page of each sequence's last token is in the ring and in a batch of `length` tokens each.

    The unfilled rest of a page is copied too, as far as it fits in the batch; masks hide it.
    """
    sequence = torch.arange(len(spans), device=device).view(-1, 1, 1)
    row, last = (torch.tensor(numbers, device=device).view(-1, 1, 1) for numbers in zip(*((s.row, s.last) for s in spans), strict=True))
    head, offset = torch.arange(kv_heads, device=device).view(1, -1, 1), torch.arange(page, device=device)
    number = last // page
    rows = ((row * RECENT_PAGES + number % RECENT_PAGES) * kv_heads + head) * page + offset
    position = number * page + offset
    replaced = (sequence * kv_heads + head) * length + position
    if length % page == 0:
        return RingRead(rows.reshape(-1), replaced.reshape(-1))
    inside = (position < length).expand_as(rows)
    return RingRead(rows[inside], replaced[inside])
