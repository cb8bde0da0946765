"""Block-sparse attention of a prompt or of its last chunk, in Triton; the reference and the CPU form are in `block_sparse_torch`.

Letters: N sequences, T queries at the end of L keys, H query heads, K key-value heads, G = H / K, D width, Q query blocks,
S tokens of a block, M rows of a program.
"""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

from functools import lru_cache
from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from advisor.kernels.attention.block_pattern import BlockPattern, block_lists
from advisor.kernels.attention.block_sparse_forms import architecture_of, form_of
from advisor.kernels.attention.block_sparse_torch import attend_on_cpu, block_sparse_reference, check, default_scale
from advisor.kernels.kernel import INTERPRETED, Kernel, Variant
from advisor.kernels.launch_sizes import padded

LOG2_E = tl.constexpr(1.4426950408889634)
"""Scores are raised to powers of two, which a GPU computes in one instruction."""
_NO_WINDOW = 2**31 - 1


def block_sparse_attention(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    pattern: BlockPattern,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """Attend under `pattern`, computing only the blocks it visits: in Triton on a GPU, one product per query block on a CPU.

    `query` is [N, T, H, D], the last T of the L positions; `keys` and `values` are [N, L, K, D], all of one floating type; `sinks` [H]
    are learned logits without a value; `scale` is D^-0.5 by default; `softcap` bounds the scores. Returns [N, T, H, D].
    Raises `ValueError` for shapes, types or devices that do not fit together, on a GPU also for 4-byte types and blocks below 64.
    """
    check(query, keys, values, sinks)
    if query.device.type == "cpu":
        return attend_on_cpu(query, keys, values, pattern, default_scale(query, scale), softcap, sinks)
    return launch_block_sparse(query, keys, values, pattern, scale, softcap, sinks)


@triton.jit
def _visit(
    acc, highest, total, q, keys, values, blocks, is_global, start, stop, positions, query_global,
    key_row, value_row, length, window, first, factor, bend,
    SIZE: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr, PADDED: tl.constexpr,
    MASKED: tl.constexpr, GLOBAL: tl.constexpr, CAPPED: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """Attend to the listed blocks `start` to `stop`, COLUMNS keys at a time; returns the softmax's new (acc, highest, total)."""
    column, d = tl.arange(0, COLUMNS), tl.arange(0, PADDED)
    parts: tl.constexpr = SIZE // COLUMNS
    for i in range(start * parts, stop * parts):
        begin = tl.load(blocks + i // parts) * SIZE + i % parts * COLUMNS
        key_positions = begin + column
        real = d[None, :] < WIDTH
        loadable = real & (key_positions[:, None] < length) if MASKED else real
        base = begin.to(tl.int64)
        key = tl.load(keys + base * key_row + column[:, None] * key_row + d[None, :], mask=loadable, other=0.0)  # [COLUMNS, PADDED]
        if WIDE:
            key = key.to(tl.float32)
        scores = tl.dot(q, tl.trans(key), input_precision="ieee")  # [M, COLUMNS]
        if CAPPED:  # tanh, by the exponential that a GPU has
            scores = 1.0 - 2.0 / (tl.exp2(scores * bend) + 1.0)
        if MASKED:
            visible = (key_positions[None, :] > positions[:, None] - window) | (key_positions < first)[None, :]
            if GLOBAL:
                key_global = tl.load(is_global + key_positions, mask=key_positions < length, other=0) != 0
                visible = visible | key_global[None, :] | query_global[:, None]
            visible = visible & (key_positions[None, :] <= positions[:, None]) & (key_positions < length)[None, :]
            scores = tl.where(visible, scores, float("-inf"))
        new_highest = tl.maximum(highest, tl.max(scores, 1) * factor)
        weights = tl.exp2(scores * factor - new_highest[:, None])
        shrink = tl.exp2(highest - new_highest)
        total = total * shrink + tl.sum(weights, 1)
        value = tl.load(values + base * value_row + column[:, None] * value_row + d[None, :], mask=loadable, other=0.0)
        if WIDE:
            value = value.to(tl.float32)
        acc = tl.dot(weights.to(value.dtype), value, acc * shrink[:, None], input_precision="ieee")
        highest = new_highest
    return acc, highest, total


@triton.jit(do_not_specialize=["queries", "length", "first_block", "window", "first"])
def _block_sparse(
    query, keys, values, out, starts, full, blocks, is_global, sinks,
    query_sequence, query_row, query_head, key_sequence, key_row, key_head, value_sequence, value_row, value_head,
    queries, length, first_block, window, first, factor, bend,
    HEADS: tl.constexpr, GROUPS: tl.constexpr, PACK: tl.constexpr, ROWS: tl.constexpr, SIZE: tl.constexpr, COLUMNS: tl.constexpr,
    WIDTH: tl.constexpr, PADDED: tl.constexpr, GLOBAL: tl.constexpr, CAPPED: tl.constexpr, SINKS: tl.constexpr, WIDE: tl.constexpr,
):  # fmt: skip
    """One tile: ROWS queries of PACK heads that share keys. The last queries, which see most keys, are scheduled first."""
    tile = tl.num_programs(1) - 1 - tl.program_id(1)
    head, sequence = tl.program_id(0) * PACK, tl.program_id(2).to(tl.int64)
    m, d = tl.arange(0, ROWS * PACK), tl.arange(0, PADDED)
    block = tile // (SIZE // ROWS)
    begin = first_block * SIZE + tile * ROWS - (length - queries)  # row of the first query, negative where a chunk starts within
    row = begin + m % ROWS
    heads = head + m // ROWS
    inside = ((row >= 0) & (row < queries))[:, None] & (d < WIDTH)[None, :]
    query_offsets = begin.to(tl.int64) * query_row + (m % ROWS) * query_row + heads * query_head
    q = tl.load(query + sequence * query_sequence + query_offsets[:, None] + d[None, :], mask=inside, other=0.0)
    if WIDE:
        q = q.to(tl.float32)
    positions = row + (length - queries)
    # finite, so that rows that see no key of a block do not become NaN
    highest = tl.full((ROWS * PACK,), -1e30, tl.float32)
    total = tl.zeros((ROWS * PACK,), tl.float32)
    if SINKS:
        highest = tl.maximum(tl.load(sinks + heads).to(tl.float32) * LOG2_E, -1e30)
        total += 1.0
    acc = tl.zeros((ROWS * PACK, PADDED), tl.float32)
    query_global = row < 0
    if GLOBAL:
        query_global = tl.load(is_global + positions, mask=(positions >= 0) & (positions < length), other=0) != 0
    keys += sequence * key_sequence + (head // GROUPS) * key_head
    values += sequence * value_sequence + (head // GROUPS) * value_head
    start, stop = tl.load(starts + block), tl.load(starts + block + 1)
    middle = start + tl.load(full + block)
    acc, highest, total = _visit(
        acc, highest, total, q, keys, values, blocks, is_global, start, middle, positions, query_global,
        key_row, value_row, length, window, first, factor, bend,
        SIZE, COLUMNS, WIDTH, PADDED, False, GLOBAL, CAPPED, WIDE,
    )  # fmt: skip
    acc, highest, total = _visit(
        acc, highest, total, q, keys, values, blocks, is_global, middle, stop, positions, query_global,
        key_row, value_row, length, window, first, factor, bend,
        SIZE, COLUMNS, WIDTH, PADDED, True, GLOBAL, CAPPED, WIDE,
    )  # fmt: skip
    out_offsets = ((sequence * queries + begin) * HEADS + (m % ROWS) * HEADS + heads) * WIDTH
    tl.store(out + out_offsets[:, None] + d[None, :], (acc / tl.maximum(total, 1e-30)[:, None]).to(out.dtype.element_ty), mask=inside)


def launch_block_sparse(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    pattern: BlockPattern,
    scale: float | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
) -> Tensor:
    """`block_sparse_attention` in Triton, on a GPU or in the interpreter. Raises `ValueError` as it does on a GPU."""
    check(query, keys, values, sinks)
    if not INTERPRETED and (query.element_size() != 2 or pattern.block < 64):
        raise ValueError(
            f"on a GPU, block_sparse_attention takes 2-byte types and blocks of 64 or 128; got {query.dtype} and {pattern.block}"
        )
    query, keys, values = (tensor if tensor.stride(-1) == 1 else tensor.contiguous() for tensor in (query, keys, values))
    sequences, width, heads, size = query.shape
    length, kv_heads = keys.shape[1:3]
    out = query.new_empty(query.shape)
    if not out.numel():
        return out
    lists = block_lists(pattern, width, length, str(query.device))
    form = form_of(architecture_of(query), size, pattern.block, heads // kv_heads)
    factor = (default_scale(query, scale) if softcap is None else softcap) * LOG2_E.value
    bend = 0.0 if softcap is None else 2 * LOG2_E.value * default_scale(query, scale) / softcap
    grid = (heads // form.pack, lists.full.numel() * (pattern.block // form.rows), sequences)
    _block_sparse[grid](
        query, keys, values, out, lists.starts, lists.full, lists.blocks, _flags(pattern, length, str(query.device)),
        query if sinks is None else sinks, *query.stride()[:3], *keys.stride()[:3], *values.stride()[:3],
        width, length, lists.first_block, min(pattern.window or _NO_WINDOW, _NO_WINDOW), pattern.first, factor, bend,
        HEADS=heads, GROUPS=heads // kv_heads, PACK=form.pack, ROWS=form.rows, SIZE=pattern.block, COLUMNS=form.columns,
        WIDTH=size, PADDED=padded(size), GLOBAL=_has_globals(pattern),
        CAPPED=softcap is not None, SINKS=sinks is not None, WIDE=INTERPRETED, num_warps=form.warps, num_stages=form.stages,
    )  # fmt: skip
    return out


def _has_globals(pattern: BlockPattern) -> bool:
    return pattern.window is not None and bool(pattern.global_tokens)


@lru_cache(maxsize=8)
def _flags(pattern: BlockPattern, length: int, device: str) -> Tensor:
    """Which positions are global tokens: int8 [L], or [1] if the pattern has none."""
    flags = torch.zeros(length if _has_globals(pattern) else 1, dtype=torch.int8)
    if _has_globals(pattern):
        flags[[position for position in pattern.global_tokens if position < length]] = 1
    return flags.to(device)


def _inputs(n: int, t: int, length: int, h: int, k: int, d: int, pattern: BlockPattern) -> tuple[Tensor, Tensor, Tensor, BlockPattern]:
    generator = torch.Generator().manual_seed(t * 31 + length)
    shapes = ((n, t, h, d), (n, length, k, d), (n, length, k, d))
    query, keys, values = (torch.randn(*shape, generator=generator).half() for shape in shapes)
    return query, keys, values, pattern


def _launched(*arguments: Any) -> Tensor:
    return (launch_block_sparse if arguments[0].is_cuda or INTERPRETED else block_sparse_attention)(*arguments)


def _bytes(n: int, t: int, length: int, h: int, k: int, d: int, pattern: BlockPattern) -> int:
    return 2 * n * d * (2 * t * h + 2 * length * k)


def _flops(n: int, t: int, length: int, h: int, k: int, d: int, pattern: BlockPattern) -> int:
    return 4 * n * h * d * pattern.block**2 * block_lists(pattern, t, length).blocks.numel()


def _variants(width: int, size: int, groups: int = 4, *, everything: bool = False) -> tuple[Variant, ...]:
    """The variants for one width and block size, one per architecture; with `everything`, global tokens, soft cap and sinks compiled in."""
    strides = [f"{of}_{what}" for of in ("query", "key", "value") for what in ("sequence", "row", "head")]
    integers = dict.fromkeys([*strides, "queries", "length", "first_block", "window", "first"], "i32")
    pointers = {
        **dict.fromkeys(("query", "keys", "values", "out", "sinks"), "*bf16"),
        **dict.fromkeys(("starts", "full", "blocks"), "*i32"),
    }
    made = []
    for architecture, shared in ((80, 163), (89, 99), (90, 227)):
        form = form_of(architecture, width, size, groups)
        made.append(
            Variant(
                name=f"{width}-block{size}{'-everything' if everything else ''}",
                function=_block_sparse,
                types={**pointers, "is_global": "*i8", **integers, "factor": "fp32", "bend": "fp32"},
                constants={
                    "HEADS": 8 * groups, "GROUPS": groups, "PACK": form.pack, "ROWS": form.rows, "SIZE": size, "COLUMNS": form.columns,
                    "WIDTH": width, "PADDED": padded(width), "GLOBAL": everything, "CAPPED": everything,
                    "SINKS": everything, "WIDE": False,
                },
                warps=form.warps,
                stages=form.stages,
                aligned=tuple(strides),
                shared_bytes=shared * 1024,
                multiplies=True,
                architectures=(architecture,),
            )
        )  # fmt: skip
    return tuple(made)


KERNEL = Kernel(
    name="block-sparse-prefill",
    reference=block_sparse_reference,
    launch=_launched,
    inputs=_inputs,
    shapes=(
        (1, 130, 130, 4, 2, 64, BlockPattern()),
        (2, 37, 150, 2, 1, 80, BlockPattern(window=33, first=20, global_tokens=(5, 70))),
        (1, 150, 200, 2, 1, 96, BlockPattern(window=17, random_blocks=1)),
        (1, 70, 300, 2, 2, 128, BlockPattern(window=40, first=4, block=128)),
        (1, 65, 65, 1, 1, 256, BlockPattern(window=1)),
        (1, 1, 129, 3, 1, 64, BlockPattern(window=100)),
        (0, 5, 5, 1, 1, 64, BlockPattern()),
    ),
    tolerance=2e-3,
    bytes=_bytes,
    flops=_flops,
    variants=(
        *_variants(64, 64, 8),
        *_variants(64, 128, 8),
        *_variants(80, 64, 1),
        *_variants(96, 128, 1),
        *_variants(128, 64),
        *_variants(128, 128),
        *_variants(128, 64, everything=True),
        *_variants(256, 64, 2),
        *_variants(256, 128, 2, everything=True),
    ),
)
