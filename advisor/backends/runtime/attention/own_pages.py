"""Attention over a cache whose newest pages are exact: a token reads the page that it is in exactly, and earlier ones rounded.

So a prompt attends to the same numbers whole, in chunks, after a reused prefix and in decoding. Positions are those among the stored
tokens of a sequence. Letters as in `advisor.kernels.attention.paged_attention`.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from advisor.backends.runtime.cache.store import KvBatch
from advisor.kernels.attention.paged_attention import additive_mask

PIECE_TOKENS = 256
"""Queries of one product: every piece reads the rounded keys before it, and its own exact ones besides."""


@dataclass(frozen=True, slots=True)
class Piece:
    """Queries from `start` to `stop` − 1. They read the keys before `rounded` rounded, and those from `page` on exactly.

    `page` is where the page of the first query begins, `rounded` where that of the last one does.
    """

    start: int
    stop: int
    page: int
    rounded: int


def pieces(start: int, stop: int, page_tokens: int) -> Iterator[Piece]:
    """The pieces of queries `start` to `stop` − 1, cut at the ends of pages."""
    size = max(PIECE_TOKENS // page_tokens, 1) * page_tokens
    while start < stop:
        page = start // page_tokens * page_tokens
        end = min(page + size, stop)
        yield Piece(start, end, page, (end - 1) // page_tokens * page_tokens)
        start = end


def keys_of(piece: Piece, rounded: KvBatch, exact: Tensor, exact_from: int) -> KvBatch:
    """Keys or values of a piece: the first ones of `rounded` [1, K, L, D], then the `exact` ones [T, K, D], from `exact_from` on."""
    own = exact[piece.page - exact_from : piece.stop - exact_from].transpose(0, 1).unsqueeze(0)
    return KvBatch(torch.cat((rounded.scaled()[:, :, : piece.rounded], own), 2))


def positions_of(piece: Piece, device: torch.device) -> tuple[Tensor, Tensor]:
    """Positions of the queries [1, W] and of the keys [L] of a piece."""
    rounded, exact = torch.arange(piece.rounded, device=device), torch.arange(piece.page, piece.stop, device=device)
    return torch.arange(piece.start, piece.stop, device=device).unsqueeze(0), torch.cat((rounded, exact))


def mask_of(
    piece: Piece, page_tokens: int, dtype: torch.dtype, window: int | None, evicted: tuple[Tensor, int] | None, device: torch.device
) -> Tensor:
    """[1, W, L]: zero where a query of the piece attends to a key of it, the type's lowest number elsewhere; see `additive_mask`."""
    queries, keys = positions_of(piece, device)
    seen = additive_mask(queries, piece.stop, dtype, window, evicted).index_select(2, keys)
    own_page = (queries // page_tokens * page_tokens).unsqueeze(-1)
    exact = torch.arange(len(keys), device=device) >= piece.rounded
    return seen.masked_fill_((keys >= own_page) != exact, torch.finfo(dtype).min)
