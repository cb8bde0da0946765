"""Weight-only int4 linear on a GPU: bf16 activations, bf16 scale and zero for each group of input channels.

Letters: M rows of activations, N output channels, K input channels, a multiple of 128, G channels per group. A weight is
(nibble − 8)·scale + zero, in the words of `int4_packing.pack_words`: plane p of a block of 128 multiplies activations 32p to 32p + 31.
"""

from typing import Any

import torch
import triton
from torch import Tensor

from advisor.kernels import arguments
from advisor.kernels.kernel import INTERPRETED, Kernel, Variant
from advisor.kernels.linear.int4_packing import K_BLOCK, quantise_int4, unpack_words
from advisor.kernels.linear.int4_tiles import combine, dequantise, product, product_of_weights
from advisor.kernels.linear.int8_packing import as_rows
from advisor.kernels.linear.split_k import TileConfig, add, add_variant, split_count
from advisor.kernels.torch_private import INT4_GROUP_SIZES

FEW_ROWS = (
    TileConfig(channels=128, rows=8, warps=4, stages=4),
    TileConfig(channels=128, rows=16, warps=4, stages=4),
    TileConfig(channels=128, rows=32, warps=4, stages=4),
)
"""Tiles of `product`, which takes the fewest instructions per weight; the first with enough rows is launched."""
MANY_ROWS = TileConfig(channels=128, rows=64, warps=4, stages=3)
"""The tile of `product_of_weights`, for more rows: half the registers for sums, and x is read once."""
SINGLE_ROW, ROWS_16 = (64, 1), (128, 16)
"""Channels and rows of a program of `combine`, for one row and for several."""
SCRATCH_ROWS = 256
"""Most rows for which weights are converted in registers, once per 64 rows. For more rows, converting them once to bf16 in scratch and
calling the vendor's product costs less (by arithmetic, not measured)."""
SCRATCH_WEIGHTS = 2**24
"""Weights converted at a time: 32 MiB of scratch, which an L2 cache of 50 MB keeps for the product."""


def reference(x: Tensor, words: Tensor, scale_zero: Tensor) -> Tensor:
    """`x` [.., K] times the weights of `words` [N, K/4] and `scale_zero` [K/G, N, 2], in the precision of `x`."""
    scale, zero = (part.to(x.dtype).t().unsqueeze(-1) for part in scale_zero.unbind(-1))  # [N, K/G, 1]
    weight = unpack_words(words).to(x.dtype).view(words.shape[0], scale_zero.shape[0], -1).sub_(8) * scale + zero
    return torch.nn.functional.linear(x, weight.view(words.shape[0], -1))


def int4_words_linear(x: Tensor, words: Tensor, scale_zero: Tensor, *, splits: int | None = None) -> Tensor:
    """Multiply floating `x` [.., K], rounded to bf16, by int4 weights [N, K] transposed: [.., N] in the type of `x`, float32 accumulation.

    `words` is int16 [N, K/4], contiguous; `scale_zero` bf16 [K/G, N, 2]; K a multiple of 128, G one of `INT4_GROUP_SIZES`. `splits` is
    the number of programs that share K, by default chosen from the shape. Raises `ValueError` for other shapes, types or devices.
    """
    _check(x, words, scale_zero)
    if x.device.type == "cpu" and not INTERPRETED:
        return reference(x.to(torch.bfloat16), words, scale_zero).to(x.dtype)
    rows = as_rows(x)
    scale_zero = scale_zero.contiguous().view(torch.int32)  # one load for both
    many = rows.shape[0] > SCRATCH_ROWS
    out = _through_scratch(rows, words, scale_zero) if many else _in_tiles(rows, words, scale_zero, splits)
    return out.view(*x.shape[:-1], words.shape[0]).to(x.dtype)


