"""Split-K: several programs share the blocks of K of a product of few rows, so that all of a GPU reads; a second pass adds their sums."""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from advisor.kernels.kernel import Variant
from advisor.kernels.launch_sizes import PROGRAMS

MAX_SPLITS = 16
"""Most splits of K: each writes and reads the output once more in float32."""
ADD_BLOCK = 512
"""Output elements per program of `add_splits`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileConfig:
    """Output tile of a program, channels (rows of W) by rows of activations, and Triton's warps and stages for it."""

    channels: int
    rows: int
    warps: int
    stages: int


def split_count(tiles: int, k_blocks: int) -> int:
    """The number of splits of `k_blocks` that makes about `PROGRAMS` programs of `tiles` output tiles; no split is empty.

    A program loads three tiles of 8 KiB ahead, so two programs per multiprocessor have 48 KiB in flight. An H200 needs 26 KiB:
    4.8 TB/s times 0.7 µs of latency by 132 multiprocessors (Little's law, not measured).
    """
    splits = min(MAX_SPLITS, -(-PROGRAMS // max(tiles, 1)))
    blocks_per_split = -(-k_blocks // splits)
    return -(-k_blocks // blocks_per_split)


@triton.jit(do_not_specialize=["elements", "n_channels", "splits"])
def add_splits(sums, scale, out, elements, n_channels, splits, SCALED: tl.constexpr, BLOCK: tl.constexpr):
    """`out` [M, N]: float32 `sums` [splits, M, N] added in order; with SCALED, times `scale` [N]."""
    offsets = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = offsets < elements
    total = tl.zeros((BLOCK,), tl.float32)
    sum_pointers = sums + offsets
    for _ in range(splits):
        total += tl.load(sum_pointers, mask=inside, other=0.0)
        sum_pointers += elements
    if SCALED:
        total *= tl.load(scale + offsets % n_channels, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + offsets, total, mask=inside)


def add_variant(*, scaled: bool) -> Variant:
    """The variant of `add_splits` that a linear launches, with or without scales."""
    return Variant(
        name="add",
        function=add_splits,
        types={"sums": "*fp32", "scale": "*bf16", "out": "*bf16", "elements": "i32", "n_channels": "i32", "splits": "i32"},
        constants={"SCALED": scaled, "BLOCK": ADD_BLOCK},
        warps=4,
        stages=3,
    )


def add(sums: Tensor, scale: Tensor | None, out: Tensor) -> Tensor:
    """Fill bf16 `out` [M, N] with the sum of float32 `sums` [splits, M, N] over splits, times `scale` [N] if given; returns `out`."""
    grid = (triton.cdiv(out.numel(), ADD_BLOCK),)
    scale_or_unread = out if scale is None else scale
    add_splits[grid](
        sums, scale_or_unread, out, out.numel(), out.shape[1], len(sums), SCALED=scale is not None, BLOCK=ADD_BLOCK, num_warps=4
    )
    return out
