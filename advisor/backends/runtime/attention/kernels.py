"""Attention of decoding rows through the kernels for paged caches: each row is one token of one sequence.

Letters as in `advisor.kernels.attention.paged_decode`.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from advisor.backends.runtime.attention.rotary import rerotate
from advisor.backends.runtime.attention.step import AttentionStep
from advisor.backends.runtime.attention.visibility import Visibility
from advisor.backends.runtime.cache.pool import Pool
from advisor.backends.runtime.cache.store import ModelFormat, Quantised, Store
from advisor.backends.runtime.device.decode_batch import DecodeBatch
from advisor.backends.runtime.model.attention_hook import Options, Rope
from advisor.kernels.attention.paged_decode import paged_decode
from advisor.kernels.cache.kv_formats import rotate
from advisor.kernels.cache.kv_write import kv_write


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodeRows:
    """The cache of N rows: block tables and visible lengths."""

    tables: Tensor
    """[N, B] int32: the blocks of each row's sequence."""
    lengths: Tensor
    """[N] int32: cached tokens that a row attends to, its own included; 0 for padding."""
    ring: Tensor | None
    """[N] int32: row of the ring, for formats that also store the newest pages in full precision; else `None`."""


class DecodeBatchAttention:
    """Writes and reads the cache for the entries of a `DecodeBatch`; index tensors are computed from it on the device."""

    def __init__(self, pool: Pool, visibility: Visibility, batch: DecodeBatch, count: int) -> None:
        self.pool = pool
        self.visibility = visibility
        size, live, stored = pool.config.block_tokens, batch.live[:count], batch.stored[:count]
        rows, page = batch.rows[:count], batch.stored[:count] // size
        tables = pool.tables.index_select(0, rows)
        block = tables.gather(1, page.unsqueeze(1)).squeeze(1)
        padding = live == 0
        self.slots = (block * size + stored % size).masked_fill(padding, -1)
        ring = rows.to(torch.int32) if pool.config.has_ring else None
        self.rows = DecodeRows(tables=tables, lengths=((stored + 1) * live).to(torch.int32), ring=ring)
        self.pages = None if ring is None else (rows * 2 + page % 2).masked_fill(padding, -1).to(torch.int32)
        self.rerotations = _rerotations(pool, batch.positions[:count])

    def attend_rows(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        """See `Attends`."""
        return self._attend(layer, queries, keys, values, None, options)

    def attend_unrotated(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, rope: Rope, options: Options) -> Tensor:
        """See `AttendsUnrotated`."""
        return self._attend(layer, queries, keys, values, rope, options)

    def _attend(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, rope: Rope | None, options: Options) -> Tensor:
        """Rotary embedding and, for formats that need it, Hadamard rotation are applied to the queries in place."""
        stored = self.pool.keys[layer], self.pool.values[layer]
        queries, keys, values = _heads_adjacent(queries), _heads_adjacent(keys), _heads_adjacent(values)
        kv_write(
            keys,
            values,
            self.slots,
            _data(stored[0]),
            _data(stored[1]),
            kv_format=self.pool.config.kv_format,
            key_scales=_scales(stored[0]),
            value_scales=_scales(stored[1]),
            cos=None if rope is None else rope.cos,
            sin=None if rope is None else rope.sin,
            query=queries,
            recent=None if self.pages is None else (_ring(stored[0]), _ring(stored[1]), self.pages),
        )
        rotated = self.pool.config.has_ring
        rerotated = None
        if self.rerotations is not None:
            plain = rotate(queries) if rotated else queries
            rerotated = rerotate(plain, self.rerotations, self.visibility.frequencies[layer])
            rerotated = rotate(rerotated) if rotated else rerotated
        out = read_cache(self.pool, layer, queries, rerotated, self.rows, self._narrowed(options))
        return rotate(out) if rotated else out

    def _narrowed(self, options: Options) -> Options:
        return replace(options, window=self.visibility.narrowed_window(options.window))


class KernelStep(AttentionStep):
    """An `AttentionStep` whose decoding group reads the cache through the kernel, every draft token as a row of its own."""

    def _attend_group(self, layer: int, queries: Tensor, rerotated: Tensor | None, kv_heads: int, options: Options) -> Tensor:
        """[rows, H, D] to [rows, H, E]."""
        return read_cache(self.pool, layer, queries, rerotated, self._once(("rows",), self._rows), options)

    def _group_spans_pages(self) -> bool:
        """The kernel reads the page of every row exactly."""
        return False

    def _rows(self) -> DecodeRows:
        rows = self._long([entry.cache.row for entry in self.group for _ in entry.tokens])
        lengths = (self._stored[: len(rows)] + 1).to(torch.int32)
        return DecodeRows(
            tables=self.pool.tables.index_select(0, rows), lengths=lengths, ring=rows.to(torch.int32) if self.pool.config.has_ring else None
        )


def read_cache(pool: Pool, layer: int, queries: Tensor, rerotated: Tensor | None, rows: DecodeRows, options: Options) -> Tensor:
    """Attention of queries [N, H, D]; returns [N, H, E]. Sink tokens are scored against `rerotated` where it is given."""
    stored, queries = (pool.keys[layer], pool.values[layer]), _heads_adjacent(queries)
    window, first = visible_window(pool, options)
    if rerotated is not None:  # both at one distance
        queries, rerotated = queries.contiguous(), rerotated.contiguous()
    out = paged_decode(
        _as_queries(queries),
        _data(stored[0]),
        _data(stored[1]),
        rows.tables,
        rows.lengths,
        scale=options.scale,
        kv_format=pool.config.kv_format,
        key_scales=_scales(stored[0]),
        value_scales=_scales(stored[1]),
        window=window,
        first=first,
        first_query=None if rerotated is None else _as_queries(rerotated),
        softcap=options.softcap,
        sinks=options.sinks,
        recent=None if rows.ring is None else (_ring(stored[0]), _ring(stored[1]), rows.ring),
    )
    return out[:, 0]


def visible_window(pool: Pool, options: Options) -> tuple[int | None, int]:
    """Window and sink tokens that a row attends to: the attention's own window, limited to what the cache retains."""
    retention = pool.config.retention
    if retention is None or (options.window is not None and options.window <= retention.window):
        return options.window, 0
    return retention.window, retention.first


def unsupported_by_kernels(pool: Pool, windows: Sequence[int | None], visibility: Visibility) -> str | None:
    """Why the kernels do not support this cache and visibility for layers with these windows; `None` where they do."""
    config = pool.config
    if config.has_ring and config.page_tokens != config.block_tokens:
        return f"an unpaged {config.kv_format} cache keeps pages of {config.page_tokens} tokens and one block of {config.block_tokens}"
    if visibility.pattern is not None:
        return "a pattern leaves out blocks among those that a token reads"
    wide = [visibility.narrowed_window(window) for window in windows]
    retention = config.retention
    if (
        retention is not None
        and retention.first
        and any(
            window is not None and retention.window < window < retention.window + retention.first + config.block_tokens for window in wide
        )
    ):
        return f"the model's windows hide some of the {retention.first} first tokens that the cache keeps"
    return None


def _rerotations(pool: Pool, positions: Tensor) -> Tensor | None:
    """[N]: how far each row's query is re-rotated for the sink tokens, in positions; `None` where positions are those of the text."""
    retention = pool.config.retention
    if retention is None or not retention.first:
        return None
    return (positions - (retention.first + retention.window - 1)).clamp_min(0)


def _heads_adjacent(tensor: Tensor) -> Tensor:
    """View [T, H, D] whose heads of a token are adjacent in memory."""
    return tensor if tensor[:1].is_contiguous() else tensor.contiguous()


def _as_queries(queries: Tensor) -> Tensor:
    """[N, H, D], possibly rows of a wider tensor, as [N, 1, H, D]."""
    rows, heads, width = queries.shape
    stride = queries.stride(0) if rows > 1 else heads * width
    return queries.as_strided((rows, 1, heads, width), (stride, stride, width, 1))


def _data(store: Store) -> Tensor:
    assert isinstance(store, ModelFormat | Quantised), "a pool has no other stores"
    return store.data


def _scales(store: Store) -> Tensor | None:
    return store.scales if isinstance(store, Quantised) else None


def _ring(store: Store) -> Tensor:
    assert isinstance(store, Quantised), "only formats with a ring are asked for it"
    assert store.recent is not None, "only formats with a ring are asked for it"
    return store.recent.data
