"""The cache of keys and values: blocks of tokens, who holds which, and where a token's row lies."""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from advisor.profiles.errors import AdvisorError, ExitCode


@dataclass(frozen=True, slots=True)
class Heads:
    """What one layer keeps per token: key-value heads and the widths of a key and a value."""

    kv_heads: int
    key_width: int
    value_width: int


@dataclass(slots=True)
class Held:
    """The blocks of one sequence, in order, and how many of their tokens are filled."""

    row: int
    blocks: list[int] = field(default_factory=list)
    tokens: int = 0


class Pool:
    """Blocks of `block_tokens` tokens, shared by all layers. Per layer keys are [P, K, S, D] and values [P, K, S, E].

    The contiguous layout is the same pool with one block per sequence, as long as the longest sequence.
    """

    def __init__(
        self,
        layers: tuple[Heads, ...],
        *,
        blocks: int,
        block_tokens: int,
        rows: int,
        max_tokens: int,
        dtype: torch.dtype,
        device: torch.device,
    ) -> None:
        self.layers = layers
        self.blocks = blocks
        self.block_tokens = block_tokens
        self.max_tokens = max_tokens
        self.dtype = dtype
        self.device = device
        with memory_errors(f"a cache of {blocks} blocks of {block_tokens} tokens"):
            self.keys = [self._new(heads.kv_heads, heads.key_width) for heads in layers]
            self.values = [self._new(heads.kv_heads, heads.value_width) for heads in layers]
        self.tables = torch.zeros((rows, -(-max_tokens // block_tokens)), dtype=torch.int64, device=device)
        self._free = list(range(blocks - 1, -1, -1))
        self._free_rows = list(range(rows - 1, -1, -1))
        self.peak_blocks = 0

    def _new(self, kv_heads: int, width: int) -> Tensor:
        return torch.zeros((self.blocks, kv_heads, self.block_tokens, width), dtype=self.dtype, device=self.device)

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the whole pool."""
        return sum(tensor.nbytes for tensor in (*self.keys, *self.values))

    @property
    def used_bytes_peak(self) -> int:
        """Bytes of the most blocks that were held at once."""
        return self.allocated_bytes * self.peak_blocks // max(self.blocks, 1)

    @property
    def free_blocks(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that a sequence of so many tokens takes."""
        return -(-tokens // self.block_tokens)

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
            self.tables[held.row, len(held.blocks)] = block
            held.blocks.append(block)
        self.peak_blocks = max(self.peak_blocks, self.blocks - len(self._free))
        return True

    def shrink(self, held: Held, tokens: int) -> None:
        """Take back what lies beyond `tokens`: the rows of draft tokens that were not accepted."""
        held.tokens = tokens
        keep = self.blocks_for(tokens)
        while len(held.blocks) > keep:
            self._free.append(held.blocks.pop())

    def close(self, held: Held) -> None:
        """Take back everything of a sequence."""
        self._free.extend(reversed(held.blocks))
        self._free_rows.append(held.row)
        held.blocks.clear()
        held.tokens = 0

    def read_length(self, tokens: int) -> int:
        """Keys that `read` returns for sequences of at most `tokens`: whole blocks, except in the contiguous layout."""
        return tokens if self.block_tokens >= self.max_tokens else self.blocks_for(tokens) * self.block_tokens

    def gather_index(self, rows: Tensor, tokens: int, kv_heads: int) -> Tensor:
        """What `read` needs for the sequences at `rows`, each of at most `tokens`; the same for all layers of as many heads."""
        blocks = self.tables.index_select(0, rows)[:, : self.blocks_for(tokens)]
        if self.block_tokens >= self.max_tokens:
            return blocks[:, 0]
        heads = torch.arange(kv_heads, device=self.device)
        return (blocks.unsqueeze(1) * kv_heads + heads.view(1, -1, 1)).contiguous()

    def write(self, layer: int, key: Tensor, value: Tensor, rows: Tensor) -> None:
        """Store [T, K, D] keys and [T, K, E] values at `rows` [T·K] of the pool seen as [P·K·S, ·]."""
        for pool, new in ((self.keys[layer], key), (self.values[layer], value)):
            pool.view(-1, pool.shape[3]).index_copy_(0, rows, new.reshape(-1, pool.shape[3]))

    def read(self, layer: int, index: Tensor, tokens: int) -> tuple[Tensor, Tensor]:
        """Contiguous [N, K, L, D] keys and [N, K, L, E] values, L being `read_length(tokens)`."""
        return self._read(self.keys[layer], index, tokens), self._read(self.values[layer], index, tokens)

    def _read(self, pool: Tensor, index: Tensor, tokens: int) -> Tensor:
        blocks, kv_heads, size, width = pool.shape
        if index.dim() == 1:
            return pool[:, :, :tokens].index_select(0, index)
        gathered = pool.view(blocks * kv_heads, size * width).index_select(0, index.view(-1))
        return gathered.view(index.shape[0], kv_heads, index.shape[2] * size, width)

    def release(self) -> None:
        """Give the memory back."""
        self.keys.clear()
        self.values.clear()


class memory_errors:  # noqa: N801  a context manager reads as a verb
    """Turn the allocators' errors into `AdvisorError("out-of-memory")`, saying what was being done."""

    def __init__(self, doing: str) -> None:
        self.doing = doing

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if isinstance(error, MemoryError | RuntimeError) and _is_out_of_memory(error):
            raise AdvisorError(
                "out-of-memory",
                f"memory ran out during {self.doing}",
                exit_code=ExitCode.DIED,
                notes=(str(error).splitlines()[0] if str(error) else type(error).__name__,),
                help=("lower the number of sequences or the context, or choose a smaller cache or weight format",),
            ) from error


_SIGNS = ("out of memory", "can't allocate memory", "not enough memory")


def _is_out_of_memory(error: BaseException) -> bool:
    text = str(error).lower()
    return isinstance(error, MemoryError | torch.OutOfMemoryError) or any(sign in text for sign in _SIGNS)
