"""Attention of a few new tokens over a cache in blocks, the cache of one sequence split over several programs.

Letters: N sequences, W new tokens of each, H query heads, K key-value heads, G = H / K, D key width, E value width, P blocks of S tokens,
B blocks of a table, R rows of the ring of newest pages. The W·G query rows that share a key-value head are one tile of the products.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import triton
from torch import Tensor

from advisor.kernels import kv_formats
from advisor.kernels.cache_words import PLANES
from advisor.kernels.kernel import INTERPRETED, Kernel
from advisor.kernels.paged_decode_inputs import Case, inputs, least_bytes, operations
from advisor.kernels.paged_decode_tiles import attend, combine

SPLITS = (1, 4, 8, 16, 32)
"""Programs among which the tiles of a sequence and key-value head may be shared out."""
MOST_ROWS = 128
"""Most query rows W·G of a key-value head."""
_PROGRAMS = 2 * 132
"""Programs that keep the largest device busy: two for each multiprocessor of an H200."""


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
    """What `paged_decode` computes, from the dequantised cache, in float32, or in float64 for such a query."""
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
    """Which of `length` keys each of the last `width` tokens sees: [W, L]. `ancestors` [W] has bit i of row j for new token i."""
    at, place = torch.arange(length), torch.arange(length - width, length)[:, None]
    seen = at <= place
    if ancestors is not None:
        bits = (ancestors.cpu()[:, None] >> torch.arange(width)) & 1
        seen = torch.cat([torch.ones(width, length - width, dtype=torch.bool), bits.bool()], 1)
    return seen if window is None else seen & ((at > place - window) | (at < first))


def _rows(stored: Tensor, scales: Tensor | None, pages: Tensor, length: int, kv_format: str, dtype: torch.dtype) -> Tensor:
    """The rows [K, L, D] of one sequence."""
    rows = stored[pages].transpose(0, 1).flatten(1, 2)[:, :length]
    if scales is None:
        return rows.to(dtype)
    return kv_formats.dequantise(rows, scales[pages].transpose(0, 1).flatten(1)[:, :length], kv_format, dtype)


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
    """Attend with the last W tokens of every sequence: `query` [N, W, H, D] to [N, W, H, E].

    `keys` [P, K, S, ·] and `values` are stored in `kv_format` with float16 scales [P, K, S, 1]; `bf16` stands for the query's type.
    Row n of `tables` [N, B] int32 lists the blocks of a sequence; entries past its `lengths` [N] int32 (W new tokens included) are not
    read. A length of 0 gives zeros. Token j of W stands at place length − W + j and sees the places up to its own; with a `window` the
    newest so many and the `first` places of the sequence, scored against `first_query` if given. `ancestors` [N, W] int64 replaces the
    order among the new tokens: bit i of token j is set if it sees token i, itself included. `sinks` [H] are learned logits without value.
    `recent` is (keys [R, 2, K, S, D], values, rows [N] int32): the block of the last token is read from slot (place // S) % 2 of the
    ring instead. int4 expects rows and queries rotated by `kv_formats.rotate`, and gives a rotated output.

    Nothing is allocated but the output when `workspace` is one of `new_workspace`, and nothing is read back from the device.
    Raises `ValueError` for shapes, types or devices that do not go together.
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
    sequences, width, heads, key_width = query.shape
    kv_heads, size = keys.shape[1:3]
    step = PLANES[kv_format]
    value_width = values.shape[3] * (2 if kv_format == "int4" else 1)
    out = query.new_empty(sequences, width, heads, value_width)
    reach = tables.shape[1] * size if window is None else min(tables.shape[1] * size, window + width + first)
    form = form_of(kv_format, query.dtype, max(key_width, value_width), width * heads // kv_heads)
    splits = splits_for(sequences * kv_heads, reach, form.tile) if splits is None else splits
    shares = splits + (recent is not None)
    parts, logarithms = out, None
    if shares > 1:
        workspace = new_workspace(out, shares) if workspace is None else workspace
        parts, logarithms = _parts(workspace, out, shares)
    stored = (keys, values) if kv_format == "bf16" else (keys.view(torch.int16), values.view(torch.int16))
    attend[shares, kv_heads, sequences](
        query, first_query, *stored, key_scales, value_scales, recent_keys, recent_values, recent_rows, tables, lengths, sinks, ancestors,
        parts, logarithms, scale, softcap or 0.0, window or 0, first, query.stride(1), tables.stride(0),
        FORMAT=kv_format, STEP=step, WIDTH=width, GROUP=heads // kv_heads, KV_HEADS=kv_heads, SIZE=size, D=key_width, E=value_width,
        BLOCK_D=_block(key_width // step), BLOCK_E=_block(value_width // step), ROWS=_block(width * heads // kv_heads), TILE=form.tile,
        SPLITS=splits, WINDOWED=window is not None, FIRST=first > 0 and (window is not None or first_query is not None),
        SOFTCAP=softcap is not None, WIDE=INTERPRETED, num_warps=form.warps, num_stages=form.stages,
    )  # fmt: skip
    if shares > 1:
        combine[width * heads // kv_heads, kv_heads, sequences](
            parts, logarithms, out, value_width, _block(value_width), width, heads // kv_heads, shares
        )
    return out


def new_workspace(out: Tensor, shares: int = SPLITS[-1] + 1) -> Tensor:
    """Room for the shares of an output like `out` [N, W, H, E] or smaller; to be kept for captured graphs."""
    rows = out.shape[0] * out.shape[1] * out.shape[2] * shares
    return torch.empty(rows * (out.shape[3] + 1), dtype=torch.float32, device=out.device)


def splits_for(programs: int, reach: int, tile: int) -> int:
    """The fewest splits of `SPLITS` that keep the device busy with `programs` pairs of sequence and head, at least two tiles in each.

    `reach` is the most keys that a sequence can have: what is known before the lengths are.
    """
    wanted = max(1, min(_PROGRAMS // programs if programs else 1, reach // (2 * tile)))
    return next((splits for splits in SPLITS if splits >= wanted), SPLITS[-1])


@dataclass(frozen=True, slots=True)
class Form:
    """How the Triton function is launched."""

    tile: int
    warps: int
    stages: int


def form_of(kv_format: str, dtype: torch.dtype, width: int, rows: int) -> Form:
    """A tile of keys and values of about 32 KiB, so that two programs of three stages share a multiprocessor of 227 KiB."""
    element = dtype.itemsize if kv_format == "bf16" else 2 / PLANES[kv_format]
    tile = 2 ** round(math.log2(32 * 1024 / (2 * _block(width) * element)))
    return Form(tile=max(16, min(tile, 128, 8192 // _block(rows))), warps=8 if rows > 32 else 4, stages=3)


def _block(width: int) -> int:
    """The power of two, 16 at least, that `width` is padded to: what a matrix instruction takes."""
    return max(16, int(triton.next_power_of_2(width)))


def _parts(workspace: Tensor, out: Tensor, shares: int) -> tuple[Tensor, Tensor]:
    rows = out.shape[0] * out.shape[1] * out.shape[2] * shares
    if workspace.dtype != torch.float32 or workspace.numel() < rows * (out.shape[3] + 1) or workspace.device != out.device:
        need = f"{rows * (out.shape[3] + 1)} float32 on {out.device}"
        raise ValueError(f"paged_decode needs a workspace of {need}; got {workspace.numel()} {workspace.dtype} on {workspace.device}")
    return workspace[: rows * out.shape[3]], workspace[rows * out.shape[3] :]


def _check(query: Tensor, keys: Tensor, values: Tensor, tables: Tensor, others: dict[str, Tensor | None], kv_format: str) -> None:
    """Raise `ValueError` unless every tensor has the shape, type and strides that the others ask for."""
    given = {"query": query, "keys": keys, "values": values, "tables": tables, **others}
    got = ", ".join(f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.device}" for name, tensor in given.items() if tensor is not None)
    if kv_format not in PLANES:
        raise ValueError(f"no cache format `{kv_format}`; choose from {', '.join(PLANES)}")
    if query.dim() != 4 or keys.dim() != 4 or values.dim() != 4 or tables.dim() != 2:
        raise ValueError(f"paged_decode takes query [N, W, H, D], keys and values [P, K, S, ·] and tables [N, B]; got {got}")
    (sequences, width, heads, key_width), (blocks, kv_heads, size) = query.shape, keys.shape[:3]
    if heads % kv_heads or width * heads // kv_heads > MOST_ROWS:
        raise ValueError(f"paged_decode takes whole groups of at most {MOST_ROWS} query rows to a key-value head; got {got}")
    exact, packed = kv_format == "bf16", 2 if kv_format == "int4" else 1
    stored = query.dtype if exact else kv_formats.stored_dtype(kv_format)
    if key_width % PLANES[kv_format] or values.shape[3] * packed % PLANES[kv_format]:
        raise ValueError(f"a row of {kv_format} is read in words of {PLANES[kv_format]} elements; got {got}")
    ring = (-1, 2, kv_heads, size)
    wanted: dict[str, tuple[Sequence[int] | None, torch.dtype]] = {
        "query": (query.shape, query.dtype),
        "keys": ((blocks, kv_heads, size, key_width // packed), stored),
        "values": ((blocks, kv_heads, size, values.shape[3]), stored),
        "tables": ((sequences, -1), torch.int32),
        "lengths": ((sequences,), torch.int32),
        "key_scales": (None if exact else (blocks, kv_heads, size, 1), torch.float16),
        "value_scales": (None if exact else (blocks, kv_heads, size, 1), torch.float16),
        "first_query": (query.shape, query.dtype),
        "sinks": ((heads,), query.dtype if (sinks := given["sinks"]) is None else sinks.dtype),
        "ancestors": ((sequences, width), torch.int64),
        "recent_keys": ((*ring, key_width), query.dtype),
        "recent_values": ((*ring, values.shape[3] * packed), query.dtype),
        "recent_rows": ((sequences,), torch.int32),
    }
    for name, (shape, dtype) in wanted.items():
        tensor = given[name]
        if tensor is None and not (name.endswith("scales") and not exact):
            continue
        if tensor is None or shape is None or not _fits(tensor, shape, dtype) or tensor.device != query.device:
            raise ValueError(f"paged_decode takes {name} {shape} {dtype} on {query.device}; got {got}")
    for name, tensor in given.items():
        if tensor is not None and not _is_laid_out(name, tensor):
            raise ValueError(f"paged_decode takes a contiguous {name}; got strides {tensor.stride()} of {got}")


def _fits(tensor: Tensor, shape: Sequence[int], dtype: torch.dtype) -> bool:
    same = len(shape) == tensor.dim() and all(size in (-1, given) for size, given in zip(shape, tensor.shape, strict=True))
    return same and tensor.dtype == dtype


def _is_laid_out(name: str, tensor: Tensor) -> bool:
    """Queries may be part of a wider row, as of a fused projection; rows of tables may be part of longer ones."""
    if name.endswith("query"):
        tokens = tensor.flatten(0, 1) if tensor.stride(0) == tensor.stride(1) * tensor.shape[1] or tensor.shape[0] == 1 else None
        return tokens is not None and tokens[:1].is_contiguous()
    return tensor[:1].is_contiguous() if name == "tables" else tensor.is_contiguous()


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
            Case(kv_format=kv_format, lengths=(1, 15, 16, 17)),
            Case(kv_format=kv_format, lengths=(0, 130, 127), groups=3, key_width=80, dtype=torch.float32),
        )
    ),
    # the output's rounding to float16; on a device also the weights'
    tolerance=1e-3,
    bytes=least_bytes,
    flops=operations,
)
