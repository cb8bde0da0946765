"""Our attention inside the model's own code: what one step reads and writes of the pool, and the function that models call."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from advisor.backends.runtime.pool import Heads, Held, Pool
from advisor.kernels import paged_attention as kernel
from advisor.profiles.errors import AdvisorError, ExitCode

NAME = "advisor-paged"
WIDEST_GROUP = 16
"""Sequences with at most so many new tokens share one batched product; longer chunks of prompts run one by one."""


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


class Attending(Protocol):
    """What stands behind the attention function while a model runs."""

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        """Attention of [1, H, T, D] queries; returns [1, T, H, E]."""


_ACTIVE: ContextVar[Attending] = ContextVar("advisor_attending")


@contextmanager
def attending(step: Attending) -> Iterator[None]:
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
    return _ACTIVE.get().attend(layer, query, key, value, Options(scale, sliding_window, softcap, s_aux)), None


def unsupported(name: str, why: str) -> AdvisorError:
    """The error for a model that the runtime cannot run."""
    return AdvisorError(
        "unsupported-model",
        f"the runtime cannot run {name}: {why}",
        exit_code=ExitCode.FAILED,
        notes=("it runs decoder-only models that call attention through transformers' AttentionInterface",),
    )


class Recorder:
    """Answers attention calls with the values themselves and notes the shape of every layer's cache."""

    def __init__(self) -> None:
        self.heads: dict[int, Heads] = {}
        self.calls = 0

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        """Note the shapes; the output is of the right shape and otherwise meaningless."""
        self.calls += 1
        self.heads[layer] = Heads(kv_heads=key.shape[1], key_width=key.shape[3], value_width=value.shape[3])
        return value.repeat_interleave(query.shape[1] // value.shape[1], 1).transpose(1, 2)


class Step:
    """One pass of the model: token rows of all sequences, and where each row's key and value go and what it may see.

    Rows stand in the order of `feeds`; those of at most `WIDEST_GROUP` new tokens and a past must come first. Index tensors
    and masks are made once and shared by all layers of equal shape.
    """

    def __init__(self, pool: Pool, feeds: Sequence[Feed], implementation: str) -> None:
        self.pool = pool
        self.implementation = implementation
        self.device = pool.device
        split = grouped_count(feeds)
        self.group, self.chunks = feeds[:split], feeds[split:]
        places = [place for feed in feeds for place in range(feed.held.tokens, feed.held.tokens + len(feed.tokens))]
        self.ids = self._long([token for feed in feeds for token in feed.tokens]).unsqueeze(0)
        self.positions = self._long(places).unsqueeze(0)
        size = pool.block_tokens
        self._block = self._long([feed.held.blocks[(feed.held.tokens + i) // size] for feed in feeds for i in range(len(feed.tokens))])
        self._offset = self._long([place % size for place in places])
        self._shared: dict[tuple[object, ...], Tensor] = {}
        self._prepare_group()

    def _long(self, numbers: Sequence[int]) -> Tensor:
        return torch.tensor(numbers, dtype=torch.int64, device=self.device)

    def _prepare_group(self) -> None:
        """Rows of the group padded to one width: `_spread` picks query rows, `_real` the rows of the output that exist."""
        widths = [len(feed.tokens) for feed in self.group]
        self.group_rows = sum(widths)
        self.width = max(widths, default=0)
        self._spread: Tensor | None = None
        self._real: Tensor | None = None
        if self.group_rows == self.width * len(widths):
            return
        spread, real, first = [], [], 0
        for index, width in enumerate(widths):
            spread += [first + min(i, width - 1) for i in range(self.width)]
            real += [index * self.width + i for i in range(width)]
            first += width
        self._spread, self._real = self._long(spread), self._long(real)

    def attend(self, layer: int, query: Tensor, key: Tensor, value: Tensor, options: Options) -> Tensor:
        """Write the new keys and values, then attend: the grouped rows in one product, the chunks one by one."""
        pool, kv_heads = self.pool, key.shape[1]
        rows = self._write_rows(kv_heads)
        pool.write(layer, key[0].transpose(0, 1), value[0].transpose(0, 1), rows)
        queries = query[0].transpose(0, 1)
        if not self.chunks:
            return self._attend_group(layer, queries, kv_heads, options).unsqueeze(0)
        out = query.new_empty((1, queries.shape[0], queries.shape[1], value.shape[3]))
        if self.group:
            out[0, : self.group_rows] = self._attend_group(layer, queries[: self.group_rows], kv_heads, options)
        first = self.group_rows
        for index, feed in enumerate(self.chunks):
            part = slice(first, first + len(feed.tokens))
            fresh = (key[:, :, part], value[:, :, part]) if feed.held.tokens == 0 else self._chunk_past(layer, index, kv_heads)
            out[0, part] = self._attend_chunk(index, queries[part].unsqueeze(0), *fresh, options)[0]
            first += len(feed.tokens)
        return out

    def _attend_group(self, layer: int, queries: Tensor, kv_heads: int, options: Options) -> Tensor:
        """[rows, H, D] to [rows, H, E]."""
        if self._spread is not None:
            queries = queries.index_select(0, self._spread)
        keys, values = self.pool.read(layer, self._group_blocks(kv_heads), self._group_length())
        query = queries.reshape(len(self.group), self.width, *queries.shape[1:])
        mask = self._group_mask(kv_heads, queries.shape[1] // kv_heads, options.window, queries.dtype)
        out = self._compute(query, keys, values, mask, options).reshape(queries.shape[0], queries.shape[1], -1)
        return out if self._real is None else out.index_select(0, self._real)

    def _attend_chunk(self, index: int, query: Tensor, keys: Tensor, values: Tensor, options: Options) -> Tensor:
        kv_heads, width = keys.shape[1], query.shape[1]
        window = options.window if options.window is not None and options.window < keys.shape[2] else None
        name = ("chunk-mask", index, window, kv_heads, query.dtype)
        if name not in self._shared:
            positions = torch.arange(keys.shape[2] - width, keys.shape[2], device=self.device).unsqueeze(0)
            mask = kernel.additive_mask(positions, keys.shape[2], query.dtype, window)
            self._shared[name] = kernel.widen_mask(mask, kv_heads, query.shape[2] // kv_heads)
        return self._compute(query, keys.contiguous(), values.contiguous(), self._shared[name], options)

    def _compute(self, query: Tensor, keys: Tensor, values: Tensor, mask: Tensor, options: Options) -> Tensor:
        """Fused when asked for and able to: SDPA knows neither soft caps nor sinks."""
        if self.implementation == "sdpa" and options.softcap is None and options.sinks is None:
            return kernel.fused(query, keys, values, mask, scale=options.scale)
        return kernel.written_out(query, keys, values, mask, scale=options.scale, softcap=options.softcap, sinks=options.sinks)

    def _write_rows(self, kv_heads: int) -> Tensor:
        """Rows of the pool, seen as [P·K·S, D], that the new tokens take: [T·K]."""
        name = ("write", kv_heads)
        if name not in self._shared:
            size = self.pool.block_tokens
            heads = torch.arange(kv_heads, device=self.device)
            self._shared[name] = (((self._block.unsqueeze(1) * kv_heads + heads) * size) + self._offset.unsqueeze(1)).reshape(-1)
        return self._shared[name]

    def _group_length(self) -> int:
        return max(feed.held.tokens + len(feed.tokens) for feed in self.group)

    def _group_blocks(self, kv_heads: int) -> Tensor:
        name = ("group", kv_heads)
        if name not in self._shared:
            rows = self._long([feed.held.row for feed in self.group])
            self._shared[name] = self.pool.gather_index(rows, self._group_length(), kv_heads)
        return self._shared[name]

    def _chunk_past(self, layer: int, index: int, kv_heads: int) -> tuple[Tensor, Tensor]:
        name = ("chunk", index, kv_heads)
        feed = self.chunks[index]
        length = feed.held.tokens + len(feed.tokens)
        if name not in self._shared:
            self._shared[name] = self.pool.gather_index(self._long([feed.held.row]), length, kv_heads)
        keys, values = self.pool.read(layer, self._shared[name], length)
        return keys[:, :, :length], values[:, :, :length]

    def _group_mask(self, kv_heads: int, groups: int, window: int | None, dtype: torch.dtype) -> Tensor:
        length = self.pool.read_length(self._group_length())
        window = window if window is not None and window < length else None
        name = ("group-mask", groups, window, dtype)
        if name not in self._shared:
            positions = self.positions[0, : self.group_rows]
            if self._spread is not None:
                positions = positions.index_select(0, self._spread)
            mask = kernel.additive_mask(positions.view(len(self.group), self.width), length, dtype, window)
            self._shared[name] = kernel.widen_mask(mask, kv_heads, groups)
        return self._shared[name]


def grouped_count(feeds: Sequence[Feed]) -> int:
    """How many of the leading feeds run as one group."""
    for index, feed in enumerate(feeds):
        if len(feed.tokens) > WIDEST_GROUP or feed.held.tokens == 0:
            return index
    return len(feeds)


def register() -> None:
    """Make the function known to transformers; without a mask function of that name no mask is built."""
    from transformers import AttentionInterface  # takes seconds to import

    AttentionInterface.register(NAME, attention_function)
