"""Which keys a query sees when it does not see all: a window, first tokens, global tokens, random blocks; token by token and in blocks.

Letters: Q query blocks, B key blocks, S tokens of a block. A place is a token's number in its sequence.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

BLOCKS = (16, 32, 64, 128)
"""Allowed sizes of a block; the GPU's form runs 64 and 128."""
_ROWS = 256
"""Query blocks for which random blocks are drawn at a time: bounds the scratch to 256 · B numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPattern:
    """Causal attention to a part of the keys. Nothing set is dense; without a window everything is within it, so the rest adds nothing.

    Raises `ValueError` for sizes that mean nothing. Sources: window and first tokens, StreamingLLM (arXiv:2309.17453); window and
    global tokens, Longformer (arXiv:2004.05150); random blocks besides, BigBird (arXiv:2007.14062).
    """

    window: int | None = None
    """Newest tokens that a query sees, itself included."""
    first: int = 0
    """Tokens at the start that every query sees."""
    global_tokens: tuple[int, ...] = ()
    """Places that every later query sees, and from which every earlier token is seen."""
    random_blocks: int = 0
    """Blocks that each block of queries sees besides, drawn from those before its window (all of them where there are fewer)."""
    seed: int = 0
    block: int = 64

    def __post_init__(self) -> None:
        if self.block not in BLOCKS:
            raise ValueError(f"a block has {', '.join(map(str, BLOCKS))} tokens; got {self.block}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"a window has 1 token or more, the query's own; got {self.window}")
        if self.first < 0 or self.random_blocks < 0 or min(self.global_tokens, default=0) < 0:
            raise ValueError(f"first tokens, random blocks and global places are counted from 0; got {self}")

    @property
    def is_dense(self) -> bool:
        """Whether every query sees every earlier token, at any length."""
        return self.window is None

    def allows(self, queries: Tensor, keys: Tensor, length: int | None = None) -> Tensor:
        """Whether the query at each place sees the key at each place; integers that broadcast, in one sequence.

        With `length`, a bound of the places, no value is read on the host: for masks under `torch.vmap`.
        """
        seen = keys <= queries
        if self.window is None or not seen.numel():
            return seen
        near = (keys > queries - self.window) | (keys < self.first)
        if self.global_tokens:
            places = torch.tensor(self.global_tokens, device=keys.device)
            near = near | (keys.unsqueeze(-1) == places).any(-1) | (queries.unsqueeze(-1) == places).any(-1)
        if self.random_blocks:
            lowest = 0 if length is not None else int(queries.min()) // self.block
            highest = (int(queries.max()) if length is None else length - 1) // self.block
            drawn = self.drawn(lowest, highest + 1).to(keys.device)
            near = near | drawn[queries // self.block - lowest, (keys // self.block).clamp_max(highest)]
        return seen & near

    def drawn(self, start: int, stop: int) -> Tensor:
        """The random blocks of query blocks `start` to `stop`: bool [stop − start, stop]. They depend on nothing but the pattern."""
        out = torch.zeros(stop - start, stop, dtype=torch.bool)
        if self.window is None or not self.random_blocks:
            return out
        for low in range(start, stop, _ROWS):
            rows = torch.arange(low, min(low + _ROWS, stop)).unsqueeze(1)
            columns = torch.arange(stop).unsqueeze(0)
            before = (rows * self.block - self.window + 1).clamp_min(0) // self.block
            ranks = _hash(_hash(rows + (self.seed << 32)) + columns) >> 1
            ranks = ranks.masked_fill((columns >= before) | (columns < self.first // self.block), torch.iinfo(torch.int64).max)
            lowest, places = ranks.topk(min(self.random_blocks, stop), largest=False)
            out[low - start : low - start + len(rows)].scatter_(1, places, lowest != torch.iinfo(torch.int64).max)
        return out

    def density(self, keys: int, queries: int | None = None) -> float:
        """Blocks visited over those of dense causal attention, for `queries` tokens (all without) at the end of `keys`."""
        queries = keys if queries is None else queries
        visited, dense = (block_lists(each, queries, keys).blocks.numel() for each in (self, BlockPattern(block=self.block)))
        return visited / dense if dense else 1.0


@dataclass(frozen=True, slots=True)
class BlockLists:
    """The key blocks that each query block visits, those that need no mask first, ascending. Blocks stand at multiples of S."""

    first_block: int
    """The query block of row 0: queries may start within it."""
    starts: Tensor
    """int32 [Q + 1]: row i visits `blocks[starts[i] : starts[i + 1]]`."""
    full: Tensor
    """int32 [Q]: how many blocks of each row need no mask: all their keys exist and all the row's queries see them."""
    blocks: Tensor
    """int32 [visited]."""


@lru_cache(maxsize=32)
def block_lists(pattern: BlockPattern, queries: int, keys: int, device: str = "cpu") -> BlockLists:
    """The blocks that `queries` tokens at the end of a sequence of `keys` visit. Raises `ValueError` for more queries than keys."""
    if not 0 <= queries <= keys:
        raise ValueError(f"queries stand at the end of the keys; got {queries} queries and {keys} keys")
    size = pattern.block
    first_row, stop = (keys - queries) // size, -(-keys // size)
    if not queries:
        stop = first_row
    rows, columns = torch.arange(first_row, stop).unsqueeze(1), torch.arange(stop).unsqueeze(0)
    low, high = (rows * size).clamp_min(keys - queries), (rows * size + size).clamp_max(keys) - 1
    visited, full = _classify(pattern, low, high, columns, keys)
    if pattern.random_blocks and stop > first_row:
        drawn = pattern.drawn(first_row, stop)
        visited, full = visited | drawn, full | drawn
    order = (visited.int() + full.int()).argsort(dim=1, descending=True, stable=True)
    kept = torch.arange(stop).unsqueeze(0) < visited.sum(1, keepdim=True)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), visited.sum(1).cumsum(0)])
    on_device = [tensor.int().to(device) for tensor in (starts, full.sum(1), order[kept])]
    return BlockLists(first_row, *on_device)


def _classify(pattern: BlockPattern, low: Tensor, high: Tensor, columns: Tensor, keys: int) -> tuple[Tensor, Tensor]:
    """Which blocks [Q, B] queries at `low` to `high` [Q, 1] see a key of, and which they are known to see whole; random ones aside."""
    begin, end = columns * pattern.block, (columns * pattern.block + pattern.block - 1).clamp_max(keys - 1)
    reached = begin <= high
    whole = (columns * pattern.block + pattern.block - 1 <= low) & (low <= high)
    if pattern.window is None:
        return reached, whole
    near = (end > low - pattern.window) | (begin < pattern.first)
    for place in pattern.global_tokens:
        near |= (begin <= place) & (place <= end) & (place <= high)
        near |= (low <= place) & (place <= high) & (begin <= place)
    return reached & near, whole & ((begin > high - pattern.window) | (end < pattern.first))


def _hash(numbers: Tensor) -> Tensor:
    """MurmurHash3's 64-bit finaliser: the same draws on every machine and in every version."""
    for factor in (-49064778989728563, -4265267296055464877):
        numbers = (numbers ^ ((numbers >> 33) & 0x7FFFFFFF)) * factor
    return numbers ^ ((numbers >> 33) & 0x7FFFFFFF)
