"""Triton functions of the int4 product on a GPU. They compute W·Xᵀ: a tile of weights, made in registers, is the first operand.

Letters: M rows of activations, N output channels, K input channels, G channels per group. `scale_zero` is read as int32 [K/G, N], the
bf16 scale in the low half. Constants: CHANNELS × ROWS of output a program, PLANES of 32 nibbles in a group, or in a block of 128 if the
group is larger; WIDE computes in fp32 for Triton's interpreter.
"""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
import triton
import triton.language as tl


def _biased(plane: int) -> str:
    """PTX: nibble `plane` of two words in the mantissa of bf16 128, which makes 128 + nibble."""
    if plane == 0:
        return "lop3.b32 $0, $1, 0x000f000f, 0x43004300, 0xea;"
    return f"{{ .reg .b32 t; shr.b32 t, $1, {4 * plane}; lop3.b32 $0, t, 0x000f000f, 0x43004300, 0xea; }}"


def _dequantised(plane: int) -> str:
    """PTX: nibble `plane` of two words minus 8, times scale, plus zero, rounded once to bf16."""
    shift = f"shr.b32 t, $1, {4 * plane};" if plane else "mov.b32 t, $1;"
    return (
        f"{{ .reg .b32 t, one, bias; {shift} lop3.b32 t, t, 0x000f000f, 0x43004300, 0xea; mov.b32 one, 0x3f803f80; "
        "mov.b32 bias, 0xc308c308; fma.rn.bf16x2 t, t, one, bias; fma.rn.bf16x2 $0, t, $2, $3; }"
    )


_BIASED_0, _BIASED_1, _BIASED_2, _BIASED_3 = (tl.constexpr(_biased(plane)) for plane in range(4))
_DEQUANTISED_0, _DEQUANTISED_1, _DEQUANTISED_2, _DEQUANTISED_3 = (tl.constexpr(_dequantised(plane)) for plane in range(4))


@triton.jit
def _biased_plane(words, PLANE: tl.constexpr, WIDE: tl.constexpr):
    """128 + nibble of one plane of int16 `words`, exact."""
    if WIDE:
        plane = (((words >> (4 * PLANE)) & 15) | 0x4300).to(tl.int16).to(tl.bfloat16, bitcast=True).to(tl.float32)
    elif PLANE == 0:
        plane = tl.inline_asm_elementwise(_BIASED_0, "=r,r", [words], dtype=tl.bfloat16, is_pure=True, pack=2)
    elif PLANE == 1:
        plane = tl.inline_asm_elementwise(_BIASED_1, "=r,r", [words], dtype=tl.bfloat16, is_pure=True, pack=2)
    elif PLANE == 2:
        plane = tl.inline_asm_elementwise(_BIASED_2, "=r,r", [words], dtype=tl.bfloat16, is_pure=True, pack=2)
    else:
        plane = tl.inline_asm_elementwise(_BIASED_3, "=r,r", [words], dtype=tl.bfloat16, is_pure=True, pack=2)
    return plane


@triton.jit
def _dequantised_plane(words, pair, PLANE: tl.constexpr, WIDE: tl.constexpr):
    """The weights of one plane; `pair` is int32 [CHANNELS] of scale and zero."""
    if WIDE:
        plane = (_biased_plane(words, PLANE, WIDE) - 136.0) * _scale(pair)[:, None] + _zero(pair)[:, None]
    else:
        scale = tl.broadcast_to(pair.to(tl.int16).to(tl.bfloat16, bitcast=True)[:, None], words.shape)
        zero = tl.broadcast_to((pair >> 16).to(tl.int16).to(tl.bfloat16, bitcast=True)[:, None], words.shape)
        if PLANE == 0:
            plane = tl.inline_asm_elementwise(_DEQUANTISED_0, "=r,r,r,r", [words, scale, zero], dtype=tl.bfloat16, is_pure=True, pack=2)
        elif PLANE == 1:
            plane = tl.inline_asm_elementwise(_DEQUANTISED_1, "=r,r,r,r", [words, scale, zero], dtype=tl.bfloat16, is_pure=True, pack=2)
        elif PLANE == 2:
            plane = tl.inline_asm_elementwise(_DEQUANTISED_2, "=r,r,r,r", [words, scale, zero], dtype=tl.bfloat16, is_pure=True, pack=2)
        else:
            plane = tl.inline_asm_elementwise(_DEQUANTISED_3, "=r,r,r,r", [words, scale, zero], dtype=tl.bfloat16, is_pure=True, pack=2)
    return plane


