"""The Triton functions of `kv_write`. Letters as there."""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import triton
import triton.language as tl

from advisor.kernels.cache.rounding import e4m3, nearest_integer


@triton.jit
def _load(source, starts, tokens, row_mask, cos, sin, FROM: tl.constexpr, BLOCK: tl.constexpr, WIDTH: tl.constexpr, ROTARY: tl.constexpr):
    """Columns `FROM` to `FROM + BLOCK` of the rows at `starts` with rotary positions applied; each product is rounded as in the model."""
    column = FROM + tl.arange(0, BLOCK)[None, :]
    inside = row_mask[:, None] & (column < WIDTH)
    rows = tl.load(source + starts[:, None] + column, mask=inside, other=0.0)
    if ROTARY > 0:
        in_rotary = inside & (column < ROTARY)
        other = tl.where(column < ROTARY // 2, column + ROTARY // 2, column - ROTARY // 2)
        swapped = tl.load(source + starts[:, None] + other, mask=in_rotary, other=0.0).to(tl.float32)
        offsets = tokens[:, None] * ROTARY + column
        sine = tl.load(sin + offsets, mask=in_rotary, other=0.0).to(rows.dtype).to(tl.float32)
        cosine = tl.load(cos + offsets, mask=in_rotary, other=1.0).to(rows.dtype).to(tl.float32)
        swapped = (tl.where(column < ROTARY // 2, -swapped, swapped) * sine).to(rows.dtype)
        straight = (rows.to(tl.float32) * cosine).to(rows.dtype)
        rows = (straight.to(tl.float32) + swapped.to(tl.float32)).to(rows.dtype)
    return rows


@triton.jit
def _rotated(
    source, starts, tokens, row_mask, cos, sin, BLOCK: tl.constexpr, WIDTH: tl.constexpr, ROTARY: tl.constexpr, WIDE: tl.constexpr
):
    """The rows times Sylvester's matrix in blocks of the largest power of two that divides `WIDTH`; its signs are computed in registers."""
    part: tl.constexpr = 32 if BLOCK > 32 else BLOCK
    power: tl.constexpr = WIDTH & -WIDTH
    out = tl.zeros((starts.shape[0], BLOCK), tl.float32)
    column = tl.arange(0, BLOCK)[None, :]
    for start in tl.static_range(0, BLOCK, part):
        rows = _load(source, starts, tokens, row_mask, cos, sin, start, part, WIDTH, ROTARY)
        row = start + tl.arange(0, part)[:, None]
        ones = row & column & (power - 1)
        ones ^= ones >> 4
        ones ^= ones >> 2
        ones ^= ones >> 1
        signs = tl.where(row // power == column // power, 1.0 - 2.0 * (ones & 1), 0.0)
        if WIDE:
            rows = rows.to(tl.float32)
        out = tl.dot(rows, signs.to(rows.dtype), out, input_precision="ieee")
    return out * (power**-0.5)


@triton.jit
def _put(rows, stored, scales, offsets, row_mask, WIDTH: tl.constexpr, BLOCK: tl.constexpr, FORMAT: tl.constexpr):
    """Store float32 `rows` in row `offsets` of the cache, rounded to FORMAT."""
    column = tl.arange(0, BLOCK)[None, :]
    inside = row_mask[:, None] & (column < WIDTH)
    if FORMAT == "bf16":
        tl.store(stored + offsets[:, None] * WIDTH + column, rows.to(stored.dtype.element_ty), mask=inside)
    else:
        largest: tl.constexpr = 448.0 if FORMAT == "fp8" else 127.0 if FORMAT == "int8" else 7.5
        scale = tl.maximum(tl.div_rn(tl.max(tl.abs(rows), 1), largest), 6.103515625e-05).to(tl.float16)
        tl.store(scales + offsets, scale, mask=row_mask)
        rows = tl.div_rn(rows, tl.broadcast_to(scale.to(tl.float32)[:, None], rows.shape))
        if FORMAT == "fp8":
            tl.store(stored + offsets[:, None] * WIDTH + column, e4m3(tl.clamp(rows, -448.0, 448.0)).to(tl.uint8), mask=inside)
        elif FORMAT == "int8":
            levels = nearest_integer(tl.clamp(rows, -127.0, 127.0)).to(tl.int8)
            tl.store(stored + offsets[:, None] * WIDTH + column, levels.to(tl.uint8, bitcast=True), mask=inside)
        else:
            levels = nearest_integer(tl.clamp(rows + 7.5, 0.0, 15.0)).to(tl.uint8)
            even, odd = tl.split(tl.reshape(levels, (rows.shape[0], BLOCK // 2, 2)))
            half = tl.arange(0, BLOCK // 2)[None, :]
            tl.store(stored + offsets[:, None] * (WIDTH // 2) + half, even | (odd << 4), mask=row_mask[:, None] & (half < WIDTH // 2))


@triton.jit
def _write(
    source, stride, slots, stored, scales, ring, pages, cos, sin, tokens_all,
    HEADS: tl.constexpr, SIZE: tl.constexpr, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROTARY: tl.constexpr, FORMAT: tl.constexpr,
    ROWS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Write ROWS rows of keys or of values."""
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    tokens, head = row // HEADS, row % HEADS
    slot = tl.load(slots + tokens, mask=tokens < tokens_all, other=-1)
    row_mask = slot >= 0
    starts = tokens.to(tl.int64) * stride + head * WIDTH
    if FORMAT == "int4":
        rows = _rotated(source, starts, tokens, row_mask, cos, sin, BLOCK, WIDTH, ROTARY, WIDE)
    else:
        rows = _load(source, starts, tokens, row_mask, cos, sin, 0, BLOCK, WIDTH, ROTARY).to(tl.float32)
    _put(rows, stored, scales, (slot // SIZE * HEADS + head) * SIZE + slot % SIZE, row_mask, WIDTH, BLOCK, FORMAT)
    if ring is not None:
        page = tl.load(pages + tokens, mask=row_mask, other=-1)
        offsets = (page.to(tl.int64) * HEADS + head) * SIZE + slot % SIZE
        _put(rows, ring, None, offsets, row_mask & (page >= 0), WIDTH, BLOCK, "bf16")


@triton.jit(do_not_specialize=["tokens_all"])
def write(
    key, value, query, slots, keys, values, key_scales, value_scales, cos, sin, recent_keys, recent_values, recent_pages,
    key_stride, value_stride, query_stride, tokens_all,
    FORMAT: tl.constexpr, HEADS: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr, D: tl.constexpr, E: tl.constexpr,
    ROTARY: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, ROWS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Write ROWS rows of the keys, of the values or, in place, of the query, by the second program index."""
    part = tl.program_id(1)
    if part == 0:
        _write(
            key, key_stride, slots, keys, key_scales, recent_keys, recent_pages, cos, sin, tokens_all,
            KV_HEADS, SIZE, D, BLOCK_D, ROTARY, FORMAT, ROWS, WIDE,
        )  # fmt: skip
    elif part == 1:
        _write(
            value, value_stride, slots, values, value_scales, recent_values, recent_pages, cos, sin, tokens_all,
            KV_HEADS, SIZE, E, BLOCK_E, 0, FORMAT, ROWS, WIDE,
        )  # fmt: skip
    elif query is not None:
        row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
        tokens = row // HEADS
        row_mask = tokens < tokens_all
        starts = tokens.to(tl.int64) * query_stride + row % HEADS * D
        if FORMAT == "int4":
            rows = _rotated(query, starts, tokens, row_mask, cos, sin, BLOCK_D, D, ROTARY, WIDE).to(query.dtype.element_ty)
        else:
            rows = _load(query, starts, tokens, row_mask, cos, sin, 0, BLOCK_D, D, ROTARY)
        tl.debug_barrier()  # until all threads have read what is overwritten
        column = tl.arange(0, BLOCK_D)[None, :]
        tl.store(query + starts[:, None] + column, rows, mask=row_mask[:, None] & (column < D))
