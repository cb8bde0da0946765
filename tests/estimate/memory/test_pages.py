"""Hybrid models in blocks of one size: what a request holds, what it reserves, and what engines logged at start."""

from __future__ import annotations

import pytest

from advisor.backends.deployment import Batching, BatchPolicy, Deployment, KvCache, KvLayout, Parallel, Weights
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import catalogue_machine
from advisor.estimate.memory.cache import device_kv_bytes
from advisor.estimate.memory.pages import PagePool, page_pool
from advisor.profiles.architectures.read import read_config
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import GIB
from advisor.profiles.hardware import load_hardware
from advisor.profiles.metrics import Value
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load, Workload

V4 = "deepseek-ai/DeepSeek-V4-Flash"


def pool_of(model: str, kv_format: str = "bf16", *, ranks: int = 1, block: int = 16) -> PagePool:
    pool = page_pool(find_model(model), kv_format, "vllm", ranks, block)
    assert pool is not None
    return pool


def requests(hardware: str, devices: int, tokens: int, *, share: float, engine: str = "vllm", budget: int = 8192) -> Value:
    """Requests of V4-Flash that fit at once at `tokens` tokens each."""
    profile = load_engine(engine).model_copy(update={"memory_share": share})
    estimator = Estimator(catalogue_machine(load_hardware(hardware), profile), profile)
    model = find_model(V4)
    served = Deployment(
        model,
        Weights(model.weight_format),
        kv=KvCache(KvLayout.PAGED, 16, "fp8"),
        batching=Batching(BatchPolicy.CONTINUOUS, 256, budget),
        parallel=Parallel(tensor=devices),
        engine=engine,
    )
    workload = Workload(prompt_tokens=tokens - 1, output_tokens=1, load=Load.OFFLINE)
    footprint = estimator.memory.footprint(served, workload)
    return estimator.ranges(served).concurrency(footprint, estimator.memory.usable_bytes(footprint))


def test_a_request_of_deepseek_v4_reserves_what_vllm_said_it_needs() -> None:
    """vllm-project/vllm issue 44376, a step of 16,384 tokens: 6.66 GiB for 30,000 tokens; 5.44 GiB are enough for 13,528 and no more."""
    pool = pool_of(V4, "fp8", ranks=2)
    assert pool.sequence_bytes(30_000, 16_384) / GIB == pytest.approx(6.66, abs=0.005)
    assert pool.sequence_bytes(13_528, 16_384) / GIB == pytest.approx(5.44, abs=0.005)
    assert pool.sequence_bytes(13_529, 16_384) > pool.sequence_bytes(13_528, 16_384)


def test_as_many_requests_of_deepseek_v4_fit_as_vllm_logged() -> None:
    """vllm-project/vllm issue 51454, version 0.25, 8 x B200, share 0.95, a million tokens each: 20.43 requests, not 42."""
    fitting = requests("b200-sxm", 8, 1_048_576, share=0.95)
    assert fitting.value == 20
    assert fitting.low <= 20.43 <= fitting.high


def test_versions_that_reserve_two_steps_are_in_the_range() -> None:
    """vllm-project/vllm issue 51041, 2 x H20: 7.7 GiB held about 1.2 requests of 121,344 tokens; two steps in flight give 1.1."""
    pool = pool_of(V4, "fp8", ranks=2)
    assert 7.7 * GIB / pool.sequence_bytes(121_344, 2 * 8192) == pytest.approx(1.2, abs=0.15)
    fitting = requests("h20", 2, 121_344, share=0.9)
    assert fitting.low <= 1.2 <= fitting.high


def test_one_longest_request_must_fit_at_start() -> None:
    """Its tokens alone would fit several times over: the step in flight does not."""
    assert requests("h20", 2, 4096, share=0.82, budget=2048).value > 0
    assert requests("h20", 2, 121_344, share=0.82, budget=65_536).value == 0


def test_a_window_reserves_one_block_more_than_its_tokens_and_the_step_fill() -> None:
    """vllm-project/vllm pull request 39866: 1,024 - 1 + 8,192 tokens in blocks of 16 are 576, and the window may begin within one."""
    windows = [pages for pages, _ in pool_of("google/gemma-4-26B-A4B").groups if pages.window == 1024]
    assert [pages.blocks(16_384, 8192) for pages in windows] == [577]
    assert [pages.blocks(100, 8192) for pages in windows] == [8], "never more than the sequence has, and one"


