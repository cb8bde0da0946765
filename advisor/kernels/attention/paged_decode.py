"""Decode attention over a paged cache, the keys of one sequence split over several programs (flash-decoding).

Letters: N sequences, W new tokens of each, H query heads, K key-value heads, G = H / K, D key width, E value width, P blocks of S tokens,
B blocks of a table, R rows of the ring of newest pages. The W·G query rows that share a key-value head are one tile of the products.
"""

from typing import Any

import torch
from torch import Tensor

from advisor.kernels import arguments
from advisor.kernels.attention.paged_decode_forms import SPLITS, VARIANTS, form_of, most_rows, splits_for
from advisor.kernels.attention.paged_decode_inputs import PagedDecodeCase, inputs, least_bytes, operations
from advisor.kernels.attention.paged_decode_tiles import attend, combine
from advisor.kernels.cache import kv_formats
from advisor.kernels.cache.cache_words import PLANES
from advisor.kernels.kernel import INTERPRETED, Kernel
from advisor.kernels.launch_sizes import padded


def reference(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    lengths: Tensor,
    *,
    scale: float,
    kv_format: str = "bf16",
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
    window: int | None = None,
    first: int = 0,
    first_query: Tensor | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    ancestors: Tensor | None = None,
    recent: tuple[Tensor, Tensor, Tensor] | None = None,
) -> Tensor:
    """`paged_decode` in plain torch over the dequantised cache: in float32, or in float64 for a float64 query."""
    dtype = torch.float64 if query.dtype == torch.float64 else torch.float32
    groups, size = query.shape[2] // keys.shape[1], keys.shape[2]
    value_width = values.shape[3] * (2 if kv_format == "int4" else 1)
    out = query.new_zeros(*query.shape[:3], value_width)
    for n, length in enumerate(lengths.tolist()):
        if not length:
            continue
        pages = tables[n, : -(-length // size)].long()
        key = _rows(keys, key_scales, pages, length, kv_format, dtype)
        value = _rows(values, value_scales, pages, length, kv_format, dtype)
        if recent is not None:
            page = (length - 1) // size
            for rows, ring in ((key, recent[0]), (value, recent[1])):
                rows[:, page * size :] = ring[recent[2][n], page % 2, :, : length - page * size].to(dtype)
        key, value = (rows.repeat_interleave(groups, 0) for rows in (key, value))
        scores = torch.einsum("whd,hld->hwl", query[n].to(dtype), key) * scale
        if first_query is not None:
            scores[:, :, :first] = torch.einsum("whd,hld->hwl", first_query[n].to(dtype), key[:, :first]) * scale
        if softcap is not None:
            scores = torch.tanh(scores / softcap) * softcap
        tree = None if ancestors is None else ancestors[n]
        scores = scores.masked_fill(~visible(length, query.shape[1], window, first, tree).to(scores.device), float("-inf"))
        if sinks is not None:
            scores = torch.cat([scores, sinks.to(dtype)[:, None, None].expand(-1, query.shape[1], 1)], -1)
        weights = torch.softmax(scores, -1)[..., :length]
        out[n] = torch.einsum("hwl,hle->whe", weights, value).to(out.dtype)
    return out


def visible(length: int, width: int, window: int | None, first: int, ancestors: Tensor | None) -> Tensor:
    """bool [W, L]: the keys that each of the last `width` of `length` tokens attends to. Bit i of `ancestors[j]`: token j to token i."""
    keys, queries = torch.arange(length), torch.arange(length - width, length)[:, None]
    seen = keys <= queries
    if ancestors is not None:
        bits = (ancestors.cpu()[:, None] >> torch.arange(width)) & 1
        seen = torch.cat([torch.ones(width, length - width, dtype=torch.bool), bits.bool()], 1)
    return seen if window is None else seen & ((keys > queries - window) | (keys < first))


def _rows(stored: Tensor, scales: Tensor | None, pages: Tensor, length: int, kv_format: str, dtype: torch.dtype) -> Tensor:
    """The first `length` rows [K, L, D] of one sequence, in `dtype`."""
    rows = stored[pages].transpose(0, 1).flatten(1, 2)[:, :length]
    if scales is None:
        return rows.to(dtype)
    # exact: a level has at most 8 significant bits, a scale 11
    return kv_formats.dequantise(rows, scales[pages].transpose(0, 1).flatten(1)[:, :length], kv_format, torch.float32).to(dtype)


def paged_decode(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    lengths: Tensor,
    *,
    scale: float,
    kv_format: str = "bf16",
    key_scales: Tensor | None = None,
    value_scales: Tensor | None = None,
    window: int | None = None,
    first: int = 0,
    first_query: Tensor | None = None,
    softcap: float | None = None,
    sinks: Tensor | None = None,
    ancestors: Tensor | None = None,
    recent: tuple[Tensor, Tensor, Tensor] | None = None,
    splits: int | None = None,
    workspace: Tensor | None = None,
) -> Tensor:
    """Attend with the last W tokens of every sequence over a paged cache: `query` [N, W, H, D] to [N, W, H, E].

    Cache: `keys` [P, K, S, ·] and `values` [P, K, S, ·] are stored in `kv_format` with float16 scales [P, K, S, 1]; `bf16` stands for
    the query's own type. Row n of `tables` [N, B] int32 lists the blocks of sequence n; entries beyond `lengths` [N] int32, which count
    the W new tokens, are not read. A length of 0 gives zeros. int4 requires rows and queries rotated by `kv_formats.rotate`; its output
    is rotated, too. `recent` is (keys [R, 2, K, S, D], values [R, 2, K, S, E], rows [N] int32), a ring in the query's type: the block of
    the last token is read from its slot (position // S) % 2 instead of the cache.

    Visibility: token j of W is at position length − W + j and sees all positions up to its own; with `window`, only the most recent
    `window` of them and the `first` ones of the sequence, which are scored against `first_query` [N, W, H, D] if given. `ancestors`
    [N, W] int64 replaces the order among the new tokens: bit i of token j is set if it sees token i, itself included.

    `scale` multiplies the scores, `softcap` bounds them, `sinks` [H] are learned logits without a value. `splits` is the number of
    programs per sequence and key-value head, by default chosen from the shape. With a `workspace` of `new_workspace` only the output is
    allocated; nothing is read back from the device. Raises `ValueError` for shapes, types or devices that do not fit together.
    """
    recent_keys, recent_values, recent_rows = recent or (None, None, None)
    others = {
        "lengths": lengths, "key_scales": key_scales, "value_scales": value_scales, "first_query": first_query, "sinks": sinks,
        "ancestors": ancestors, "recent_keys": recent_keys, "recent_values": recent_values, "recent_rows": recent_rows,
    }  # fmt: skip
    _check(query, keys, values, tables, others, kv_format)
    if query.device.type == "cpu" and not INTERPRETED:
        return reference(
            query, keys, values, tables, lengths, scale=scale, kv_format=kv_format, key_scales=key_scales, value_scales=value_scales,
            window=window, first=first, first_query=first_query, softcap=softcap, sinks=sinks, ancestors=ancestors, recent=recent,
        )  # fmt: skip
    return _launch(
        query, keys, values, tables, others, kv_format, scale=scale, window=window, first=first, softcap=softcap, splits=splits,
        workspace=workspace,
    )  # fmt: skip


def _launch(
    query: Tensor,
    keys: Tensor,
    values: Tensor,
    tables: Tensor,
    others: dict[str, Tensor | None],
    kv_format: str,
    *,
    scale: float,
    window: int | None,
    first: int,
    softcap: float | None,
    splits: int | None,
    workspace: Tensor | None,
) -> Tensor:
    """`paged_decode` in Triton. `others` are `lengths` and the optional tensors, by name; quantised rows are read as int16 words."""
    sequences, width, heads, key_width = query.shape
    kv_heads, size = keys.shape[1:3]
    step, group = PLANES[kv_format], width * heads // kv_heads
    value_width = values.shape[3] * (2 if kv_format == "int4" else 1)
    out = query.new_empty(sequences, width, heads, value_width)
    if out.numel() == 0:
        return out
    reach = tables.shape[1] * size if window is None else min(tables.shape[1] * size, window + width + first)
    form = form_of(kv_format, query.dtype, max(key_width, value_width), group)
    splits = splits_for(sequences * kv_heads, reach, form.tile) if splits is None else splits
    shares = splits + (others["recent_rows"] is not None)
    parts, logarithms = out, None
    if shares > 1:
        workspace = new_workspace(out, shares) if workspace is None else workspace
        parts, logarithms = _parts(workspace, out, shares)
    stored = (keys, values) if kv_format == "bf16" else (keys.view(torch.int16), values.view(torch.int16))
    attend[shares, kv_heads, sequences](
        query, others["first_query"], *stored, others["key_scales"], others["value_scales"], others["recent_keys"],
        others["recent_values"], others["recent_rows"], tables, others["lengths"], others["sinks"], others["ancestors"],
        parts, logarithms, scale, softcap or 0.0, window or 0, first, query.stride(0), query.stride(1), tables.stride(0),
        FORMAT=kv_format, STEP=step, WIDTH=width, GROUP=heads // kv_heads, KV_HEADS=kv_heads, SIZE=size, D=key_width, E=value_width,
        BLOCK_D=padded(key_width // step), BLOCK_E=padded(value_width // step), ROWS=padded(group), TILE=form.tile,
        SPLITS=splits, WINDOWED=window is not None, FIRST=first > 0 and (window is not None or others["first_query"] is not None),
        SOFTCAP=softcap is not None, WIDE=INTERPRETED, num_warps=form.warps, num_stages=form.stages,
    )  # fmt: skip
    if shares > 1:
        combine[group, kv_heads, sequences](parts, logarithms, out, value_width, padded(value_width), width, heads // kv_heads, shares)
    return out


def new_workspace(out: Tensor, shares: int = SPLITS[-1] + 1) -> Tensor:
    """float32 memory for the partial results of an output of the shape of `out` [N, W, H, E] or smaller, reused by captured graphs."""
    rows = out.shape[0] * out.shape[1] * out.shape[2] * shares
    return torch.empty(rows * (out.shape[3] + 1), dtype=torch.float32, device=out.device)


def _parts(workspace: Tensor, out: Tensor, shares: int) -> tuple[Tensor, Tensor]:
    rows = out.shape[0] * out.shape[1] * out.shape[2] * shares
    if workspace.dtype != torch.float32 or workspace.numel() < rows * (out.shape[3] + 1) or workspace.device != out.device:
        need = f"{rows * (out.shape[3] + 1)} float32 on {out.device}"
        raise ValueError(f"paged_decode needs a workspace of {need}; got {workspace.numel()} {workspace.dtype} on {workspace.device}")
    return workspace[: rows * out.shape[3]], workspace[rows * out.shape[3] :]


def _check(query: Tensor, keys: Tensor, values: Tensor, tables: Tensor, others: dict[str, Tensor | None], kv_format: str) -> None:
    """Raise `ValueError` unless shapes, types, strides and devices fit together."""
    given = {"query": query, "keys": keys, "values": values, "tables": tables, **others}
    got = arguments.Given(given)
    if kv_format not in PLANES:
        raise ValueError(f"no cache format `{kv_format}`; choose from {', '.join(PLANES)}")
    if query.dim() != 4 or keys.dim() != 4 or values.dim() != 4 or tables.dim() != 2:
        raise ValueError(f"paged_decode takes query [N, W, H, D], keys and values [P, K, S, ·] and tables [N, B]; got {got}")
    (sequences, width, heads, key_width), (blocks, kv_heads, size, _) = query.shape, keys.shape
    exact, packed = kv_format == "bf16", 2 if kv_format == "int4" else 1
    value_width = values.shape[3] * packed
    if heads % kv_heads or width * heads // kv_heads > most_rows(max(key_width, value_width)):
        raise ValueError(
            f"paged_decode takes whole groups of query heads, at most {most_rows(max(key_width, value_width))} query rows to a "
            f"key-value head; got {got}"
        )
    if key_width % PLANES[kv_format] or value_width % PLANES[kv_format]:
        raise ValueError(f"a row of {kv_format} is read in words of {PLANES[kv_format]} elements; got {got}")
    stored = query.dtype if exact else kv_formats.stored_dtype(kv_format)
    scales = (None if exact else (blocks, kv_heads, size, 1), torch.float16)
    sinks, first_query = given["sinks"], given["first_query"]
    expected: arguments.Expected = {
        "keys": ((blocks, kv_heads, size, key_width // packed), stored),
        "values": ((blocks, kv_heads, size, -1), stored),
        "tables": ((sequences, -1), torch.int32),
        "lengths": ((sequences,), torch.int32),
        "key_scales": scales,
        "value_scales": scales,
        "first_query": (query.shape, query.dtype),
        "sinks": ((heads,), query.dtype if sinks is None else sinks.dtype),
        "ancestors": ((sequences, width), torch.int64),
        "recent_keys": ((-1, 2, kv_heads, size, key_width), query.dtype),
        "recent_values": ((-1, 2, kv_heads, size, value_width), query.dtype),
        "recent_rows": ((sequences,), torch.int32),
    }
    arguments.check("paged_decode", given, expected, () if exact else ("key_scales", "value_scales"), query.device)
    arguments.check_layout("paged_decode", given, {"query": 2, "first_query": 2, "tables": 1})
    if first_query is not None and first_query.stride() != query.stride():
        raise ValueError(f"paged_decode takes both queries of one layout; got strides {first_query.stride()} and {query.stride()}")


def _run(query: Tensor, keys: Tensor, values: Tensor, tables: Tensor, lengths: Tensor, options: dict[str, Any]) -> Tensor:
    return paged_decode(query, keys, values, tables, lengths, **options)


def _exact(query: Tensor, keys: Tensor, values: Tensor, tables: Tensor, lengths: Tensor, options: dict[str, Any]) -> Tensor:
    return reference(query, keys, values, tables, lengths, **options)


KERNEL = Kernel(
    name="paged-decode",
    reference=_exact,
    launch=_run,
    inputs=inputs,
    shapes=tuple(
        (case,)
        for kv_format in PLANES
        for case in (
            PagedDecodeCase(kv_format=kv_format, lengths=(1, 15, 16, 17)),
            PagedDecodeCase(kv_format=kv_format, lengths=(0, 130, 127), groups=3, key_width=80, dtype=torch.float32),
            PagedDecodeCase(kv_format=kv_format, lengths=(9, 65), width=4, window=30, first=4, shifted=True, softcap=30.0, sinks=0.0),
            PagedDecodeCase(kv_format=kv_format, lengths=(8, 40), width=8, tree=True, recent=kv_format == "int4"),
        )
    ),
    # rounding of the output to float16, on a GPU also of the weights
    tolerance=1e-3,
    bytes=least_bytes,
    flops=operations,
    variants=VARIANTS,
)
