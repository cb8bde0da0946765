"""The Triton functions of `paged_decode`: partial attention over a share of the keys, and the combination of the shares.

Letters as there. `STEP` dims lie in a word of the cache, `ROWS` is W·G padded to a power of two, `TILE` the keys of an iteration.
"""

# mypy: disable-error-code="no-untyped-def, untyped-decorator, assignment"
import triton
import triton.language as tl

from advisor.kernels.cache.cache_words import plane


@triton.jit
def _load(source, starts, row_mask, WIDTH: tl.constexpr, BLOCK: tl.constexpr, WORDS: tl.constexpr, STEP: tl.constexpr):
    """Load the rows of `WIDTH` elements at `starts`: words of `STEP` elements [.., BLOCK], or `STEP` planes of elements."""
    columns = tl.arange(0, BLOCK)
    mask = row_mask[:, None] & (columns < WIDTH // STEP)[None, :]
    if WORDS:
        loaded = (tl.load(source + starts[:, None] + columns[None, :], mask=mask, other=0),)
    else:
        loaded = ()
        for p in tl.static_range(STEP):
            loaded += (tl.load(source + starts[:, None] + STEP * columns[None, :] + p, mask=mask, other=0.0),)
    return loaded


@triton.jit
def _plane(loaded, p: tl.constexpr, FORMAT: tl.constexpr, WIDE: tl.constexpr):
    """Plane `p` of a result of `_load`, in a type that `tl.dot` takes."""
    numbers = loaded[p] if FORMAT == "bf16" else plane(loaded[0], FORMAT, p, not WIDE)
    return numbers.to(tl.float32) if WIDE else numbers


@triton.jit
def _queries(
    query, starts, row_mask, WIDTH: tl.constexpr, BLOCK: tl.constexpr, STEP: tl.constexpr, FORMAT: tl.constexpr, WIDE: tl.constexpr
):
    """Planes of the query rows, and the constant to add to each row's scores, as int4 levels are stored 7.5 too high."""
    loaded = _load(query, starts, row_mask, WIDTH, BLOCK, False, STEP)
    planes = ()
    offset_scores = tl.zeros(starts.shape, tl.float32)
    for p in tl.static_range(STEP):
        numbers = loaded[p].to(tl.float32) if WIDE else loaded[p] if FORMAT == "bf16" else loaded[p].to(tl.float16)
        if FORMAT == "int4":
            offset_scores -= tl.sum(numbers.to(tl.float32), 1) * (7.5 * 2.0**-24)
        planes += (numbers * 0.0625 if FORMAT == "int4" and p % 2 else numbers,)
    return planes, offset_scores


@triton.jit
def _sweep_kernel(
    state, query, offset_scores, cache, pages, head, start, stop, positions, bits, length, window, scale, softcap,
    FORMAT: tl.constexpr, NEWEST: tl.constexpr, WIDTH: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, STEP: tl.constexpr, TILE: tl.constexpr,
    WINDOWED: tl.constexpr, SOFTCAP: tl.constexpr, TREE: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Add the keys at positions `start` to `stop` to the running softmax, a tile at a time; returns its new state."""
    keys, values, key_scales, value_scales = cache
    highest, total, weighted, sums = state
    for base in tl.range(start, stop, TILE):
        key_positions = base + tl.arange(0, TILE)
        in_span = key_positions < stop
        page = pages if NEWEST else tl.load(pages + key_positions // SIZE, mask=in_span, other=0)
        rows = (page * KV_HEADS + head) * SIZE + key_positions % SIZE
        if FORMAT == "bf16":
            factor = scale
        else:
            # loaded early, so that they arrive while the keys are multiplied
            factor = (tl.load(key_scales + rows, mask=in_span, other=0.0).to(tl.float32) * scale)[None, :]
            value_scale = tl.load(value_scales + rows, mask=in_span, other=0.0)
        key = _load(keys, rows.to(tl.int64) * (D // STEP), in_span, D, BLOCK_D, FORMAT != "bf16", STEP)
        scores = tl.broadcast_to(offset_scores[:, None], (offset_scores.shape[0], TILE))
        for p in tl.static_range(STEP):
            scores = tl.dot(query[p], tl.trans(_plane(key, p, FORMAT, WIDE)), scores, input_precision="ieee")
        scores *= factor
        if SOFTCAP:
            scores = softcap * (1.0 - 2.0 / (tl.exp2(scores) + 1.0))
        scores += tl.where(in_span, 0.0, float("-inf"))[None, :]
        if TREE:
            new = (key_positions - (length - WIDTH))[None, :]
            visible = ((bits[:, None] >> tl.minimum(tl.maximum(new, 0), 63)) & 1) > 0
            scores = tl.where((new < 0) | visible, scores, float("-inf"))
        elif WIDTH > 1:
            scores = tl.where(key_positions[None, :] <= positions[:, None], scores, float("-inf"))
        if WINDOWED and WIDTH > 1:
            scores = tl.where(key_positions[None, :] > positions[:, None] - window, scores, float("-inf"))
        new_highest = tl.maximum(highest, tl.max(scores, 1))
        finite = tl.where(new_highest == float("-inf"), 0.0, new_highest)
        decay = tl.exp2(highest - finite)
        weights = tl.exp2(scores - finite[:, None])
        highest = new_highest
        total = total * decay + tl.sum(weights, 1)
        if FORMAT != "bf16":
            headroom: tl.constexpr = 256.0 if FORMAT == "fp8" else 128.0 if FORMAT == "int8" else 8.0
            weights *= (value_scale.to(tl.float32) * headroom)[None, :]
        if not WIDE:
            weights = weights.to(values.dtype.element_ty if FORMAT == "bf16" else tl.float16)
        if FORMAT == "int4":
            weighted = weighted * decay + tl.sum(weights.to(tl.float32), 1)
        value = _load(values, rows.to(tl.int64) * (E // STEP), in_span, E, BLOCK_E, FORMAT != "bf16", STEP)
        new_sums = ()
        for p in tl.static_range(STEP):
            new_sums += (tl.dot(weights, _plane(value, p, FORMAT, WIDE), sums[p] * decay[:, None], input_precision="ieee"),)
        sums = new_sums
    return highest, total, weighted, sums


@triton.jit
def _split_kernel(
    query, first_query, cache, pages, sinks, ancestors, out, logarithms, spans, length, sequence, head, split,
    scale, softcap, window, sequence_stride, token_stride,
    FORMAT: tl.constexpr, NEWEST: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, STEP: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, ROWS: tl.constexpr,
    TILE: tl.constexpr, SHARES: tl.constexpr, WINDOWED: tl.constexpr, FIRST: tl.constexpr, SOFTCAP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Attend to the positions of `spans`; store the partial result with its weight, or the output itself if there is one share only."""
    log2e: tl.constexpr = 1.4426950408889634
    unit: tl.constexpr = 256.0 if FORMAT == "fp8" else 2.0**24 if FORMAT == "int4" else 1.0
    row = tl.arange(0, ROWS)
    real = row < WIDTH * GROUP
    token, query_head = sequence * WIDTH + row // GROUP, head * GROUP + row % GROUP
    positions = length - WIDTH + row // GROUP
    query_starts = sequence.to(tl.int64) * sequence_stride + row // GROUP * token_stride + query_head * D
    bits = tl.load(ancestors + token, mask=real, other=0) if ancestors is not None else 0
    if SOFTCAP:
        scale, softcap = scale * (2 * log2e * unit) / softcap, softcap * log2e
    else:
        scale *= log2e * unit
    highest = tl.full((ROWS,), float("-inf"), tl.float32)
    total = tl.zeros((ROWS,), tl.float32)
    if sinks is not None and split == 0:
        highest = tl.load(sinks + query_head, mask=real, other=0.0).to(tl.float32) * log2e
        total += 1.0
    sums = ()
    for _ in tl.static_range(STEP):
        sums += (tl.zeros((ROWS, BLOCK_E), tl.float32),)
    state = (highest, total, tl.zeros((ROWS,), tl.float32), sums)
    if FIRST:
        planes, offset_scores = _queries(query if first_query is None else first_query, query_starts, real, D, BLOCK_D, STEP, FORMAT, WIDE)
        state = _sweep_kernel(
            state, planes, offset_scores, cache, pages, head, spans[0], spans[1], positions, bits, length, window, scale, softcap,
            FORMAT, NEWEST, WIDTH, KV_HEADS, SIZE, D, E, BLOCK_D, BLOCK_E, STEP, TILE, False, SOFTCAP, ancestors is not None, WIDE,
        )  # fmt: skip
    planes, offset_scores = _queries(query, query_starts, real, D, BLOCK_D, STEP, FORMAT, WIDE)
    state = _sweep_kernel(
        state, planes, offset_scores, cache, pages, head, spans[2], spans[3], positions, bits, length, window, scale, softcap,
        FORMAT, NEWEST, WIDTH, KV_HEADS, SIZE, D, E, BLOCK_D, BLOCK_E, STEP, TILE, WINDOWED, SOFTCAP, ancestors is not None, WIDE,
    )  # fmt: skip
    highest, total, weighted, sums = state
    share = 1.0 / tl.where(total > 0, total, 1.0)
    part = (sequence * KV_HEADS + head) * SHARES + split
    stored = part.to(tl.int64) * (WIDTH * GROUP) + row if SHARES > 1 else token.to(tl.int64) * (KV_HEADS * GROUP) + query_head
    column = tl.arange(0, BLOCK_E)
    inside = real[:, None] & (column < E // STEP)[None, :]
    for p in tl.static_range(STEP):
        numbers = sums[p]
        if FORMAT == "int8":
            numbers *= 1 / 128
        elif FORMAT == "int4":
            numbers = numbers * (2.0**17 if p % 2 else 2.0**21) - weighted[:, None] * (7.5 / 8)
        numbers *= share[:, None]
        tl.store(out + stored[:, None] * E + STEP * column[None, :] + p, numbers.to(out.dtype.element_ty), mask=inside)
    if SHARES > 1:
        tl.store(logarithms + stored, tl.where(total > 0, highest + tl.log2(tl.where(total > 0, total, 1.0)), float("-inf")), mask=real)


@triton.jit(do_not_specialize=["window", "first", "table_stride"])
def attend(
    query, first_query, keys, values, key_scales, value_scales, recent_keys, recent_values, recent_rows,
    tables, lengths, sinks, ancestors, out, logarithms, scale, softcap, window, first, sequence_stride, token_stride, table_stride,
    FORMAT: tl.constexpr, STEP: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr, KV_HEADS: tl.constexpr, SIZE: tl.constexpr,
    D: tl.constexpr, E: tl.constexpr, BLOCK_D: tl.constexpr, BLOCK_E: tl.constexpr, ROWS: tl.constexpr, TILE: tl.constexpr,
    SPLITS: tl.constexpr, WINDOWED: tl.constexpr, FIRST: tl.constexpr, SOFTCAP: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """One share of the keys of one sequence and key-value head; with a ring of newest pages, the last share is the page in the ring."""
    split, head, sequence = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    SHARES: tl.constexpr = SPLITS if recent_keys is None else SPLITS + 1
    length = tl.load(lengths + sequence)
    newest = length if recent_keys is None else tl.maximum(length - 1, 0) // SIZE * SIZE
    begin = tl.maximum(length - WIDTH - window + 1, 0) if WINDOWED else 0
    if FIRST:
        begin = tl.maximum(begin, first)
    if split < SPLITS:
        share = tl.cdiv(tl.cdiv(tl.maximum(newest - begin, 0), TILE), SPLITS) * TILE
        start = begin + split * share
        spans = (0, tl.minimum(first, newest) if split == 0 else 0, start, tl.minimum(start + share, newest))
        _split_kernel(
            query, first_query, (keys, values, key_scales, value_scales), tables + sequence * table_stride, sinks, ancestors,
            out, logarithms, spans, length, sequence, head, split, scale, softcap, window, sequence_stride, token_stride,
            FORMAT, False, WIDTH, GROUP, KV_HEADS, SIZE, D, E, STEP, BLOCK_D, BLOCK_E, ROWS,
            TILE, SHARES, WINDOWED, FIRST, SOFTCAP, WIDE,
        )  # fmt: skip
    elif recent_keys is not None:
        page = tl.load(recent_rows + sequence) * 2 + (newest // SIZE) % 2
        spans = (newest, tl.minimum(first, length), tl.maximum(begin, newest), length)
        _split_kernel(
            query, first_query, (recent_keys, recent_values, None, None), page, sinks, ancestors,
            out, logarithms, spans, length, sequence, head, split, scale, softcap, window, sequence_stride, token_stride,
            "bf16", True, WIDTH, GROUP, KV_HEADS, SIZE, D, E, 1, STEP * BLOCK_D, STEP * BLOCK_E, ROWS,
            16, SHARES, WINDOWED, FIRST, SOFTCAP, WIDE,
        )  # fmt: skip


@triton.jit
def combine(parts, logarithms, out, E: tl.constexpr, BLOCK: tl.constexpr, WIDTH: tl.constexpr, GROUP: tl.constexpr, SHARES: tl.constexpr):
    """Combine the shares of one query row, weighted by their parts of the softmax."""
    row, head, sequence = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    kv_heads = tl.num_programs(1)
    share, column = tl.arange(0, triton.next_power_of_2(SHARES)), tl.arange(0, BLOCK)
    part_rows = ((sequence * kv_heads + head) * SHARES + share).to(tl.int64) * (WIDTH * GROUP) + row
    logarithm = tl.load(logarithms + part_rows, mask=share < SHARES, other=float("-inf"))
    highest = tl.max(logarithm, 0)
    weights = tl.exp2(logarithm - tl.where(highest == float("-inf"), 0.0, highest))
    inside = (logarithm > float("-inf"))[:, None] & (column < E)[None, :]
    numbers = tl.load(parts + part_rows[:, None] * E + column[None, :], mask=inside, other=0.0)
    total = tl.sum(weights, 0)
    result = tl.sum(numbers * weights[:, None], 0) / tl.where(total > 0, total, 1.0)
    token, query_head = sequence * WIDTH + row // GROUP, head * GROUP + row % GROUP
    out_start = (token.to(tl.int64) * (kv_heads * GROUP) + query_head) * E
    tl.store(out + out_start + column, result.to(out.dtype.element_ty), mask=column < E)
