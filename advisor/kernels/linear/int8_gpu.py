"""Weight-only int8 linear on a GPU: bf16 activations, one symmetric bf16 scale per output channel.

Letters: M rows of activations, N output channels, K input channels, a multiple of 128. Weights lie in 16-bit words [N, K/2]: word i of a
block of 128 channels holds channel i in its low byte and channel 64 + i in its high byte, so that a plane of bytes multiplies 64 neighbours
of the activations. The product is W·Xᵀ: a tile of weights, converted to bf16 in registers, is the first operand.
"""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from advisor.kernels import arguments
from advisor.kernels.kernel import INTERPRETED, Kernel, Variant
from advisor.kernels.linear.int8_packing import K_BLOCK, as_rows, pack_words, quantise_int8, unpack_words
from advisor.kernels.linear.split_k import TileConfig, add, add_variant, split_count

TILES = (
    TileConfig(channels=128, rows=8, warps=4, stages=4),
    TileConfig(channels=128, rows=16, warps=4, stages=4),
    TileConfig(channels=128, rows=32, warps=4, stages=4),
    TileConfig(channels=128, rows=64, warps=4, stages=3),
)
"""The first with enough rows is launched; for more rows, several programs of the last."""
SCRATCH_ROWS = 256
"""Most rows for which weights are converted in registers, once per 64 rows. For more rows, converting them once to bf16 in scratch
(5 bytes of traffic per weight) and calling the vendor's product costs less (by arithmetic, not measured)."""
SCRATCH_WEIGHTS = 2**25
"""Weights converted at a time: 64 MiB of scratch."""

# w & 0x7f in the mantissa of 128 makes 128 + the low seven bits; w & 0x80 in the exponent of −128 makes −128 or −256: their sum is w.
_LOW = tl.constexpr(
    "{ .reg .b32 a, b, one; lop3.b32 a, $1, 0x007f007f, 0x43004300, 0xea; lop3.b32 b, $1, 0x00800080, 0xc300c300, 0xea; "
    "mov.b32 one, 0x3f803f80; fma.rn.bf16x2 $0, a, one, b; }"
)
_HIGH = tl.constexpr(
    "{ .reg .b32 t, a, b, one; shr.b32 t, $1, 8; lop3.b32 a, t, 0x007f007f, 0x43004300, 0xea; "
    "lop3.b32 b, t, 0x00800080, 0xc300c300, 0xea; mov.b32 one, 0x3f803f80; fma.rn.bf16x2 $0, a, one, b; }"
)


def reference(x: Tensor, words: Tensor, scale: Tensor) -> Tensor:
    """`x` [.., K] times the int8 weights of `words` [N, K/2] transposed, times `scale` [N], in the precision of `x`."""
    return torch.nn.functional.linear(x, unpack_words(words).to(x.dtype)) * scale.to(x.dtype)


@triton.jit
def _plane(words, PLANE: tl.constexpr, WIDE: tl.constexpr):
    """The bytes of one plane of int16 `words` as bf16; as fp32 for the interpreter."""
    if WIDE:
        weights = ((words << (8 - 8 * PLANE)).to(tl.int16) >> 8).to(tl.float32)
    elif PLANE == 0:
        weights = tl.inline_asm_elementwise(_LOW, "=r,r", [words], dtype=tl.bfloat16, is_pure=True, pack=2)
    else:
        weights = tl.inline_asm_elementwise(_HIGH, "=r,r", [words], dtype=tl.bfloat16, is_pure=True, pack=2)
    return weights


@triton.jit(do_not_specialize=["m_rows", "n_channels", "k_blocks"])
def _product(x, words, sums, m_rows, n_channels, k_blocks, CHANNELS: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr):
    """fp32 `sums` [splits, M, N] of a tile of W·X over one split of K, without the scales."""
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    part = tl.program_id(2)
    blocks_per_split = tl.cdiv(k_blocks, tl.num_programs(2))
    i = tl.arange(0, 64)
    # channels beyond N read the last one's weights and are not stored
    word_pointers = words + tl.minimum(n, n_channels - 1).to(tl.int64)[:, None] * (k_blocks * 64) + i[None, :]
    x_pointers = x + m.to(tl.int64)[None, :] * (k_blocks * 128) + i[:, None]
    real_rows = (m < m_rows)[None, :]
    total = tl.zeros((CHANNELS, ROWS), tl.float32)
    for block in range(part * blocks_per_split, tl.minimum(part * blocks_per_split + blocks_per_split, k_blocks)):
        pairs = tl.load(word_pointers + block * 64, eviction_policy="evict_first")
        for plane in tl.static_range(2):
            columns = tl.load(x_pointers + block * 128 + plane * 64, mask=real_rows, other=0.0)
            if WIDE:
                columns = columns.to(tl.float32)
            total = tl.dot(_plane(pairs, plane, WIDE), columns, total)
    offsets = sums + (part * m_rows + m).to(tl.int64)[None, :] * n_channels + n[:, None]
    tl.store(offsets, total, mask=(n < n_channels)[:, None] & real_rows)


