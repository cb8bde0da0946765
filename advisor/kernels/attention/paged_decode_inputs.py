"""Inputs that `paged_decode` is tested and timed on. Letters as there."""

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor

from advisor.kernels.cache import kv_formats


@dataclass(frozen=True, slots=True, kw_only=True)
class PagedDecodeCase:
    """One call: the sizes of a random cache filled to `lengths`, and the options of the call."""

    lengths: tuple[int, ...]
    kv_format: str = "bf16"
    dtype: torch.dtype = torch.float16
    width: int = 1
    kv_heads: int = 2
    groups: int = 4
    key_width: int = 64
    value_width: int | None = None
    block_tokens: int = 16
    window: int | None = None
    first: int = 0
    softcap: float | None = None
    shifted: bool = False
    """Whether the first tokens are scored against another query."""
    sinks: float | None = None
    """Mean of the learned logits."""
    tree: bool = False
    recent: bool = False

    def __str__(self) -> str:
        """The fields that differ from their defaults."""
        return "-".join(f"{field.name}={getattr(self, field.name)}" for field in fields(self) if getattr(self, field.name) != field.default)

    @property
    def value_elements(self) -> int:
        """Value width E."""
        return self.key_width if self.value_width is None else self.value_width

    def seen(self, length: int) -> int:
        """Keys of a sequence of `length` that its new tokens attend to."""
        window = length if self.window is None else self.window + self.width - 1
        return min(length, window + self.first)


def inputs(case: PagedDecodeCase) -> tuple[Any, ...]:
    """Query, keys, values, tables and lengths, then the other arguments by name; memory that must not be read holds NaN."""
    make = torch.Generator().manual_seed(sum(case.lengths) * 31 + case.key_width + case.width)
    sequences, size, heads = len(case.lengths), case.block_tokens, case.kv_heads * case.groups
    blocks = max(-(-length // size) for length in (*case.lengths, 1))
    pool = sequences * blocks + 2
    taken = torch.randperm(pool, generator=make)[: sequences * blocks].view(sequences, blocks).int()
    tables, filled = torch.full_like(taken, -1), torch.zeros(pool, size, dtype=torch.bool)
    for n, length in enumerate(case.lengths):
        tables[n, : -(-length // size)] = taken[n, : -(-length // size)]
        positions = torch.arange(length)
        filled[taken[n, positions // size].long(), positions % size] = True
    keys, key_scales = _stored(case, (pool, case.kv_heads, size, case.key_width), filled, make)
    values, value_scales = _stored(case, (pool, case.kv_heads, size, case.value_elements), filled, make)
    query = torch.randn(sequences, case.width, heads, case.key_width, generator=make).to(case.dtype)
    options = {"scale": case.key_width**-0.5, "kv_format": case.kv_format, "key_scales": key_scales, "value_scales": value_scales}
    options |= {"window": case.window, "first": case.first, "softcap": case.softcap}
    if case.shifted:
        options["first_query"] = torch.randn(query.shape, generator=make).to(case.dtype)
    if case.sinks is not None:
        options["sinks"] = (torch.randn(heads, generator=make) + case.sinks).to(case.dtype)
    if case.tree:
        options["ancestors"] = _tree(sequences, case.width, make)
    if case.recent:
        options["recent"] = _ring(case, make)
    return query, keys, values, tables, torch.tensor(case.lengths, dtype=torch.int32), options


def least_bytes(case: PagedDecodeCase) -> int:
    """Bytes of a call: the visible keys and values in the stored format, the query and the output."""
    row = case.key_width + case.value_elements
    stored = row * case.dtype.itemsize if case.kv_format == "bf16" else row // (2 if case.kv_format == "int4" else 1) + 4
    tokens = len(case.lengths) * case.width * case.kv_heads * case.groups
    return sum(map(case.seen, case.lengths)) * case.kv_heads * stored + tokens * row * case.dtype.itemsize


def operations(case: PagedDecodeCase) -> int:
    """Multiplications and additions of both products."""
    heads = case.kv_heads * case.groups
    return 2 * sum(map(case.seen, case.lengths)) * case.width * heads * (case.key_width + case.value_elements)


def _stored(case: PagedDecodeCase, shape: tuple[int, ...], filled: Tensor, make: torch.Generator) -> tuple[Tensor, Tensor | None]:
    """Stored rows and scales; where no token is, quantised rows have all bits set and the scales, or bf16 rows, are NaN."""
    rows = torch.randn(shape, generator=make)
    empty = ~filled[:, None, :, None]
    if case.kv_format == "bf16":
        return rows.to(case.dtype).masked_fill_(empty, float("nan")), None
    stored, scales = kv_formats.quantise(rows, case.kv_format)
    stored.view(torch.uint8).masked_fill_(empty, 255)
    return stored, scales[..., None].masked_fill(empty, float("nan"))


def _tree(sequences: int, width: int, make: torch.Generator) -> Tensor:
    """Ancestor bits [N, W]: the parent of each token is a random earlier one or the last cached token."""
    bits = torch.zeros(sequences, width, dtype=torch.int64)
    for n in range(sequences):
        for token in range(width):
            parent = int(torch.randint(-1, token, (1,), generator=make)) if token else -1
            bits[n, token] = 1 << token | (int(bits[n, parent]) if parent >= 0 else 0)
    return bits


def _ring(case: PagedDecodeCase, make: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
    """A ring of newest blocks that differ from those of the cache; NaN after the last token."""
    sequences, size = len(case.lengths), case.block_tokens
    rows = torch.randperm(sequences + 1, generator=make)[:sequences].int()
    rings = [
        torch.full((sequences + 1, 2, case.kv_heads, size, width), float("nan")).to(case.dtype)
        for width in (case.key_width, case.value_elements)
    ]
    for row, length in zip(rows.tolist(), case.lengths, strict=True):
        last = max(length - 1, 0)
        for ring in rings:
            shape = (case.kv_heads, length - last // size * size, ring.shape[-1])
            ring[row, last // size % 2, :, : shape[1]] = torch.randn(shape, generator=make).to(case.dtype)
    return rings[0], rings[1], rows
