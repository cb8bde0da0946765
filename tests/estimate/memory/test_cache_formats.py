"""What a cache is said to take is what the runtime allocates for it, in every format and layout."""

from __future__ import annotations

from dataclasses import replace

import pytest

from advisor.backends.deployment import Deployment, KvCache, KvLayout, Weights, baseline
from advisor.estimate.memory.cache import device_kv_bytes, kv_bytes_of_sequence, recent_bytes
from advisor.estimate.memory.rows import row_bytes
from advisor.profiles.architectures.layers import SelfAttention
from advisor.profiles.engines import load_engine
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


def bytes_of_a_token(model: str, engine: str, kv_format: str) -> float:
    """Bytes of one more token of a long sequence, over all devices."""
    served = Deployment(find_model(model), Weights("bf16"), kv=KvCache(KvLayout.PAGED, 16, kv_format), engine=engine)
    return (kv_bytes_of_sequence(served, 1 << 20) - kv_bytes_of_sequence(served, 1 << 19)) / (1 << 19)


@pytest.mark.parametrize(("kv_format", "mib"), [("int4", 2880), ("int8", 5440), ("bf16", 10240)])
def test_caches_of_llama_cpp_have_a_scale_for_every_32_elements(kv_format: str, mib: int) -> None:
    """A q4_0 cache of 65,536 cells, 40 layers and 8 heads of 128 was logged as 2,880 MiB; q8_0 and f16 by the same block layouts."""
    mixer = SelfAttention(q_heads=40, kv_heads=8, head_dim=128, value_dim=128)
    assert 40 * 65_536 * row_bytes(mixer, kv_format, load_engine("llama.cpp").kv_rows) == mib * 2**20


def test_sparse_latent_entries_in_fp8_have_scales_and_a_16_bit_rotary_part() -> None:
    """SGLang, DeepSeek-V3.2 in fp8: 656 bytes an entry and 132 an index key in each of 61 layers; 48,072 bytes a token were logged."""
    assert bytes_of_a_token("deepseek-ai/DeepSeek-V3.2", "sglang", "fp8") == 61 * (656 + 132) == pytest.approx(48_072, rel=1e-3)
    assert bytes_of_a_token("deepseek-ai/DeepSeek-V3.2", "vllm", "bf16") == 61 * (2 * 576 + 132), "index keys are fp8 in any cache"


def test_dense_latent_entries_in_fp8_take_a_byte_an_element() -> None:
    assert bytes_of_a_token("deepseek-ai/DeepSeek-V3", "vllm", "fp8") == 61 * 576


def test_compressed_entries_of_deepseek_v4_take_584_bytes() -> None:
    """FlashMLA: 448 bytes, 64 rotary elements in 16 bits, 8 bytes of scales. Layers compress 4 (21 of them) or 128 tokens (20)."""
    per_token = bytes_of_a_token("deepseek-ai/DeepSeek-V4-Flash", "vllm", "fp8")
    assert per_token == pytest.approx(21 * (584 + 132) / 4 + 20 * 584 / 128)