def layers(kinds: list[str]) -> PagePool:
    config = {
        "model_type": "gpt_oss", "hidden_size": 256, "intermediate_size": 256, "num_hidden_layers": len(kinds), "num_attention_heads": 4,
        "num_key_value_heads": 2, "head_dim": 64, "num_local_experts": 4, "num_experts_per_tok": 2, "vocab_size": 1000,
        "max_position_embeddings": 4096, "sliding_window": 128, "layer_types": kinds,
    }  # fmt: skip
    pool = page_pool(read_config(config, id="tiny"), "bf16", "vllm", 1, 16)
    assert pool is not None
    return pool


@pytest.mark.parametrize(("full", "sliding", "layers_a_group", "groups"), [(10, 20, 10, [1, 2]), (12, 13, 13, [1, 1]), (4, 7, 4, [1, 2])])
def test_groups_have_as_many_layers_as_the_rarest_kind_unless_little_is_padded(
    full: int, sliding: int, layers_a_group: int, groups: list[int]
) -> None:
    """The examples of vLLM's `_get_kv_cache_groups_uniform_page_size`; the last of two groups of 7 layers is padded."""
    pool = layers(["full_attention"] * full + ["sliding_attention"] * sliding)
    assert pool.block_bytes == layers_a_group * 16 * 2 * 2 * 64 * 2
    assert sorted(count for _, count in pool.groups) == groups


def test_smaller_pages_hold_more_tokens_where_they_divide_the_largest() -> None:
    """Gemma 4: windows of 8 heads of 256, whole contexts of 2 heads of 512."""
    full, window = sorted(pool_of("google/gemma-4-26B-A4B").groups, key=lambda kind: kind[0].window or 0)
    assert (window[0].block_tokens, full[0].block_tokens) == (16, 32)
    assert window[0].page_bytes == full[0].page_bytes


def test_a_state_takes_one_page_of_every_group_of_recurrent_layers() -> None:
    model = find_model("Qwen/Qwen3.5-27B")
    served = Deployment(model, Weights("bf16"), kv=KvCache(KvLayout.PAGED, 16, "fp8"), engine="vllm")
    block = 1568 * 16 * 4 * 2 * 256
    assert device_kv_bytes(served, 1568) == (1 + 3) * block, "16 layers with a cache, 48 with a state"
    assert device_kv_bytes(served, 1569) == (2 + 3) * block


def test_models_without_windows_and_other_engines_have_pages_of_their_own() -> None:
    assert page_pool(find_model("Qwen/Qwen3-32B"), "bf16", "vllm", 1, 16) is None
    assert page_pool(find_model("openai/gpt-oss-20b"), "bf16", "advisor", 1, 16) is None


def test_windowed_layers_of_llama_cpp_have_cells_for_a_window_and_a_micro_batch() -> None:
    """gpt-oss-20b: 768 cells in 12 layers, 18 MiB, beside 12 layers with a cell for every token."""
    served = Deployment(find_model("openai/gpt-oss-20b"), Weights("mxfp4"), kv=KvCache(KvLayout.PAGED, 1, "bf16"), engine="llama.cpp")
    row = 8 * 2 * 64 * 2
    assert device_kv_bytes(served, 4096) - 12 * 4096 * row == 18 * 2**20 == 12 * 768 * row
    assert device_kv_bytes(served, 300) == 24 * 300 * row, "never more than the sequence"


def test_windowed_layers_of_sglang_have_a_fixed_share_of_the_other_pools_tokens() -> None:
    """swa_full_tokens_ratio 0.8: 12 of the 24 layers cache the whole context, the others four fifths of it."""
    served = Deployment(find_model("openai/gpt-oss-20b"), Weights("mxfp4"), kv=KvCache(KvLayout.PAGED, 1, "bf16"), engine="sglang")
    row = 8 * 2 * 64 * 2
    assert device_kv_bytes(served, 10_000) == 12 * (10_000 + 8_000) * row
    assert device_kv_bytes(served, 100) == 24 * 100 * row, "never less than the window"
