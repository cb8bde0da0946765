"""Attention through flex_attention against the definition: rows and block tables, windows, soft caps, sinks, eviction."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from torch import Tensor


LENGTHS, SIZE, HEADS, KV_HEADS, WIDTH = (37, 5, 150), 16, 4, 2, 32


@pytest.fixture(autouse=True)
def _as_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without this, flex_attention traces itself for every new shape, a second each."""
    from torch.nn.attention import flex_attention as module

    monkeypatch.setattr(module, "_FLEX_ATTENTION_DISABLE_COMPILE_DEBUG", True)


def tensors(width: int) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Queries, a pool whose unused blocks hold huge numbers, tables whose unused entries repeat a block, and positions."""
    import torch

    torch.manual_seed(0)
    blocks = sum(-(-length // SIZE) for length in LENGTHS) + 3
    keys, values = torch.randn(blocks, KV_HEADS, SIZE, WIDTH), torch.randn(blocks, KV_HEADS, SIZE, WIDTH)
    order = random.Random(0).sample(range(blocks), blocks)
    most = max(-(-length // SIZE) for length in LENGTHS)
    tables = torch.full((len(LENGTHS), most), order[-1])
    for row, length in enumerate(LENGTHS):
        for block in range(-(-length // SIZE)):
            tables[row, block] = order.pop(0)
    keys[order], values[order] = 1e4, 1e4
    positions = torch.tensor([[length - width + i for i in range(width)] for length in LENGTHS])
    return torch.randn(len(LENGTHS), width, HEADS, WIDTH), keys, values, tables, positions


def exact(query: Tensor, keys: Tensor, values: Tensor, tables: Tensor, positions: Tensor, **options: object) -> Tensor:
    from advisor.kernels.attention.paged_attention import reference

    rows = reference(query.flatten(0, 1), keys, values, tables.repeat_interleave(query.shape[1], 0), positions.flatten(), **options)  # type: ignore[arg-type]  # as the caller knows
    return rows.view(*query.shape[:3], -1)


def gathered(data: Tensor, tables: Tensor) -> Tensor:
    return data[tables].transpose(1, 2).flatten(2, 3)


@pytest.mark.parametrize("width", [1, 4])
@pytest.mark.parametrize("window", [None, 7, pytest.param(40, marks=pytest.mark.slow)])
@pytest.mark.parametrize(("softcap", "logits"), [(None, None), (2.0, None), (None, (0.3, -1.0, 2.0, 30.0)), (3.0, (0.0, 0.0, 0.0, 0.0))])
def test_flex_agrees_with_the_definition(width: int, window: int | None, softcap: float | None, logits: tuple[float, ...] | None) -> None:
    import torch

    from advisor.kernels.attention.flex import AttentionMask, attend, over_rows

    sinks = None if logits is None else torch.tensor(logits)
    query, keys, values, tables, positions = tensors(width)
    seen = AttentionMask(positions=positions, window=window)
    rows = gathered(keys, tables), gathered(values, tables)
    mask = over_rows(seen, rows[0].shape[2])
    out = attend(query, *rows, mask, scale=0.3, softcap=softcap, sinks=sinks)
    expected = exact(query, keys, values, tables, positions, scale=0.3, window=window, softcap=softcap, sinks=sinks)
    torch.testing.assert_close(out, expected, atol=3e-6, rtol=1e-5)


def test_evicted_tokens_are_not_seen() -> None:
    import torch

    from advisor.kernels.attention.flex import AttentionMask, attend, over_rows

    query, keys, values, tables, positions = tensors(1)
    rows = gathered(keys, tables), gathered(values, tables)
    mask = AttentionMask(positions=positions, evicted=(positions - 20, 4))
    out = attend(query, *rows, over_rows(mask, rows[0].shape[2]), scale=0.3)
    for row, last in enumerate(positions[:, 0].tolist()):
        seen = [position for position in range(last + 1) if position < 4 or position > last - 20]
        for head in range(HEADS):
            key, value = (data[row, head // 2, seen] for data in rows)
            weights = torch.softmax(key @ query[row, 0, head] * 0.3, 0)
            torch.testing.assert_close(out[row, 0, head], weights @ value, atol=3e-6, rtol=1e-5)


def test_only_blocks_within_the_window_are_listed() -> None:
    """150 tokens in blocks of 16 and a window of 40: a query at position 149 sees positions 110 to 149, blocks 6 to 9."""
    import torch

    from advisor.kernels.attention.flex import AttentionMask

    count, which = AttentionMask(positions=torch.tensor([[149]]), window=40).blocks(SIZE, 10)
    assert which[0, 0, : int(count[0, 0])].tolist() == [6, 7, 8, 9]


@pytest.mark.slow
def test_the_compiled_kernel_agrees_with_the_definition() -> None:
    import torch

    from advisor.kernels.attention.flex import AttentionMask, attend, compiled, over_rows

    query, keys, values, tables, positions = tensors(1)
    rows = gathered(keys, tables), gathered(values, tables)
    mask = over_rows(AttentionMask(positions=positions), rows[0].shape[2])
    with torch.inference_mode():
        out = attend(query, *rows, mask, scale=0.3, run=compiled("cpu"))
    torch.testing.assert_close(out, exact(query, keys, values, tables, positions, scale=0.3), atol=1e-5, rtol=1e-4)
