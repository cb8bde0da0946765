"""The batched forms of attention against the definition, over ordinary and odd shapes."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import pytest

from advisor.profiles.errors import AdvisorError

if TYPE_CHECKING:
    import torch

    from advisor.backends.runtime.cache.pool import KvShape, Pool, SequenceBlocks

pytestmark = pytest.mark.usefixtures("uncompiled_flex")


def filled_pool(
    lengths: list[int], news: list[int], block: int, heads: KvShape, kv_format: str, dtype: torch.dtype
) -> tuple[Pool, list[SequenceBlocks]]:
    """A pool in which sequences hold `lengths` random tokens, in scattered blocks, with room for `news` more."""
    import torch

    from advisor.backends.runtime.attention.step import AttentionStep, SequenceInput
    from advisor.backends.runtime.cache.pool import CacheConfig, Pool

    longest = max(length + new for length, new in zip(lengths, news, strict=True))
    needed = sum(-(-(length + new) // block) for length, new in zip(lengths, news, strict=True))
    config = CacheConfig(blocks=needed + 3, block_tokens=block, sequences=len(lengths), max_tokens=longest, kv_format=kv_format)
    pool = Pool((heads,), config, dtype, torch.device("cpu"))
    random.Random(0).shuffle(pool._free)
    sequences = []
    for length, new in zip(lengths, news, strict=True):
        sequence = pool.open()
        assert pool.allocate(sequence, length + new)
        if length:
            at = AttentionStep(pool, [SequenceInput(sequence, [0] * length)], 0, "eager")._writing(heads.kv_heads)
            shape = (length, heads.kv_heads)
            pool.write(0, torch.randn(*shape, heads.key_width).to(dtype), torch.randn(*shape, heads.value_width).to(dtype), at)
        sequence.tokens = length
        sequences.append(sequence)
    return pool, sequences


def stored(pool: Pool) -> tuple[torch.Tensor, torch.Tensor]:
    """Everything in the pool as the model would see it, [P, K, S, ·]."""
    import torch

    from advisor.backends.runtime.cache.indices import Reading

    everything = Reading(torch.arange(pool.config.blocks), pool.config.block_tokens)
    both = (store.read(everything) for store in (pool.keys[0], pool.values[0]))
    keys, values = (batch.scaled().double() for batch in both)
    return keys, values


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex"])
@pytest.mark.parametrize("block", [1, 5, 16, 64])
@pytest.mark.parametrize(
    ("q_heads", "kv_heads", "key_width", "value_width"), [(4, 4, 8, 8), (8, 2, 16, 16), (6, 1, 8, 12)], ids=["mha", "gqa", "mqa-odd"]
)
@pytest.mark.parametrize("window", [None, 3, 11])
def test_a_mixed_step_agrees_with_the_definition(
    implementation: str, block: int, q_heads: int, kv_heads: int, key_width: int, value_width: int, window: int | None
) -> None:
    import torch

    from advisor.backends.runtime.attention.step import AttentionStep, SequenceInput
    from advisor.backends.runtime.cache.pool import KvShape
    from advisor.backends.runtime.model.attention_hook import Options
    from advisor.kernels.attention.paged_attention import reference

    torch.manual_seed(0)
    lengths, news, grouped = [7, 1, 30, 12, 0, 9], [1, 1, 4, 2, 13, 6], 4
    pool, sequences = filled_pool(lengths, news, block, KvShape(kv_heads, key_width, value_width), "bf16", torch.float32)
    step = AttentionStep(
        pool, [SequenceInput(sequence, [0] * new) for sequence, new in zip(sequences, news, strict=True)], grouped, implementation
    )
    total = sum(news)
    query, key = torch.randn(1, q_heads, total, key_width), torch.randn(1, kv_heads, total, key_width)
    value = torch.randn(1, kv_heads, total, value_width)
    out = step.attend(0, query, key, value, Options(scale=0.3, window=window))[0]

    owner = [index for index, new in enumerate(news) for _ in range(new)]
    positions = torch.tensor([lengths[index] + position for index, new in enumerate(news) for position in range(new)])
    keys, values = stored(pool)
    exact = reference(
        query[0].transpose(0, 1), keys, values, pool.tables[[sequences[i].row for i in owner]], positions, scale=0.3, window=window
    )
    torch.testing.assert_close(out, exact, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("option", ["softcap", "sinks", "neither"])
@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flex"])
def test_soft_caps_and_sinks_agree_with_the_definition(option: str, implementation: str) -> None:
    import torch

    from advisor.backends.runtime.attention.step import AttentionStep, SequenceInput
    from advisor.backends.runtime.cache.pool import KvShape
    from advisor.backends.runtime.model.attention_hook import Options
    from advisor.kernels.attention.paged_attention import reference

    torch.manual_seed(1)
    extras: dict[str, Any] = {"softcap": {"softcap": 2.0}, "sinks": {"sinks": torch.tensor([0.3, -1.0, 2.0, 0.0])}, "neither": {}}
    options = Options(0.5, **extras[option])
    lengths, news = [5, 9, 0], [1, 3, 6]
    pool, sequences = filled_pool(lengths, news, 4, KvShape(2, 8, 8), "bf16", torch.float32)
    step = AttentionStep(
        pool, [SequenceInput(sequence, [0] * new) for sequence, new in zip(sequences, news, strict=True)], 2, implementation
    )
    query, key, value = torch.randn(1, 4, 10, 8), torch.randn(1, 2, 10, 8), torch.randn(1, 2, 10, 8)
    out = step.attend(0, query, key, value, options)[0]
    rows = [sequences[0].row, *[sequences[1].row] * 3, *[sequences[2].row] * 6]
    positions = torch.tensor([5, 9, 10, 11, *range(6)])
    exact = reference(
        query[0].transpose(0, 1), *stored(pool), pool.tables[rows], positions, scale=0.5, softcap=options.softcap, sinks=options.sinks
    )
    torch.testing.assert_close(out, exact, atol=2e-6, rtol=1e-5)


@pytest.mark.parametrize("implementation", ["eager", "sdpa"])
@pytest.mark.parametrize("block", [4, 64])
def test_unwritten_rows_of_the_pool_do_not_reach_the_output(implementation: str, block: int) -> None:
    """Rows after a sequence's end are masked: whatever finite numbers an earlier owner left there."""
    import torch

    from advisor.backends.runtime.attention.step import AttentionStep, SequenceInput
    from advisor.backends.runtime.cache.pool import KvShape
    from advisor.backends.runtime.cache.store import ModelFormat
    from advisor.backends.runtime.model.attention_hook import Options

    torch.manual_seed(2)
    lengths, news = [3, 17, 0], [1, 1, 5]
    results = []
    for left_behind in (0.0, 1e4):
        torch.manual_seed(2)
        pool, sequences = filled_pool(lengths, news, block, KvShape(2, 8, 8), "bf16", torch.float32)
        step = AttentionStep(
            pool, [SequenceInput(sequence, [0] * new) for sequence, new in zip(sequences, news, strict=True)], 2, implementation
        )
        for sequence, length, new in zip(sequences, lengths, news, strict=True):
            for position in range(length + new, len(sequence.blocks) * block):
                for store in (pool.keys[0], pool.values[0]):
                    assert isinstance(store, ModelFormat)
                    store.data[sequence.blocks[position // block], :, position % block] = left_behind
        tensors = torch.randn(1, 4, 7, 8), torch.randn(1, 2, 7, 8), torch.randn(1, 2, 7, 8)
        results.append(step.attend(0, *tensors, Options(0.4)))
    torch.testing.assert_close(results[0], results[1], atol=0, rtol=0)


@pytest.mark.parametrize("implementation", ["eager", "sdpa", "flash"])
@pytest.mark.parametrize("layout", ["contiguous", "paged"])
@pytest.mark.parametrize("kv_format", ["bf16", "fp8", "int8", "int4"])
@pytest.mark.parametrize(("phase", "q_tokens"), [("decode", 1), ("decode", 4), ("prefill", 33), ("prefill", 8)])
def test_the_probe_runs_every_form(implementation: str, layout: str, kv_format: str, phase: str, q_tokens: int) -> None:
    import torch

    from advisor.backends.runtime.attention.probe import attention_layer_callable

    run = attention_layer_callable(
        implementation=implementation,
        layout=layout,
        kv_format=kv_format,
        phase=phase,  # type: ignore[arg-type]  # one of the two
        batch=3,
        q_tokens=q_tokens,
        kv_tokens=33,
        q_heads=4,
        kv_heads=2,
        head_dim=8,
        dtype=torch.bfloat16,
    )
    run()


def test_the_probe_refuses_more_queries_than_keys() -> None:
    import torch

    from advisor.backends.runtime.attention.probe import attention_layer_callable

    with pytest.raises(AdvisorError, match="5 new tokens cannot prefill among 4 keys"):
        attention_layer_callable(
            implementation="eager", layout="paged", kv_format="bf16", phase="prefill", batch=1, q_tokens=5, kv_tokens=4, q_heads=2,
            kv_heads=2, head_dim=8, dtype=torch.float32,
        )  # fmt: skip