def int8_words_linear(x: Tensor, words: Tensor, scale: Tensor, *, splits: int | None = None) -> Tensor:
    """Multiply floating `x` [.., K], rounded to bf16, by int8 weights [N, K] transposed: [.., N] in the type of `x`, float32 accumulation.

    `words` is int16 [N, K/2], contiguous; `scale` bf16 [N]; K a multiple of 128. `splits` is the number of programs that share K, by
    default chosen from the shape. Raises `ValueError` for other shapes, types or devices.
    """
    _check(x, words, scale)
    if x.device.type == "cpu" and not INTERPRETED:
        return reference(x.to(torch.bfloat16), words, scale).to(x.dtype)
    rows = as_rows(x)
    many = rows.shape[0] > SCRATCH_ROWS
    out = _through_scratch(rows, words, scale) if many else _in_tiles(rows, words, scale, splits)
    return out.view(*x.shape[:-1], words.shape[0]).to(x.dtype)


def _in_tiles(rows: Tensor, words: Tensor, scale: Tensor, splits: int | None) -> Tensor:
    (m, k), n = rows.shape, words.shape[0]
    out = rows.new_empty(m, n)
    if not m:
        return out
    tile = next((tile for tile in TILES if tile.rows >= m), TILES[-1])
    tiles = (triton.cdiv(m, tile.rows), triton.cdiv(n, tile.channels))
    splits = splits or split_count(tiles[0] * tiles[1], k // K_BLOCK)
    sums = rows.new_empty(splits, m, n, dtype=torch.float32)
    form: dict[str, Any] = {"CHANNELS": tile.channels, "ROWS": tile.rows, "num_warps": tile.warps, "num_stages": tile.stages}
    _product[(*tiles, splits)](rows, words, sums, m, n, k // K_BLOCK, WIDE=INTERPRETED, **form)
    return add(sums, scale, out)


def _through_scratch(rows: Tensor, words: Tensor, scale: Tensor) -> Tensor:
    out = rows.new_empty(rows.shape[0], words.shape[0])
    step = max(1, SCRATCH_WEIGHTS // rows.shape[1])
    for start in range(0, words.shape[0], step):
        part = unpack_words(words[start : start + step]).to(rows.dtype)
        out[:, start : start + step] = torch.nn.functional.linear(rows, part)
    return out.mul_(scale)


def _check(x: Tensor, words: Tensor, scale: Tensor) -> None:
    got = arguments.Given({"x": x, "words": words, "scale": scale})
    if not x.is_floating_point() or words.dtype != torch.int16 or scale.dtype != torch.bfloat16:
        raise ValueError(f"int8_words_linear takes floating x, int16 words and bf16 scale; got {got}")
    if words.dim() != 2 or x.dim() < 1 or x.shape[-1] != 2 * words.shape[1] or scale.shape != words.shape[:1]:
        raise ValueError(f"int8_words_linear takes x [.., K], words [N, K/2] and scale [N]; got {got}")
    if not x.shape[-1] or x.shape[-1] % K_BLOCK or not words.is_contiguous() or not scale.is_contiguous():
        raise ValueError(f"int8_words_linear takes contiguous words with K a multiple of {K_BLOCK}; got {got}, strides {words.stride()}")
    if not x.device == words.device == scale.device:
        raise ValueError(f"int8_words_linear takes tensors of one device; got {got}")


def _inputs(m: int, n: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(m * 7919 + n * 31 + k)
    x = torch.randn(m, k, generator=generator).to(torch.bfloat16)
    q, scale = quantise_int8(torch.randn(n, k, generator=generator))
    return x, pack_words(q), scale


def _variants() -> tuple[Variant, ...]:
    types = {"x": "*bf16", "words": "*i16", "sums": "*fp32", "m_rows": "i32", "n_channels": "i32", "k_blocks": "i32"}
    products = [
        Variant(
            name=f"{tile.channels}x{tile.rows}",
            function=_product,
            types=types,
            constants={"CHANNELS": tile.channels, "ROWS": tile.rows, "WIDE": False},
            warps=tile.warps,
            stages=tile.stages,
            elements=tile.channels * K_BLOCK,
            # at 4.3 TB/s, 132 multiprocessors of 1.98 GHz have 7.8 issue slots per byte read
            slots_per_element=5.2,
            multiplies=True,
        )
        for tile in TILES
    ]
    return (*products, add_variant(scaled=True))


KERNEL = Kernel(
    name="int8-linear-gpu",
    reference=reference,
    launch=int8_words_linear,
    inputs=_inputs,
    shapes=(
        (1, 256, 256),
        (1, 130, 768),
        (4, 768, 256),
        (9, 1, 128),
        (17, 37, 384),
        (33, 100, 256),
        (70, 130, 256),
        (260, 40, 128),
        (0, 8, 128),
    ),
    # two bf16 roundings: 2^-8 of the size at most, and the interpreter's bf16 stores truncate
    tolerance=6e-3,
    bytes=lambda m, n, k: n * k + 2 * (n + m * k + m * n),
    flops=lambda m, n, k: 2 * m * n * k,
    variants=_variants(),
)
