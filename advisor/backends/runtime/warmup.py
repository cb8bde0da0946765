"""Runs attention on the shapes of a session before it serves, to time the implementations or to compile one."""

from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import dataclass

import torch

from advisor.backends.model.loaded_model import LoadedModel
from advisor.backends.runtime.attention.step import AttentionStep, SequenceInput
from advisor.backends.runtime.cache.pool import KvShape, Pool, SequenceBlocks
from advisor.backends.runtime.model.forward import Prepared
from advisor.backends.runtime.runner import Runner

TUNING_S = 3.0
"""Seconds for all shapes together. A shape that was not timed uses the choice of the nearest one that was."""
SHORTEST = 64
"""Tokens of the shortest shapes; shorter ones use their choice."""
GROWTH = 4
"""Factor between successive lengths that are timed."""


def warm_up_attention(runner: Runner, ready: Prepared, session: LoadedModel) -> None:
    """Run a layer of each kind over steps of growing size; the pool is unchanged afterwards.

    Implementations are timed at lengths that grow by `GROWTH`, within `TUNING_S`; flex_attention is compiled for every length.
    """
    layers = {(heads, attention.query_heads, attention.options.window, attention.options.softcap): layer
              for layer, (heads, attention) in reversed(list(enumerate(zip(ready.heads, ready.attention, strict=True))))}  # fmt: skip
    autotuner = runner.autotuner
    with nullcontext() if autotuner is None else autotuner.tuning(TUNING_S):
        for shape in _shapes(session, GROWTH if autotuner is not None else 2):
            for layer in layers.values():
                if autotuner is None or autotuner.is_tuning:
                    _run_layer(runner, layer, ready, shape)
    runner.pool.peak_blocks = runner.pool.peak_rows = 0


@dataclass(frozen=True, slots=True)
class _Shape:
    """A step of `sequences` with `tokens` tokens each, of which `new` are new: a decoding batch, or one chunk of a prompt."""

    sequences: int
    new: int
    tokens: int
    decodes: bool


def _shapes(session: LoadedModel, growth: int) -> Iterator[_Shape]:
    """Steps that decode and steps that prefill, small ones first."""
    widths = {1, 1 + session.decoding.draft_tokens}
    chunks = {SHORTEST, session.batching.token_budget} if session.batching.token_budget and session.batching.chunked else {SHORTEST}
    for tokens in _geometric_lengths(SHORTEST, session.max_tokens, growth):
        for sequences in _geometric_lengths(1, session.batching.max_sequences, 2):
            yield from (_Shape(sequences, new, tokens, True) for new in sorted(widths) if new < tokens)
        yield _Shape(1, tokens, tokens, False)
        yield from (_Shape(1, new, tokens, False) for new in sorted(chunks) if new < tokens)


def _geometric_lengths(first: int, last: int, factor: int) -> list[int]:
    """Lengths from `first` to `last`, both included, each `factor` times the one before."""
    sizes = []
    while first < last:
        sizes.append(first)
        first *= factor
    return [*sizes, last]


def _run_layer(runner: Runner, layer: int, ready: Prepared, shape: _Shape) -> None:
    """Run one step of one layer, unless the pool has too few free blocks."""
    pool, attention, caches = runner.pool, ready.attention[layer], list[SequenceBlocks]()
    try:
        for _ in range(shape.sequences):
            caches.append(pool.open())
            if not pool.allocate(caches[-1], shape.tokens):
                return
            caches[-1].tokens = shape.tokens - shape.new
        inputs = [SequenceInput(cache, [0] * shape.new) for cache in caches]
        step = AttentionStep(pool, inputs, len(inputs) if shape.decodes else 0, runner.implementation, runner.visibility, runner.autotuner)
        rows = shape.sequences * shape.new
        step.attend_rows(layer, *_tensors(pool, ready.heads[layer], attention.query_heads, rows), attention.options)
    finally:
        for cache in caches:
            pool.free(cache)


def _tensors(pool: Pool, heads: KvShape, query_heads: int, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Random queries [T, H, D], keys [T, K, D] and values [T, K, E]."""
    draw = torch.Generator(device=pool.device).manual_seed(0)
    shapes = ((query_heads, heads.key_width), (heads.kv_heads, heads.key_width), (heads.kv_heads, heads.value_width))
    query, key, value = (torch.randn((rows, *shape), generator=draw, device=pool.device).to(pool.dtype) for shape in shapes)
    return query, key, value
