"""Has every way to attend timed on steps like those that a session will take, before it serves: requests wait for none of it."""

from collections.abc import Iterator

import torch

from advisor.backends.runtime.attention import Feed, Step
from advisor.backends.runtime.forward import Prepared
from advisor.backends.runtime.pool import Heads, Pool
from advisor.backends.runtime.runner import Runner
from advisor.backends.session import Session

TRY_S = 3.0
"""For all kinds together. What there is no time for is computed as the nearest kind that there was."""
SHORTEST = 64
GRAIN = 4
"""Lengths grow by this factor from one trial to the next."""


def try_out(runner: Runner, ready: Prepared, session: Session) -> None:
    """Run a layer of each kind over steps of growing size; the pool is as empty afterwards as before."""
    assert runner.fastest is not None, "only asked for where ways are chosen by their times"
    layers = {(heads, asked.query_heads, asked.options.window, asked.options.softcap): layer
              for layer, (heads, asked) in reversed(list(enumerate(zip(ready.heads, ready.asked, strict=True))))}  # fmt: skip
    with runner.fastest.trying(TRY_S):
        for sequences, new, tokens in _shapes(session):
            for layer in layers.values():
                if runner.fastest.is_trying:
                    _try(runner, layer, ready, (sequences, new, tokens))
    runner.pool.peak_blocks = runner.pool.peak_rows = 0


def _shapes(session: Session) -> Iterator[tuple[int, int, int]]:
    """Sequences, new tokens of each and tokens of each in all, as steps that decode and as those that prefill; small ones first."""
    lengths = _growing(SHORTEST, session.max_tokens, GRAIN)
    widths = (1, 1 + session.draft_tokens) if session.draft_tokens else (1,)
    for tokens in lengths:
        yield from ((sequences, new, tokens) for new in widths if new < tokens for sequences in _growing(1, session.max_sequences, 2))
        yield 1, tokens, tokens
        if session.token_budget and tokens > session.token_budget and session.chunked:
            yield 1, session.token_budget, tokens


def _growing(first: int, last: int, factor: int) -> list[int]:
    """Up to `last`, which is one of them."""
    found = []
    while first < last:
        found.append(first)
        first *= factor
    return [*found, last]


def _try(runner: Runner, layer: int, ready: Prepared, shape: tuple[int, int, int]) -> None:
    """One step of one layer; nothing where the pool has too little room for it."""
    sequences, new, tokens = shape
    pool, helds = runner.pool, []
    try:
        for _ in range(sequences):
            helds.append(pool.open())
            if not pool.grow(helds[-1], tokens):
                return
            helds[-1].tokens = tokens - new
        decodes = sequences if new < tokens else 0
        step = Step(pool, [Feed(held, [0] * new) for held in helds], decodes, runner.implementation, runner.sight, runner.fastest)
        step.attend_rows(
            layer, *_tensors(pool, ready.heads[layer], ready.asked[layer].query_heads, sequences * new), ready.asked[layer].options
        )
    finally:
        for held in helds:
            pool.close(held)


def _tensors(pool: Pool, heads: Heads, query_heads: int, rows: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Queries [T, H, D], keys [T, K, D] and values [T, K, E] of ordinary size."""
    draw = torch.Generator(device=pool.device).manual_seed(0)
    shapes = ((query_heads, heads.key_width), (heads.kv_heads, heads.key_width), (heads.kv_heads, heads.value_width))
    query, key, value = (torch.randn((rows, *shape), generator=draw, device=pool.device).to(pool.dtype) for shape in shapes)
    return query, key, value