@triton.jit
def _scale(pair):
    """The scale of a pair (low 16 bits), in fp32."""
    return (pair << 16).to(tl.float32, bitcast=True)


@triton.jit
def _zero(pair):
    """The zero of a pair (high 16 bits), in fp32."""
    return ((pair >> 16) << 16).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=["m_rows", "n_channels", "k_blocks", "group_blocks"])
def product(
    x, words, scale_zero, sums, m_rows, n_channels, k_blocks, group_blocks,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr, PLANES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """fp32 `sums` [splits, M, N] of scale·(128 + nibble)·x over one split of K; `combine` adds the constant terms."""
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    part = tl.program_id(2)
    blocks_per_split = tl.cdiv(k_blocks, tl.num_programs(2))
    i = tl.arange(0, 32)
    # channels beyond N read the last one's weights and are not stored
    channels = tl.minimum(n, n_channels - 1)
    word_pointers = words + channels.to(tl.int64)[:, None] * (k_blocks * 32) + i[None, :]
    x_pointers = x + m.to(tl.int64)[None, :] * (k_blocks * 128) + i[:, None]
    real_rows = (m < m_rows)[None, :]
    total = tl.zeros((CHANNELS, ROWS), tl.float32)
    for block in range(part * blocks_per_split, tl.minimum(part * blocks_per_split + blocks_per_split, k_blocks)):
        packed = tl.load(word_pointers + block * 32, eviction_policy="evict_first")
        group = (block // group_blocks) * (4 // PLANES)
        sums_of_group = tl.zeros((CHANNELS, ROWS), tl.float32)
        for plane in tl.static_range(4):
            columns = tl.load(x_pointers + block * 128 + plane * 32, mask=real_rows, other=0.0)
            if WIDE:
                columns = columns.to(tl.float32)
            sums_of_group = tl.dot(_biased_plane(packed, plane, WIDE), columns, sums_of_group)
            if (plane + 1) % PLANES == 0:
                pair = tl.load(scale_zero + (group + plane // PLANES) * n_channels + channels)
                total += sums_of_group * _scale(pair)[:, None]
                sums_of_group = tl.zeros((CHANNELS, ROWS), tl.float32)
    offsets = sums + (part * m_rows + m).to(tl.int64)[None, :] * n_channels + n[:, None]
    tl.store(offsets, total, mask=(n < n_channels)[:, None] & real_rows)


@triton.jit(do_not_specialize=["m_rows", "n_channels", "k_blocks", "group_planes", "splits"])
def combine(
    sums, x, scale_zero, out, m_rows, n_channels, k_blocks, group_planes, splits,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """`out` [M, N]: `sums` of all splits, added in order, plus (zero − 136·scale)·(sum of x) of every group."""
    n = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    m = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside = (m < m_rows)[:, None] & (n < n_channels)[None, :]
    offsets = m.to(tl.int64)[:, None] * n_channels + n[None, :]
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    sum_pointers = sums + offsets
    for _ in range(splits):
        total += tl.load(sum_pointers, mask=inside, other=0.0)
        sum_pointers += m_rows * n_channels
    g, i = tl.arange(0, 16), tl.arange(0, 32)
    groups = k_blocks * 4 // group_planes
    x_pointers = x + m.to(tl.int64)[:, None, None] * (k_blocks * 128) + i[None, None, :]
    for first in range(0, groups, 16):
        inside_group = first + g < groups
        group_sums = tl.zeros((ROWS, 16), tl.float32)
        for plane in range(group_planes):
            column_pointers = x_pointers + (((first + g) * group_planes + plane) * 32)[None, :, None]
            values = tl.load(column_pointers, mask=(m < m_rows)[:, None, None] & inside_group[None, :, None], other=0.0)
            group_sums += tl.sum(values.to(tl.float32), 2)
        pair_pointers = scale_zero + (first + g).to(tl.int64)[:, None] * n_channels + n[None, :]
        pair = tl.load(pair_pointers, mask=inside_group[:, None] & (n < n_channels)[None, :], other=0)
        correction = _zero(pair) - 136.0 * _scale(pair)
        if ROWS == 1:
            total += tl.sum(tl.trans(group_sums) * correction, 0)[None, :]
        else:
            total = tl.dot(group_sums, correction, total, input_precision="ieee")
    tl.store(out + offsets, total, mask=inside)


@triton.jit(do_not_specialize=["m_rows", "n_channels", "k_blocks", "group_blocks"])
def product_of_weights(
    x, words, scale_zero, sums, m_rows, n_channels, k_blocks, group_blocks,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr, PLANES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """fp32 `sums` [splits, M, N] over one split of K, of weights that are rounded to bf16 in registers."""
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    part = tl.program_id(2)
    blocks_per_split = tl.cdiv(k_blocks, tl.num_programs(2))
    i = tl.arange(0, 32)
    channels = tl.minimum(n, n_channels - 1)
    word_pointers = words + channels.to(tl.int64)[:, None] * (k_blocks * 32) + i[None, :]
    pair_pointers = scale_zero + channels
    x_pointers = x + tl.minimum(m, m_rows - 1)[None, :] * (k_blocks * 128) + i[:, None]
    total = tl.zeros((CHANNELS, ROWS), tl.float32)
    for block in range(part * blocks_per_split, tl.minimum(part * blocks_per_split + blocks_per_split, k_blocks)):
        packed = tl.load(word_pointers + block * 32, eviction_policy="evict_first")
        group = (block // group_blocks) * (4 // PLANES)
        for plane in tl.static_range(4):
            if plane % PLANES == 0:
                pair = tl.load(pair_pointers + (group + plane // PLANES) * n_channels)
            columns = tl.load(x_pointers + block * 128 + plane * 32)
            if WIDE:
                columns = columns.to(tl.float32)
            total = tl.dot(_dequantised_plane(packed, pair, plane, WIDE), columns, total)
    offsets = sums + (part * m_rows + m).to(tl.int64)[None, :] * n_channels + n[:, None]
    tl.store(offsets, total, mask=(n < n_channels)[:, None] & (m < m_rows)[None, :])


@triton.jit(do_not_specialize=["rows", "n_channels", "k_blocks", "group_planes"])
def dequantise(words, scale_zero, out, rows, n_channels, k_blocks, group_planes, CHANNELS: tl.constexpr):
    """Write the first `rows` channels as bf16 weights to `out` [rows, K]; `n_channels` is the stride of `scale_zero`."""
    n = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    block = tl.program_id(1)
    i = tl.arange(0, 32)
    inside = (n < rows)[:, None]
    packed = tl.load(words + n.to(tl.int64)[:, None] * (k_blocks * 32) + block * 32 + i[None, :], mask=inside, other=0)
    for plane in tl.static_range(4):
        pair_pointers = scale_zero + ((block * 4 + plane) // group_planes).to(tl.int64) * n_channels + n
        pair = tl.load(pair_pointers, mask=n < rows, other=0)
        levels = ((packed >> (4 * plane)) & 15).to(tl.float32) - 8.0
        weights = levels * _scale(pair)[:, None] + _zero(pair)[:, None]
        tl.store(out + n.to(tl.int64)[:, None] * (k_blocks * 128) + block * 128 + plane * 32 + i[None, :], weights, mask=inside)
