"""Attention of one step: writes new keys and values to the pool, reads the cached ones, and computes the attention of every row."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import torch
from torch import Tensor

from advisor.backends.model.tuned_attention import TunedAttention
from advisor.backends.runtime.attention import own_pages
from advisor.backends.runtime.attention.exact import Call, can_flex, eager, flex, sdpa
from advisor.backends.runtime.attention.rotary import rerotate
from advisor.backends.runtime.attention.visibility import PLAIN, Visibility, columns_of_blocks, last_evicted, rerotations, visited_blocks
from advisor.backends.runtime.cache.indices import Reading, Writing
from advisor.backends.runtime.cache.pool import Pool, SequenceBlocks
from advisor.backends.runtime.cache.recent_pages import Span
from advisor.backends.runtime.cache.store import KvBatch
from advisor.backends.runtime.device.token_ring import upload
from advisor.backends.runtime.model.attention_hook import Options, attend
from advisor.kernels.attention import paged_attention as kernel
from advisor.kernels.attention.block_sparse_prefill import block_sparse_attention
from advisor.kernels.attention.flex import AttentionMask as AttentionMask
from advisor.kernels.cache.kv_formats import rotate

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SequenceInput:
    """New tokens of one sequence in a step, at positions from `cache.tokens` on."""

    cache: SequenceBlocks
    tokens: Sequence[int]


class AttentionStep:
    """The attention of one forward pass: the token rows of all sequences, the cache slots of their keys and values, and their masks.

    Rows stand in the order of `inputs`. The first `n_decode` of them are few tokens each and attend in one batched product; the
    others, chunks of prompts, attend one by one. Index tensors and masks are made once and shared by all layers of equal shape.

    In a cache with eviction, each token of the group attends to what is retained for it; the tokens of a chunk attend to each other
    and to what is retained for the first of them.
    """

    def __init__(
        self,
        pool: Pool,
        inputs: Sequence[SequenceInput],
        n_decode: int,
        implementation: str,
        bounds: Visibility = PLAIN,
        autotuner: TunedAttention | None = None,
    ) -> None:
        self.pool = pool
        self.autotuner = autotuner
        self.implementation = implementation
        self.visibility = bounds
        self.inputs, self.group, self.chunks = inputs, inputs[:n_decode], inputs[n_decode:]
        positions = [position for entry in inputs for position in range(entry.cache.tokens, entry.cache.tokens + len(entry.tokens))]
        stored = [position for entry in inputs for position in range(_stored(entry), _stored(entry) + len(entry.tokens))]
        size = pool.config.block_tokens
        blocks = [entry.cache.blocks[(_stored(entry) + i) // size] for entry in inputs for i in range(len(entry.tokens))]
        self.ids = self._long([token for entry in inputs for token in entry.tokens])
        self.positions = self._long(positions)
        self._stored = self._long(stored)
        self._block, self._offset = self._long(blocks), self._long([position % size for position in stored])
        self._shared: dict[tuple[object, ...], Any] = {}
        self._group_length = max((_stored(entry) + len(entry.tokens) for entry in self.group), default=0)
        self._pad_rows([len(entry.tokens) for entry in self.group])
        query_positions = positions[: self._group_rows] + [entry.cache.tokens for entry in self.chunks for _ in entry.tokens]
        rerotated = rerotations(pool.config.retention, query_positions)
        self._rerotations = None if rerotated is None else self._long(rerotated)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        """Attention of tensors [1, H, T, D]; returns [1, T, H, E]."""
        return attend(self, layer, query, key, value, options)

    def attend_rows(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        """Write the new keys and values, then attend: the decoding group in one product, the chunks one by one."""
        rerotated = None if self._rerotations is None else rerotate(queries, self._rerotations, self.visibility.frequencies[layer])
        if not self.pool.config.has_ring:
            return self._attend_rows(layer, queries, keys, values, rerotated, options)
        rerotated = None if rerotated is None else rotate(rerotated)
        return rotate(self._attend_rows(layer, *_rotated(queries, keys, values), rerotated, options))

    def _attend_rows(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, rerotated: Tensor | None, options: Options) -> Tensor:
        """[T, H, D] to [T, H, E]; sink tokens are scored against `rerotated` where it is given."""
        kv_heads, options = keys.shape[1], replace(options, window=self.visibility.narrowed_window(options.window))
        exact = self._exact_rows(layer, keys, values)
        self.pool.write(layer, keys, values, self._writing(kv_heads))
        if not self.chunks and not exact:
            return self._attend_group(layer, queries, rerotated, kv_heads, options)
        out = queries.new_empty((queries.shape[0], queries.shape[1], values.shape[2]))
        if self.group and 0 not in exact:
            rerotated_rows = None if rerotated is None else rerotated[: self._group_rows]
            out[: self._group_rows] = self._attend_group(layer, queries[: self._group_rows], rerotated_rows, kv_heads, options)
        for index, rows in self._slices(0 if 0 in exact else len(self.group)):
            query, rerotated_rows = queries[rows].unsqueeze(0), None if rerotated is None else rerotated[rows].unsqueeze(0)
            if self._is_whole(index):
                cached = _as_batch(keys[rows]), _as_batch(values[rows])
            else:
                cached = self._read(layer, kv_heads, index, options)
            if index in exact:
                out[rows] = self._attend_pages(index, query, rerotated_rows, cached, exact[index], options)[0]
            else:
                out[rows] = self._attend_chunk(index, query, rerotated_rows, cached, options)[0]
        return out

    def _slices(self, first: int) -> Iterator[tuple[int, slice]]:
        """The rows of every input from the `first` one on."""
        row = sum(len(entry.tokens) for entry in self.inputs[:first])
        for index, entry in enumerate(self.inputs[first:], first):
            yield index, slice(row, row + len(entry.tokens))
            row += len(entry.tokens)

    def _is_whole(self, index: int) -> bool:
        """Whether the input's keys are all new, and attended to as they are: those of a format that rounds are read back."""
        return self.inputs[index].cache.tokens == 0 and self.pool.config.kv_format == "bf16"

    def _group_spans_pages(self) -> bool:
        """Whether a sequence of the group has new tokens in several pages."""
        page = self.pool.config.page_tokens
        return any(_stored(entry) // page != (_stored(entry) + len(entry.tokens) - 1) // page for entry in self.group)

    def _exact_rows(self, layer: int, keys: Tensor, values: Tensor) -> dict[int, tuple[Tensor, Tensor]]:
        """Exact keys and values [T, K, D] of inputs that read the pages of their tokens, from the start of the first one's page.

        To be called before the new ones are written over that page. Empty for formats without exact pages.
        """
        if not self.pool.config.has_ring:
            return {}
        exact, page = dict[int, tuple[Tensor, Tensor]](), self.pool.config.page_tokens
        for index, rows in self._slices(0 if self._group_spans_pages() else len(self.group)):
            number, before = divmod(_stored(self.inputs[index]), page)
            early = self.pool.exact_page(layer, self.inputs[index].cache.row, number, before)
            exact[index] = torch.cat((early[0], keys[rows])), torch.cat((early[1], values[rows]))
        return exact

    def _attend_pages(
        self,
        index: int,
        query: Tensor,
        rerotated: Tensor | None,
        cached: tuple[KvBatch, KvBatch],
        exact: tuple[Tensor, Tensor],
        options: Options,
    ) -> Tensor:
        """[1, T, H, D] to [1, T, H, E], each query reading its own page of `exact` keys and values and earlier ones of `cached`."""
        past, page, retention = _stored(self.inputs[index]), self.pool.config.page_tokens, self.pool.config.retention
        groups, parts = query.shape[2] // exact[0].shape[1], list[Tensor]()
        evicted = last_evicted(retention, torch.full((1, 1), past, device=self.pool.device))
        for piece in own_pages.pieces(past, past + query.shape[1], page):

            def mask(piece: own_pages.Piece = piece) -> Tensor:
                hidden = own_pages.mask_of(piece, page, query.dtype, options.window, evicted, self.pool.device)
                return kernel.widen_mask(self._patterned(hidden, *own_pages.positions_of(piece, self.pool.device)), groups)

            def shared(piece: own_pages.Piece = piece) -> Tensor:
                return self._once(("page-mask", index, piece, options.window, groups), lambda: mask(piece))

            keys, values = (own_pages.keys_of(piece, *both, past // page * page) for both in zip(cached, exact, strict=True))
            rows = slice(piece.start - past, piece.stop - past)
            early = None if rerotated is None else rerotated[:, rows]
            parts.append(self._compute(self._call(query[:, rows], early, (keys, values), (shared, None), options, is_chunk=True)))
        return torch.cat(parts, 1)

    def _attend_group(self, layer: int, queries: Tensor, rerotated: Tensor | None, kv_heads: int, options: Options) -> Tensor:
        """[rows, H, D] to [rows, H, E]; sink tokens are scored against `rerotated` where it is given."""
        cached = self._read(layer, kv_heads, None, options)
        query, rerotated_rows = self._padded(queries), None if rerotated is None else self._padded(rerotated)

        def mask() -> Tensor:
            return self._group_mask(queries.shape[1] // kv_heads, options.window, queries.dtype)

        def bounds() -> AttentionMask:
            positions = self._group_positions()
            return AttentionMask(positions=positions, window=options.window, evicted=last_evicted(self.pool.config.retention, positions))

        out = self._compute(self._call(query, rerotated_rows, cached, (mask, bounds), options)).flatten(0, 1)
        return out if self._real is None else out.index_select(0, self._real)

    def _padded(self, queries: Tensor) -> Tensor:
        """[rows, H, D] to [N, W, H, D]."""
        spread = queries if self._spread is None else queries.index_select(0, self._spread)
        return spread.reshape(len(self.group), self._width, *queries.shape[1:])

    def _attend_chunk(
        self, index: int, query: Tensor, rerotated: Tensor | None, cached: tuple[KvBatch, KvBatch], options: Options
    ) -> Tensor:
        """[1, T, H, D] to [1, T, H, E]; a whole prompt needs no mask where nothing but causality restricts it."""
        kv_heads, length = cached[0].rows.shape[1:3]
        past, width = _stored(self.inputs[index]), query.shape[1]
        window = options.window if options.window is not None and options.window < past + width else None

        def bounds() -> AttentionMask:
            positions = torch.arange(past, past + width, device=self.pool.device).unsqueeze(0)
            return AttentionMask(positions=positions, window=window, evicted=last_evicted(self.pool.config.retention, positions[:, :1]))

        def mask() -> Tensor:
            seen = bounds()
            hidden = kernel.additive_mask(seen.positions, length, query.dtype, window, seen.evicted)
            hidden = self._patterned(hidden, seen.positions)
            return kernel.widen_mask(hidden, query.shape[2] // kv_heads)

        def shared() -> Tensor:
            return self._once(("chunk-mask", index, window, query.shape[2] // kv_heads), mask)

        pattern = self.visibility.prompt_pattern(self.pool.config.retention, window, past + width)
        skips = self.visibility.pattern is not None or self.implementation not in ("eager", "flex")
        if pattern is not None and skips and cached[0].rows.shape == cached[1].rows.shape:
            keys, values = (batch.scaled()[:, :, : past + width].transpose(1, 2) for batch in cached)
            return block_sparse_attention(query, keys, values, pattern, options.scale, options.softcap, options.sinks)

        is_causal = past == 0 and window is None and self.visibility.pattern is None
        return self._compute(self._call(query, rerotated, cached, (shared, bounds), options, is_chunk=True, is_causal=is_causal))

    def _call(
        self,
        query: Tensor,
        rerotated: Tensor | None,
        cached: tuple[KvBatch, KvBatch],
        seen: tuple[Callable[[], Tensor], Callable[[], AttentionMask] | None],
        options: Options,
        *,
        is_chunk: bool = False,
        is_causal: bool = False,
    ) -> Call:
        mask, bounds = seen
        retention = self.pool.config.retention
        return Call(
            query=query,
            cached=cached,
            mask=mask,
            bounds=None if self.visibility.pattern is not None else bounds,
            most=0 if is_chunk else self.pool.config.sequences,
            is_causal=is_causal,
            scale=options.scale,
            softcap=options.softcap,
            sinks=options.sinks,
            rerotated=rerotated,
            first=0 if retention is None else retention.first,
        )

    def _compute(self, call: Call) -> Tensor:
        if self.autotuner is not None:
            out: Tensor = self.autotuner.compute(call)
            return out
        if self.implementation == "flex" and can_flex(call):
            return flex(call)
        return sdpa(call) if self.implementation == "sdpa" and call.is_plain else eager(call)

    def _pad_rows(self, widths: list[int]) -> None:
        """Pad the group's rows to one width: `_spread` are indices of query rows, `_real` those of the output rows that are no padding."""
        self._group_rows, self._width = sum(widths), max(widths, default=0)
        self._spread: Tensor | None = None
        self._real: Tensor | None = None
        if self._group_rows == self._width * len(widths):
            return
        spread, real, first = [], [], 0
        for index, width in enumerate(widths):
            spread += [first + min(i, width - 1) for i in range(self._width)]
            real += [index * self._width + i for i in range(width)]
            first += width
        self._spread, self._real = self._long(spread), self._long(real)

    def _writing(self, kv_heads: int) -> Writing:
        """The memory rows that the new tokens are written to."""
        inputs = (*self.group, *self.chunks)
        return self._once(("write", kv_heads), lambda: self.pool.writing(self._block, self._offset, _spans(inputs), kv_heads))

    def _group_positions(self) -> Tensor:
        """Indices [N, W] of the group's tokens among the stored tokens of their sequences."""
        positions = self._stored[: self._group_rows]
        if self._spread is not None:
            positions = positions.index_select(0, self._spread)
        return positions.view(len(self.group), self._width)

    def _group_blocks(self) -> Tensor | None:
        """The blocks [N, B'] that the group attends to under a pattern; `None` for all."""
        pattern, config = self.visibility.pattern, self.pool.config
        if pattern is None or config.is_contiguous or config.has_ring:
            return None
        length = self.pool.read_length(self._group_length)
        return self._once(("blocks",), lambda: visited_blocks(pattern, self._group_positions(), length, config.block_tokens))

    def _read(self, layer: int, kv_heads: int, chunk: int | None, options: Options) -> tuple[KvBatch, KvBatch]:
        """Keys and values of the group, or of one chunk; with separate scales where those are applied to scores instead of keys."""
        is_plain = options.softcap is None and options.sinks is None and self._rerotations is None
        at = self._once(("read", kv_heads, chunk), lambda: self._reading(kv_heads, chunk))
        return self.pool.read(layer, at, separate_scales=self.autotuner is not None or self.implementation != "sdpa" or not is_plain)

    def _reading(self, kv_heads: int, chunk: int | None) -> Reading:
        if chunk is None:
            return self.pool.reading(_spans(self.group), kv_heads, self._group_blocks())
        return self.pool.reading(_spans(self.inputs[chunk : chunk + 1]), kv_heads)

    def _group_mask(self, groups: int, window: int | None, dtype: torch.dtype) -> Tensor:
        window = window if window is not None and window < self._group_length else None

        def mask() -> Tensor:
            positions, length = self._group_positions(), self.pool.read_length(self._group_length)
            hidden = kernel.additive_mask(positions, length, dtype, window, last_evicted(self.pool.config.retention, positions))
            hidden, blocks = self._patterned(hidden, positions), self._group_blocks()
            chosen = hidden if blocks is None else columns_of_blocks(hidden, blocks, self.pool.config.block_tokens)
            return kernel.widen_mask(chosen, groups)

        return self._once(("group-mask", groups, window, dtype), mask)

    def _patterned(self, mask: Tensor, positions: Tensor, keys: Tensor | None = None) -> Tensor:
        """The mask [N, W, L] that also hides the keys outside the pattern, of positions `keys` [L], by default from 0 on."""
        if self.visibility.pattern is None:
            return mask
        keys = torch.arange(mask.shape[2], device=mask.device) if keys is None else keys
        seen = self.visibility.pattern.allows(positions.unsqueeze(-1), keys)
        return mask.masked_fill_(~seen, torch.finfo(mask.dtype).min)

    def _once(self, name: tuple[object, ...], make: Callable[[], T]) -> T:
        if name not in self._shared:
            self._shared[name] = make()
        made: T = self._shared[name]
        return made

    def _long(self, numbers: Sequence[int]) -> Tensor:
        return upload(numbers, self.pool.device)


def _rotated(queries: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Each of [T, ·, D] multiplied by the Hadamard matrix, in one product where all have the same width."""
    if keys.shape[2] != values.shape[2]:
        return rotate(queries), rotate(keys), rotate(values)
    sizes = [queries.shape[1], keys.shape[1], values.shape[1]]
    queries, keys, values = rotate(torch.cat((queries, keys, values), 1)).split_with_sizes(sizes, 1)
    return queries, keys, values


def _as_batch(rows: Tensor) -> KvBatch:
    """Rows [T, K, D] of one sequence as a batch [1, K, T, D]."""
    return KvBatch(rows.transpose(0, 1).contiguous().unsqueeze(0))


def _stored(entry: SequenceInput) -> int:
    """Tokens stored in the sequence's blocks before the new ones."""
    return entry.cache.tokens - entry.cache.evicted


def _spans(inputs: Sequence[SequenceInput]) -> tuple[Span, ...]:
    return tuple(Span(entry.cache.row, _stored(entry), len(entry.tokens)) for entry in inputs)
