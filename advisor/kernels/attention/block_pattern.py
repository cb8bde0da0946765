"""Sparse attention patterns: a window, first tokens, global tokens and random blocks, as token-level masks and as lists of blocks.

Letters: Q query blocks, B key blocks, S tokens of a block. Positions count the tokens of a sequence from 0.
"""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

BLOCKS = (16, 32, 64, 128)
"""Allowed tokens per block; the GPU kernel takes 64 and 128."""
_ROWS = 256
"""Query blocks per draw of random blocks: bounds the scratch to 256 · B numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BlockPattern:
    """Causal attention to a subset of the keys. Without a window it is dense, and the other fields have no effect.

    Raises `ValueError` for a window below 1, negative counts or positions, and a block size that is not in `BLOCKS`.
    Sources: window and first tokens, StreamingLLM (arXiv:2309.17453); window and global tokens, Longformer (arXiv:2004.05150);
    random blocks in addition, BigBird (arXiv:2007.14062).
    """

    window: int | None = None
    """Most recent tokens that a query attends to, itself included."""
    first: int = 0
    """Tokens at the start of the sequence that every query attends to."""
    global_tokens: tuple[int, ...] = ()
    """Positions that every later query attends to, and whose queries attend to every earlier token."""
    random_blocks: int = 0
    """Further blocks that each block of queries attends to, drawn from those before its window (all of them if there are fewer)."""
    seed: int = 0
    block: int = 64

    def __post_init__(self) -> None:
        if self.block not in BLOCKS:
            raise ValueError(f"a block has {', '.join(map(str, BLOCKS))} tokens; got {self.block}")
        if self.window is not None and self.window < 1:
            raise ValueError(f"a window has 1 token or more, the query itself included; got {self.window}")
        if self.first < 0 or self.random_blocks < 0 or min(self.global_tokens, default=0) < 0:
            raise ValueError(f"first tokens, random blocks and global positions are counted from 0; got {self}")

    @property
    def is_dense(self) -> bool:
        """Whether every query attends to every earlier token, at any length."""
        return self.window is None

    def allows(self, queries: Tensor, keys: Tensor, length: int | None = None) -> Tensor:
        """Whether the query at each position attends to the key at each position: a bool tensor of the broadcast shape of the two.

        `queries` and `keys` are integer positions in one sequence. With `length`, an upper bound of the positions, no value is read on
        the host, as `torch.vmap` requires.
        """
        seen = keys <= queries
        if self.window is None or not seen.numel():
            return seen
        in_pattern = (keys > queries - self.window) | (keys < self.first)
        if self.global_tokens:
            global_positions = torch.tensor(self.global_tokens, device=keys.device)
            in_pattern = in_pattern | (keys.unsqueeze(-1) == global_positions).any(-1) | (queries.unsqueeze(-1) == global_positions).any(-1)
        if self.random_blocks:
            lowest = 0 if length is not None else int(queries.min()) // self.block
            highest = (int(queries.max()) if length is None else length - 1) // self.block
            random_mask = self.random_mask(lowest, highest + 1).to(keys.device)
            in_pattern = in_pattern | random_mask[queries // self.block - lowest, (keys // self.block).clamp_max(highest)]
        return seen & in_pattern

    def random_mask(self, start: int, stop: int) -> Tensor:
        """The random blocks of query blocks `start` to `stop`: bool [stop − start, stop], the same for every length of a sequence."""
        out = torch.zeros(stop - start, stop, dtype=torch.bool)
        if self.window is None or not self.random_blocks:
            return out
        for low in range(start, stop, _ROWS):
            rows = torch.arange(low, min(low + _ROWS, stop)).unsqueeze(1)
            columns = torch.arange(stop).unsqueeze(0)
            before = (rows * self.block - self.window + 1).clamp_min(0) // self.block
            ranks = _hash(_hash(rows + (self.seed << 32)) + columns) >> 1
            ranks = ranks.masked_fill((columns >= before) | (columns < self.first // self.block), torch.iinfo(torch.int64).max)
            lowest, indices = ranks.topk(min(self.random_blocks, stop), largest=False)
            out[low - start : low - start + len(rows)].scatter_(1, indices, lowest != torch.iinfo(torch.int64).max)
        return out

    def density(self, keys: int, queries: int | None = None) -> float:
        """Visited blocks by those of dense causal attention, for the last `queries` of `keys` tokens (default: all); 1 without tokens."""
        queries = keys if queries is None else queries
        visited, dense = (block_lists(pattern, queries, keys).blocks.numel() for pattern in (self, BlockPattern(block=self.block)))
        return visited / dense if dense else 1.0


@dataclass(frozen=True, slots=True)
class BlockLists:
    """The key blocks that each query block visits: those that need no mask first, each part ascending. Blocks start at multiples of S."""

    first_block: int
    """The query block of row 0; the first query may lie within it."""
    starts: Tensor
    """int32 [Q + 1]: row i visits `blocks[starts[i] : starts[i + 1]]`."""
    full: Tensor
    """int32 [Q]: blocks of each row that need no mask, as all queries of the row attend to all their keys."""
    blocks: Tensor
    """int32 [visited]: indices of key blocks."""


@lru_cache(maxsize=32)
def block_lists(pattern: BlockPattern, queries: int, keys: int, device: str = "cpu") -> BlockLists:
    """The blocks that the last `queries` of `keys` tokens visit, as tensors on `device`. Raises `ValueError` for more queries than keys."""
    if not 0 <= queries <= keys:
        raise ValueError(f"queries are the last tokens of the keys; got {queries} queries and {keys} keys")
    size = pattern.block
    first_row, stop = (keys - queries) // size, -(-keys // size)
    if not queries:
        stop = first_row
    rows, columns = torch.arange(first_row, stop).unsqueeze(1), torch.arange(stop).unsqueeze(0)
    low, high = (rows * size).clamp_min(keys - queries), (rows * size + size).clamp_max(keys) - 1
    visited, full = _classify(pattern, low, high, columns, keys)
    if pattern.random_blocks and stop > first_row:
        random_mask = pattern.random_mask(first_row, stop)
        visited, full = visited | random_mask, full | random_mask
    order = (visited.int() + full.int()).argsort(dim=1, descending=True, stable=True)
    visited_mask = torch.arange(stop).unsqueeze(0) < visited.sum(1, keepdim=True)
    starts = torch.cat([torch.zeros(1, dtype=torch.int64), visited.sum(1).cumsum(0)])
    on_device = [tensor.int().to(device) for tensor in (starts, full.sum(1), order[visited_mask])]
    return BlockLists(first_row, *on_device)


def _classify(pattern: BlockPattern, low: Tensor, high: Tensor, columns: Tensor, keys: int) -> tuple[Tensor, Tensor]:
    """The blocks [Q, B] of which queries `low` to `high` [Q, 1] attend to any key, and those of which to all; without the random blocks."""
    begin, end = columns * pattern.block, (columns * pattern.block + pattern.block - 1).clamp_max(keys - 1)
    reached = begin <= high
    whole = (columns * pattern.block + pattern.block - 1 <= low) & (low <= high)
    if pattern.window is None:
        return reached, whole
    in_pattern = (end > low - pattern.window) | (begin < pattern.first)
    for position in pattern.global_tokens:
        in_pattern |= (begin <= position) & (position <= end) & (position <= high)
        in_pattern |= (low <= position) & (position <= high) & (begin <= position)
    return reached & in_pattern, whole & ((begin > high - pattern.window) | (end < pattern.first))


def _hash(numbers: Tensor) -> Tensor:
    """MurmurHash3's 64-bit finaliser: the same draws on every machine and in every version."""
    for factor in (-49064778989728563, -4265267296055464877):
        numbers = (numbers ^ ((numbers >> 33) & 0x7FFFFFFF)) * factor
    return numbers ^ ((numbers >> 33) & 0x7FFFFFFF)
