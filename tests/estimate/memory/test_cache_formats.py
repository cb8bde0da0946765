"""What a cache is said to take is what the runtime allocates for it, in every format and layout."""

from __future__ import annotations

from dataclasses import replace

import pytest

from advisor.backends.deployment import Deployment, KvCache, KvLayout, baseline
from advisor.estimate.memory.ledger import device_kv_bytes, kv_bytes_of_sequence, recent_bytes
from advisor.profiles.architectures.layers import SelfAttention
from advisor.profiles.model_store import find_model

TOKENS = 256


def deployment(kv: KvCache, *, engine: str = "advisor") -> Deployment:
    return replace(baseline(find_model("demo"), max_sequences=3, engine=engine), kv=kv)


@pytest.mark.parametrize("kv_format", ["bf16", "fp8", "int8", "int4"])
@pytest.mark.parametrize(("layout", "block"), [("contiguous", 0), ("paged", 16)])
def test_the_cache_of_our_runtime_takes_the_bytes_that_are_predicted(kv_format: str, layout: str, block: int) -> None:
    import torch

    from advisor.backends.runtime.cache.pool import CacheConfig, KvShape, Pool

    predicted = deployment(KvCache(layout=KvLayout(layout), block_tokens=block, format=kv_format))
    mixers = [layer.mixer for layer in predicted.model.layers]
    heads = tuple(KvShape(mixer.kv_heads, mixer.head_dim, mixer.value_dim) for mixer in mixers if isinstance(mixer, SelfAttention))
    size = block or TOKENS
    config = CacheConfig(blocks=3 * TOKENS // size, block_tokens=size, sequences=3, max_tokens=TOKENS, kv_format=kv_format)
    pool = Pool(heads, config, torch.bfloat16, torch.device("cpu"))
    assert 3 * device_kv_bytes(predicted, TOKENS) == pool.allocated_bytes


def test_newest_pages_are_unquantised_in_engines_that_say_so_and_shrink_with_the_block() -> None:
    small, large = (recent_bytes(deployment(KvCache(KvLayout.PAGED, block, "int4"))) for block in (16, 64))
    assert large == 4 * small > 0
    assert recent_bytes(deployment(KvCache(KvLayout.PAGED, 16, "int8"))) == 0
    assert recent_bytes(deployment(KvCache(KvLayout.PAGED, 16, "int4"), engine="lmdeploy")) == 0


def test_scales_are_counted_where_an_engine_keeps_them() -> None:
    """Our fp8 rows have one each, those of vLLM have none."""
    ours, theirs = (
        kv_bytes_of_sequence(deployment(KvCache(KvLayout.PAGED, 16, "fp8"), engine=engine), 100) for engine in ("advisor", "vllm")
    )
    elements = theirs
    assert ours == elements * (1 + 2 / 64), "two bytes for every row of 64"
