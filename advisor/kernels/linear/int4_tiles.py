"""Triton functions of the int4 product on a GPU. The product is Wᵀ's: a tile of weights, made in registers, is its first operand.

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
    """PTX: the same less 136, exactly, times scale plus zero, rounded once."""
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
def _dequantised_plane(words, both, PLANE: tl.constexpr, WIDE: tl.constexpr):
    """The weights of one plane; `both` is [CHANNELS] of scale and zero."""
    if WIDE:
        plane = (_biased_plane(words, PLANE, WIDE) - 136.0) * _scale(both)[:, None] + _zero(both)[:, None]
    else:
        scale = tl.broadcast_to(both.to(tl.int16).to(tl.bfloat16, bitcast=True)[:, None], words.shape)
        zero = tl.broadcast_to((both >> 16).to(tl.int16).to(tl.bfloat16, bitcast=True)[:, None], words.shape)
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
def _scale(both):
    """The scale, in fp32."""
    return (both << 16).to(tl.float32, bitcast=True)


@triton.jit
def _zero(both):
    """The zero, in fp32."""
    return ((both >> 16) << 16).to(tl.float32, bitcast=True)


@triton.jit(do_not_specialize=["m_rows", "n_channels", "k_blocks", "group_blocks"])
def product(
    x, words, scale_zero, sums, m_rows, n_channels, k_blocks, group_blocks,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr, PLANES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """fp32 `sums` [parts, M, N] of scale·(128 + nibble)·x over one part of K: what is missing, `combine` adds."""
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    part = tl.program_id(2)
    each = tl.cdiv(k_blocks, tl.num_programs(2))
    i = tl.arange(0, 32)
    # channels beyond N read the last one's weights and are not stored
    kept = tl.minimum(n, n_channels - 1)
    word_at = words + kept.to(tl.int64)[:, None] * (k_blocks * 32) + i[None, :]
    x_at = x + m.to(tl.int64)[None, :] * (k_blocks * 128) + i[:, None]
    seen = (m < m_rows)[None, :]
    total = tl.zeros((CHANNELS, ROWS), tl.float32)
    for block in range(part * each, tl.minimum(part * each + each, k_blocks)):
        quads = tl.load(word_at + block * 32, eviction_policy="evict_first")
        group = (block // group_blocks) * (4 // PLANES)
        sums_of_group = tl.zeros((CHANNELS, ROWS), tl.float32)
        for plane in tl.static_range(4):
            columns = tl.load(x_at + block * 128 + plane * 32, mask=seen, other=0.0)
            if WIDE:
                columns = columns.to(tl.float32)
            sums_of_group = tl.dot(_biased_plane(quads, plane, WIDE), columns, sums_of_group)
            if (plane + 1) % PLANES == 0:
                both = tl.load(scale_zero + (group + plane // PLANES) * n_channels + kept)
                total += sums_of_group * _scale(both)[:, None]
                sums_of_group = tl.zeros((CHANNELS, ROWS), tl.float32)
    at = sums + (part * m_rows + m).to(tl.int64)[None, :] * n_channels + n[:, None]
    tl.store(at, total, mask=(n < n_channels)[:, None] & seen)


@triton.jit(do_not_specialize=["m_rows", "n_channels", "k_blocks", "group_planes", "parts"])
def combine(
    sums, x, scale_zero, out, m_rows, n_channels, k_blocks, group_planes, parts,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """`out` [M, N] = the sums of all parts, in order, and (zero − 136·scale)·(sum of x) of every group."""
    n = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    m = tl.program_id(1) * ROWS + tl.arange(0, ROWS)
    inside = (m < m_rows)[:, None] & (n < n_channels)[None, :]
    at = m.to(tl.int64)[:, None] * n_channels + n[None, :]
    total = tl.zeros((ROWS, CHANNELS), tl.float32)
    sum_at = sums + at
    for _ in range(parts):
        total += tl.load(sum_at, mask=inside, other=0.0)
        sum_at += m_rows * n_channels
    g, i = tl.arange(0, 16), tl.arange(0, 32)
    groups = k_blocks * 4 // group_planes
    x_at = x + m.to(tl.int64)[:, None, None] * (k_blocks * 128) + i[None, None, :]
    for first in range(0, groups, 16):
        known = first + g < groups
        of_x = tl.zeros((ROWS, 16), tl.float32)
        for plane in range(group_planes):
            column_at = x_at + (((first + g) * group_planes + plane) * 32)[None, :, None]
            values = tl.load(column_at, mask=(m < m_rows)[:, None, None] & known[None, :, None], other=0.0)
            of_x += tl.sum(values.to(tl.float32), 2)
        both_at = scale_zero + (first + g).to(tl.int64)[:, None] * n_channels + n[None, :]
        both = tl.load(both_at, mask=known[:, None] & (n < n_channels)[None, :], other=0)
        missing = _zero(both) - 136.0 * _scale(both)
        if ROWS == 1:
            total += tl.sum(tl.trans(of_x) * missing, 0)[None, :]
        else:
            total = tl.dot(of_x, missing, total, input_precision="ieee")
    tl.store(out + at, total, mask=inside)


@triton.jit(do_not_specialize=["m_rows", "n_channels", "k_blocks", "group_blocks"])
def product_of_weights(
    x, words, scale_zero, sums, m_rows, n_channels, k_blocks, group_blocks,
    CHANNELS: tl.constexpr, ROWS: tl.constexpr, PLANES: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """fp32 `sums` [parts, M, N] over one part of K, of weights that are rounded to bf16 in registers."""
    m = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    n = tl.program_id(1) * CHANNELS + tl.arange(0, CHANNELS)
    part = tl.program_id(2)
    each = tl.cdiv(k_blocks, tl.num_programs(2))
    i = tl.arange(0, 32)
    kept = tl.minimum(n, n_channels - 1)
    word_at = words + kept.to(tl.int64)[:, None] * (k_blocks * 32) + i[None, :]
    both_at = scale_zero + kept
    x_at = x + tl.minimum(m, m_rows - 1)[None, :] * (k_blocks * 128) + i[:, None]
    total = tl.zeros((CHANNELS, ROWS), tl.float32)
    for block in range(part * each, tl.minimum(part * each + each, k_blocks)):
        quads = tl.load(word_at + block * 32, eviction_policy="evict_first")
        group = (block // group_blocks) * (4 // PLANES)
        for plane in tl.static_range(4):
            if plane % PLANES == 0:
                both = tl.load(both_at + (group + plane // PLANES) * n_channels)
            columns = tl.load(x_at + block * 128 + plane * 32)
            if WIDE:
                columns = columns.to(tl.float32)
            total = tl.dot(_dequantised_plane(quads, both, plane, WIDE), columns, total)
    at = sums + (part * m_rows + m).to(tl.int64)[None, :] * n_channels + n[:, None]
    tl.store(at, total, mask=(n < n_channels)[:, None] & (m < m_rows)[None, :])


@triton.jit(do_not_specialize=["rows", "n_channels", "k_blocks", "group_planes"])
def dequantise(words, scale_zero, out, rows, n_channels, k_blocks, group_planes, CHANNELS: tl.constexpr):
    """The first `rows` channels of weights to bf16 `out` [rows, K]; `n_channels` is the stride of `scale_zero`."""
    n = tl.program_id(0) * CHANNELS + tl.arange(0, CHANNELS)
    block = tl.program_id(1)
    i = tl.arange(0, 32)
    inside = (n < rows)[:, None]
    quads = tl.load(words + n.to(tl.int64)[:, None] * (k_blocks * 32) + block * 32 + i[None, :], mask=inside, other=0)
    for plane in tl.static_range(4):
        both_at = scale_zero + ((block * 4 + plane) // group_planes).to(tl.int64) * n_channels + n
        both = tl.load(both_at, mask=n < rows, other=0)
        levels = ((quads >> (4 * plane)) & 15).to(tl.float32) - 8.0
        weights = levels * _scale(both)[:, None] + _zero(both)[:, None]
        tl.store(out + n.to(tl.int64)[:, None] * (k_blocks * 128) + block * 128 + plane * 32 + i[None, :], weights, mask=inside)
