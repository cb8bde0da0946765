"""How products of few rows keep a whole GPU reading: blocks of K go to several programs, whose sums a second pass adds in order."""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from advisor.kernels.kernel import Variant
from advisor.kernels.launch_sizes import PROGRAMS

MOST_SPLITS = 16
"""Parts of K: each costs a float32 sum of the output, written and read."""
ADDED = 512
"""Elements of the output that a program of `add_parts` writes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TileConfig:
    """One form of a product: channels (rows of W) by rows of activations, and how Triton compiles it."""

    channels: int
    rows: int
    warps: int
    stages: int


def splits_of(tiles: int, k_blocks: int) -> int:
    """Into how many parts to cut `k_blocks` so that `tiles` of output make about `PROGRAMS` programs; no part is empty.

    Each program has three tiles of 8 KiB on their way, two a multiprocessor 48 KiB, where an H200's 4.8 TB/s at 0.7 µs of latency need
    26 (Little's law, not measured).
    """
    wanted = min(MOST_SPLITS, -(-PROGRAMS // max(tiles, 1)))
    each = -(-k_blocks // wanted)
    return -(-k_blocks // each)


@triton.jit(do_not_specialize=["elements", "n_channels", "parts"])
def add_parts(sums, scale, out, elements, n_channels, parts, SCALED: tl.constexpr, BLOCK: tl.constexpr):
    """`out` [M, N] = the `parts` sums [parts, M, N] of each element, added in order; with SCALED, times the channel's `scale`."""
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    inside = at < elements
    total = tl.zeros((BLOCK,), tl.float32)
    sum_at = sums + at
    for _ in range(parts):
        total += tl.load(sum_at, mask=inside, other=0.0)
        sum_at += elements
    if SCALED:
        total *= tl.load(scale + at % n_channels, mask=inside, other=0.0).to(tl.float32)
    tl.store(out + at, total, mask=inside)


def adder(*, scaled: bool) -> Variant:
    """The form of `add_parts` that a linear launches."""
    return Variant(
        name="add",
        function=add_parts,
        types={"sums": "*fp32", "scale": "*bf16", "out": "*bf16", "elements": "i32", "n_channels": "i32", "parts": "i32"},
        constants={"SCALED": scaled, "BLOCK": ADDED},
        warps=4,
        stages=3,
    )


def add(sums: Tensor, scale: Tensor | None, out: Tensor) -> Tensor:
    """Launch `add_parts` for `sums` [parts, M, N], which fills `out` [M, N]."""
    grid = (triton.cdiv(out.numel(), ADDED),)
    known = out if scale is None else scale
    add_parts[grid](sums, known, out, out.numel(), out.shape[1], len(sums), SCALED=scale is not None, BLOCK=ADDED, num_warps=4)
    return out