def _in_tiles(rows: Tensor, words: Tensor, scale_zero: Tensor, splits: int | None) -> Tensor:
    (m, k), n, group = rows.shape, words.shape[0], rows.shape[1] // scale_zero.shape[0]
    out = rows.new_empty(m, n)
    if not m:
        return out
    few = m <= FEW_ROWS[-1].rows
    tile = next((tile for tile in FEW_ROWS if tile.rows >= m), MANY_ROWS)
    tiles = (triton.cdiv(m, tile.rows), triton.cdiv(n, tile.channels))
    splits = splits or split_count(tiles[0] * tiles[1], k // K_BLOCK)
    sums = rows.new_empty(splits, m, n, dtype=torch.float32)
    launch = product if few else product_of_weights
    launch[(*tiles, splits)](rows, words, scale_zero, sums, m, n, k // K_BLOCK, max(group // K_BLOCK, 1), **_form(tile, group))
    if not few:
        return add(sums, None, out)
    channels, step = SINGLE_ROW if m == 1 else ROWS_16
    grid = (triton.cdiv(n, channels), triton.cdiv(m, step))
    combine[grid](sums, rows, scale_zero, out, m, n, k // K_BLOCK, group // 32, splits, CHANNELS=channels, ROWS=step, num_warps=4)
    return out


@torch.no_grad()
def _through_scratch(rows: Tensor, words: Tensor, scale_zero: Tensor) -> Tensor:
    (m, k), n, group = rows.shape, words.shape[0], rows.shape[1] // scale_zero.shape[0]
    out = rows.new_empty(m, n)
    step = min(n, max(1, SCRATCH_WEIGHTS // (64 * k)) * 64)
    scratch = rows.new_empty(step, k)
    for start in range(0, n, step):
        weight = scratch[: n - start]
        grid = (triton.cdiv(len(weight), 32), k // K_BLOCK)
        dequantise[grid](words[start:], scale_zero[:, start:], weight, len(weight), n, k // K_BLOCK, group // 32, CHANNELS=32, num_warps=4)
        torch.mm(rows, weight.t(), out=out[:, start : start + len(weight)])
    return out


def _form(tile: TileConfig, group: int) -> dict[str, Any]:
    """Constants and compiler options of a launch with `tile` and groups of `group` channels."""
    constants = {"CHANNELS": tile.channels, "ROWS": tile.rows, "PLANES": min(group, K_BLOCK) // 32, "WIDE": INTERPRETED}
    # with groups of 64 and 3 stages, 16 bytes spill on compute capability 8.0
    stages = 2 if tile is MANY_ROWS and group == 64 else tile.stages
    return {**constants, "num_warps": tile.warps, "num_stages": stages}


def _check(x: Tensor, words: Tensor, scale_zero: Tensor) -> None:
    got = arguments.Given({"x": x, "words": words, "scale_zero": scale_zero})
    if not x.is_floating_point() or words.dtype != torch.int16 or scale_zero.dtype != torch.bfloat16:
        raise ValueError(f"int4_words_linear takes floating x, int16 words and bf16 scale_zero; got {got}")
    if words.dim() != 2 or scale_zero.dim() != 3 or x.dim() < 1 or x.shape[-1] != 4 * words.shape[1] or scale_zero.shape[2] != 2:
        raise ValueError(f"int4_words_linear takes x [.., K], words [N, K/4] and scale_zero [K/G, N, 2]; got {got}")
    groups, n, _ = scale_zero.shape
    if n != words.shape[0] or x.shape[-1] not in (groups * size for size in INT4_GROUP_SIZES):
        raise ValueError(f"int4_words_linear takes a scale and a zero for groups of {', '.join(map(str, INT4_GROUP_SIZES))}; got {got}")
    if not x.shape[-1] or x.shape[-1] % K_BLOCK or not words.is_contiguous():
        raise ValueError(f"int4_words_linear takes contiguous words with K a multiple of {K_BLOCK}; got {got}, strides {words.stride()}")
    if not x.device == words.device == scale_zero.device:
        raise ValueError(f"int4_words_linear takes tensors of one device; got {got}")


def _inputs(m: int, n: int, k: int, group_size: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(m * 7919 + n * 31 + k)
    x = torch.randn(m, k, generator=generator).to(torch.bfloat16)
    return (x, *quantise_int4(torch.randn(n, k, generator=generator), group_size, layout="words"))


def _variants() -> tuple[Variant, ...]:
    names = {"x": "*bf16", "words": "*i16", "scale_zero": "*i32", "out": "*bf16", "sums": "*fp32"}
    sizes = dict.fromkeys(("m_rows", "n_channels", "k_blocks", "group_blocks", "group_planes", "rows", "splits"), "i32")

    def variant(name: str, function: Any, constants: dict[str, Any], warps: int, stages: int, **budget: Any) -> Variant:
        types = {argument: kind for argument, kind in (names | sizes).items() if argument in function.arg_names}
        return Variant(name=name, function=function, types=types, constants=constants, warps=warps, stages=stages, **budget)

    def of_tile(function: Any, tile: TileConfig, group: int, **budget: Any) -> Variant:
        constants = _form(tile, group) | {"WIDE": False}
        warps, stages = constants.pop("num_warps"), constants.pop("num_stages")
        name = f"{tile.channels}x{tile.rows}-g{group}"
        return variant(name, function, constants, warps, stages, elements=tile.channels * K_BLOCK, multiplies=True, **budget)

    # at 4.3 TB/s, 132 multiprocessors of 1.98 GHz have 15.6 issue slots per 16 bits read, scales included
    few = [of_tile(product, tile, g, slots_per_element=15.6 / 16 * (4 + 32 / g)) for g in (32, 64, 128) for tile in FEW_ROWS]
    many = [of_tile(product_of_weights, MANY_ROWS, g, slots_per_element=5.4) for g in (32, 64, 128)]
    ends = [variant(f"combine-{rows}", combine, {"CHANNELS": channels, "ROWS": rows}, 4, 3) for channels, rows in (SINGLE_ROW, ROWS_16)]
    return (*few, *many, *ends, add_variant(scaled=False), variant("dequantise", dequantise, {"CHANNELS": 32}, 4, 3))


KERNEL = Kernel(
    name="int4-linear-gpu",
    reference=reference,
    launch=int4_words_linear,
    inputs=_inputs,
    shapes=(
        (1, 256, 256, 32),
        (1, 130, 768, 128),
        (4, 200, 256, 64),
        (9, 1, 128, 32),
        (17, 37, 512, 256),
        (33, 100, 256, 128),
        (64, 40, 256, 64),
        (70, 130, 256, 32),
        (130, 40, 384, 64),
        (260, 70, 256, 256),
        (0, 8, 128, 64),
    ),
    # bf16 roundings of the result and, for many rows, of each weight: 2^-8 of its size at most; the interpreter's bf16 stores truncate
    tolerance=6e-3,
    bytes=lambda m, n, k, group_size: n * k // 2 + 4 * n * (k // group_size) + 2 * (m * k + m * n),
    flops=lambda m, n, k, group_size: 2 * m * n * k,
    variants=_variants(),
)
