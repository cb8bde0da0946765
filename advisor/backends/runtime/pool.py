"""The cache of keys and values: blocks of tokens, who holds which, and where a token's row lies."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from advisor.backends.runtime.memory import memory_errors
from advisor.backends.runtime.store import Batch, Store, new_store


@dataclass(frozen=True, slots=True)
class Heads:
    """What one layer keeps per token: key-value heads and the widths of a key and a value."""

    kv_heads: int
    key_width: int
    value_width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Size and format of a pool."""

    blocks: int
    block_tokens: int
    sequences: int
    max_tokens: int
    """Longest sequence. Blocks of this size make the layout contiguous: one block per sequence."""
    kv_format: str = "bf16"

    @property
    def is_contiguous(self) -> bool:
        """Whether a sequence is one block."""
        return self.block_tokens >= self.max_tokens


@dataclass(slots=True)
class Held:
    """The blocks of one sequence, in order, and how many of their tokens are filled."""

    row: int
    blocks: list[int] = field(default_factory=list)
    tokens: int = 0


class Pool:
    """Blocks shared by all sequences; a block holds its tokens' keys [K, S, D] and values [K, S, E] in every layer."""

    def __init__(self, layers: tuple[Heads, ...], room: Room, dtype: torch.dtype, device: torch.device) -> None:
        self.room = room
        self.device = device
        blocks, size = room.blocks, room.block_tokens
        with memory_errors(f"the allocation of a cache of {blocks} blocks of {size} tokens"):
            self.keys: list[Store] = [
                new_store(room.kv_format, (blocks, heads.kv_heads, size, heads.key_width), dtype, device) for heads in layers
            ]
            self.values: list[Store] = [
                new_store(room.kv_format, (blocks, heads.kv_heads, size, heads.value_width), dtype, device) for heads in layers
            ]
        self.allocated_bytes = sum(store.nbytes for store in (*self.keys, *self.values))
        self.peak_blocks = 0
        self._tables = torch.zeros((room.sequences, self.blocks_for(room.max_tokens)), dtype=torch.int64, device=device)
        self._free = list(range(blocks - 1, -1, -1))
        self._free_rows = list(range(room.sequences - 1, -1, -1))

    @property
    def used_bytes_peak(self) -> int:
        """Bytes of the most blocks that were held at once."""
        return self.allocated_bytes * self.peak_blocks // max(self.room.blocks, 1)

    @property
    def is_exact(self) -> bool:
        """Whether what is read is what was written."""
        return self.room.kv_format == "bf16"

    @property
    def free_blocks(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that a sequence of so many tokens takes."""
        return -(-tokens // self.room.block_tokens)

    def open(self) -> Held:
        """Start an empty sequence."""
        return Held(self._free_rows.pop())

    def grow(self, held: Held, tokens: int) -> bool:
        """Give the sequence room for `tokens` in all; false, and nothing taken, when too few blocks are free."""
        missing = self.blocks_for(tokens) - len(held.blocks)
        if missing > len(self._free):
            return False
        for _ in range(missing):
            block = self._free.pop()
            self._tables[held.row, len(held.blocks)] = block
            held.blocks.append(block)
        self.peak_blocks = max(self.peak_blocks, self.room.blocks - len(self._free))
        return True

    def shrink(self, held: Held, tokens: int) -> None:
        """Forget what lies beyond `tokens`, as after draft tokens that were not accepted, and take those blocks back."""
        held.tokens = tokens
        keep = self.blocks_for(tokens)
        while len(held.blocks) > keep:
            self._free.append(held.blocks.pop())

    def close(self, held: Held) -> None:
        """Take back everything of a sequence."""
        self.shrink(held, 0)
        self._free_rows.append(held.row)

    def release(self) -> None:
        """Give the memory back."""
        self.keys.clear()
        self.values.clear()

    def read_length(self, tokens: int) -> int:
        """Keys that `read` returns for sequences of at most `tokens`: whole blocks, except in the contiguous layout."""
        return tokens if self.room.is_contiguous else self.blocks_for(tokens) * self.room.block_tokens

    def gather_index(self, rows: Tensor, tokens: int, kv_heads: int) -> Tensor:
        """What `read` needs for the sequences at `rows`, each of at most `tokens`; the same for all layers of as many heads."""
        blocks = self._tables.index_select(0, rows)[:, : self.blocks_for(tokens)]
        if self.room.is_contiguous:
            return blocks[:, 0]
        heads = torch.arange(kv_heads, device=self.device)
        return (blocks.unsqueeze(1) * kv_heads + heads.view(1, -1, 1)).contiguous()

    def write(self, layer: int, key: Tensor, value: Tensor, rows: Tensor) -> None:
        """Store [T, K, D] keys and [T, K, E] values at `rows` [T·K] of the memory seen as [P·K·S, ·]."""
        self.keys[layer].write(rows, key)
        self.values[layer].write(rows, value)

    def read(self, layer: int, index: Tensor, tokens: int) -> tuple[Batch, Batch]:
        """Keys and values of the chosen sequences, L being `read_length(tokens)`."""
        return self.keys[layer].read(index, tokens), self.values[layer].read(index, tokens)
