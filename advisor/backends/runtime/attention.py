"""Our attention inside the model's own code: what one step reads and writes of the pool, and the function that models call."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from advisor.backends.runtime.pool import Held, Pool
from advisor.backends.runtime.store import Batch
from advisor.kernels import paged_attention as kernel
from advisor.profiles.errors import AdvisorError, ExitCode

NAME = "advisor-paged"


@dataclass(frozen=True, slots=True)
class Options:
    """What a model asks of one attention call besides the tensors."""

    scale: float
    window: int | None = None
    softcap: float | None = None
    sinks: Tensor | None = None


@dataclass(frozen=True, slots=True)
class Feed:
    """New tokens of one sequence in a step: they take the places from `held.tokens` on."""

    held: Held
    tokens: Sequence[int]


class Attends(Protocol):
    """What stands behind attention while a model runs."""

    def attend_rows(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        """Attention of queries [T, H, D] after the new keys [T, K, D] and values [T, K, E] are stored; returns [T, H, E]."""


_ACTIVE: ContextVar[Attends] = ContextVar("advisor_attending")


@contextmanager
def attending(step: Attends) -> Iterator[None]:
    """Let `step` answer the attention calls of models that run inside."""
    token = _ACTIVE.set(step)
    try:
        yield
    finally:
        _ACTIVE.reset(token)


def attention_function(
    module: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    scaling: float | None = None,
    sliding_window: int | None = None,
    softcap: float | None = None,
    s_aux: Tensor | None = None,
    **extra: Any,
) -> tuple[Tensor, None]:
    """The function registered with `transformers.AttentionInterface`. Raises `AdvisorError` for what it does not compute."""
    if extra.get("position_bias") is not None or extra.get("is_causal") is False or attention_mask is not None:
        raise unsupported(type(module).__name__, "its attention adds a position bias or its own mask")
    layer = getattr(module, "layer_idx", None)
    if layer is None:
        raise unsupported(type(module).__name__, "its attention modules carry no layer index")
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    return attend(_ACTIVE.get(), layer, query, key, value, Options(scale, sliding_window, softcap, s_aux)), None


def attend(step: Attends, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
    """Attention of tensors [1, H, T, D] as models lay them out; returns [1, T, H, E]."""
    queries, keys, values = (tensor[0].transpose(0, 1) for tensor in (query, key, value))
    return step.attend_rows(layer, queries, keys, values, options).unsqueeze(0)


def unsupported(name: str, why: str) -> AdvisorError:
    """The error for a model that the runtime cannot run."""
    return AdvisorError(
        "unsupported-model",
        f"the runtime cannot run {name}: {why}",
        exit_code=ExitCode.FAILED,
        notes=("it runs decoder-only models that call attention through transformers' AttentionInterface",),
    )


class Step:
    """One pass of the model: token rows of all sequences, and where each row's key and value go and what it may see.

    Rows stand in the order of `feeds`. The first `grouped` of them are few tokens each and attend in one batched product; the
    others, chunks of prompts, attend one by one. Index tensors and masks are made once and shared by all layers of equal shape.
    """

    def __init__(self, pool: Pool, feeds: Sequence[Feed], grouped: int, implementation: str) -> None:
        self.pool = pool
        self.implementation = implementation
        self.group, self.chunks = feeds[:grouped], feeds[grouped:]
        places = [place for feed in feeds for place in range(feed.held.tokens, feed.held.tokens + len(feed.tokens))]
        size = pool.room.block_tokens
        blocks = [feed.held.blocks[(feed.held.tokens + i) // size] for feed in feeds for i in range(len(feed.tokens))]
        self.ids = self._long([token for feed in feeds for token in feed.tokens])
        self.positions = self._long(places)
        self._block, self._offset = self._long(blocks), self._long([place % size for place in places])
        self._shared: dict[tuple[object, ...], Tensor] = {}
        self._group_length = max((feed.held.tokens + len(feed.tokens) for feed in self.group), default=0)
        self._even_out([len(feed.tokens) for feed in self.group])

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        """Attention of tensors [1, H, T, D]; returns [1, T, H, E]."""
        return attend(self, layer, query, key, value, options)

    def attend_rows(self, layer: int, queries: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        """Write the new keys and values, then attend: the group in one product, the chunks one by one."""
        kv_heads = keys.shape[1]
        self.pool.write(layer, keys, values, self._write_rows(kv_heads))
        if not self.chunks:
            return self._attend_group(layer, queries, kv_heads, options)
        out = queries.new_empty((queries.shape[0], queries.shape[1], values.shape[2]))
        if self.group:
            out[: self._group_rows] = self._attend_group(layer, queries[: self._group_rows], kv_heads, options)
        first = self._group_rows
        for index, feed in enumerate(self.chunks):
            rows = slice(first, first + len(feed.tokens))
            if feed.held.tokens == 0 and self.pool.is_exact:
                past = _alone(keys[rows]), _alone(values[rows])
            else:
                past = self._chunk_past(layer, index, kv_heads)
            out[rows] = self._attend_chunk(index, queries[rows].unsqueeze(0), past, options)[0]
            first += len(feed.tokens)
        return out

    def _attend_group(self, layer: int, queries: Tensor, kv_heads: int, options: Options) -> Tensor:
        """[rows, H, D] to [rows, H, E]."""
        if self._spread is not None:
            queries = queries.index_select(0, self._spread)
        cached = self.pool.read(layer, self._group_index(kv_heads), self._group_length)
        query = queries.reshape(len(self.group), self._width, *queries.shape[1:])
        mask = self._group_mask(queries.shape[1] // kv_heads, options.window, queries.dtype)
        fuse = self._may_fuse(options) and kernel.fused_pays(cached[0].rows)
        out = self._compute(query, cached, mask, options, fuse=fuse).reshape(queries.shape[0], queries.shape[1], -1)
        return out if self._real is None else out.index_select(0, self._real)

    def _attend_chunk(self, index: int, query: Tensor, cached: tuple[Batch, Batch], options: Options) -> Tensor:
        """[1, T, H, D] to [1, T, H, E]; a whole prompt needs no mask when SDPA makes it causal."""
        kv_heads, length = cached[0].rows.shape[1:3]
        past, width = self.chunks[index].held.tokens, query.shape[1]
        window = options.window if options.window is not None and options.window < past + width else None
        if self._may_fuse(options) and past == 0 and window is None:
            keys, values = (batch.scaled()[:, :, :width] for batch in cached)
            return kernel.fused(query, keys, values, None, scale=options.scale)

        def mask() -> Tensor:
            positions = torch.arange(past, past + width, device=self.pool.device).unsqueeze(0)
            hidden = kernel.additive_mask(positions, length, query.dtype, window)
            return kernel.widen_mask(hidden, query.shape[2] // kv_heads)

        shared = self._once(("chunk-mask", index, window, query.shape[2] // kv_heads), mask)
        return self._compute(query, cached, shared, options, fuse=self._may_fuse(options))

    def _may_fuse(self, options: Options) -> bool:
        """SDPA knows neither soft caps nor sinks."""
        return self.implementation == "sdpa" and options.softcap is None and options.sinks is None

    def _compute(self, query: Tensor, cached: tuple[Batch, Batch], mask: Tensor, options: Options, *, fuse: bool) -> Tensor:
        keys, values = cached
        if fuse:
            return kernel.fused(query, keys.scaled(), values.scaled(), mask, scale=options.scale)
        return kernel.written_out(
            query,
            keys.rows,
            values.rows,
            mask,
            scale=options.scale,
            softcap=options.softcap,
            sinks=options.sinks,
            key_scales=keys.scales,
            value_scales=values.scales,
        )

    def _even_out(self, widths: list[int]) -> None:
        """Pad the group's rows to one width: `_spread` picks query rows, `_real` the rows of the output that exist."""
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

    def _write_rows(self, kv_heads: int) -> Tensor:
        """Rows of the memory, seen as [P·K·S, ·], that the new tokens take: [T·K]."""

        def rows() -> Tensor:
            heads = torch.arange(kv_heads, device=self.pool.device)
            starts = (self._block.unsqueeze(1) * kv_heads + heads) * self.pool.room.block_tokens
            return (starts + self._offset.unsqueeze(1)).reshape(-1)

        return self._once(("write", kv_heads), rows)

    def _group_index(self, kv_heads: int) -> Tensor:
        def index() -> Tensor:
            return self.pool.gather_index(self._long([feed.held.row for feed in self.group]), self._group_length, kv_heads)

        return self._once(("group", kv_heads), index)

    def _chunk_past(self, layer: int, index: int, kv_heads: int) -> tuple[Batch, Batch]:
        held = self.chunks[index].held
        length = held.tokens + len(self.chunks[index].tokens)
        chosen = self._once(("chunk", index, kv_heads), lambda: self.pool.gather_index(self._long([held.row]), length, kv_heads))
        return self.pool.read(layer, chosen, length)

    def _group_mask(self, groups: int, window: int | None, dtype: torch.dtype) -> Tensor:
        window = window if window is not None and window < self._group_length else None

        def mask() -> Tensor:
            positions = self.positions[: self._group_rows]
            if self._spread is not None:
                positions = positions.index_select(0, self._spread)
            positions = positions.view(len(self.group), self._width)
            hidden = kernel.additive_mask(positions, self.pool.read_length(self._group_length), dtype, window)
            return kernel.widen_mask(hidden, groups)

        return self._once(("group-mask", groups, window, dtype), mask)

    def _once(self, name: tuple[object, ...], make: Callable[[], Tensor]) -> Tensor:
        if name not in self._shared:
            self._shared[name] = make()
        return self._shared[name]

    def _long(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self.pool.device)


def _alone(rows: Tensor) -> Batch:
    """Rows [T, K, D] of one sequence as a batch [1, K, T, D]."""
    return Batch(rows.transpose(0, 1).contiguous().unsqueeze(0))


def register() -> None:
    """Make the function known to transformers; without a mask function of that name no mask is built."""
    from transformers import AttentionInterface  # takes seconds to import

    AttentionInterface.register(NAME, attention_function)
