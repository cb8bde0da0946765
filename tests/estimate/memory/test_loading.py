"""What an engine holds of a checkpoint is not what the file holds: padding, and which numbers are exact."""

from __future__ import annotations

import pytest

from advisor.backends.deployment import Batching, BatchPolicy, Deployment, KvCache, KvLayout, Parallel, Weights
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import catalogue_machine
from advisor.estimate.memory.ledger import device_weight_bytes
from advisor.estimate.memory.loading import padding_bytes
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import GIB
from advisor.profiles.hardware import load_hardware
from advisor.profiles.metrics import Basis, Metrics
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Workload

REQUEST = Workload(prompt_tokens=1000, output_tokens=8, concurrency=1)


def deployed(model_id: str, engine: str, *, kv_format: str = "bf16", parallel: Parallel | None = None) -> Deployment:
    model = find_model(model_id)
    cache = KvCache(KvLayout.PAGED, 16, kv_format)
    batching = Batching(BatchPolicy.CONTINUOUS, 1)
    return Deployment(model, Weights(model.weight_format), kv=cache, batching=batching, parallel=parallel or Parallel(), engine=engine)


def metrics(model_id: str, engine: str, kv_format: str = "bf16", hardware: str = "h100-sxm") -> Metrics:
    profile = load_engine(engine)
    estimator = Estimator(catalogue_machine(load_hardware(hardware), profile), profile)
    return estimator.metrics(deployed(model_id, engine, kv_format=kv_format), REQUEST)


@pytest.mark.parametrize(
    ("model", "hardware", "loaded_gib"),
    [("openai/gpt-oss-120b", "h100-sxm", 64.4), ("openai/gpt-oss-120b", "h100-sxm", 66.0), ("openai/gpt-oss-20b", "a100-sxm-80g", 13.72)],
)
def test_mxfp4_experts_are_padded_as_vllm_loaded_them(model: str, hardware: str, loaded_gib: float) -> None:
    """`Model loading took` 64.4 GiB with Triton, 66.0 with Marlin; 13.72 on an A100 (myoceane.fr). The files have 60.8 and 12.8."""
    weights = metrics(model, "vllm", hardware=hardware).weights_gib
    assert weights is not None
    assert weights.low <= loaded_gib <= weights.high
    assert weights.value == pytest.approx(loaded_gib, rel=0.025)
    assert weights.basis is Basis.LITERATURE


def test_sizes_that_kernels_take_as_they_are_are_not_padded() -> None:
    """DeepSeek V4: 4,096 by 2,048, on two devices 1,024."""
    assert padding_bytes(deployed("deepseek-ai/DeepSeek-V4-Flash", "vllm", parallel=Parallel(tensor=2))) == (0, 0, 0)
    assert padding_bytes(deployed("openai/gpt-oss-20b", "advisor")) == (0, 0, 0), "our runtime pads none"
    assert padding_bytes(deployed("Qwen/Qwen3-30B-A3B-FP8", "vllm")) == (0, 0, 0), "fp8 experts are not padded"


def test_the_part_of_an_expert_on_a_device_is_padded_and_experts_that_are_divided_whole_are_not_padded_more() -> None:
    """2,880 by 2,880 is padded to 3,072 by 2,944; a half, of 1,440, to 1,536; a quarter, of 720, to 768."""
    base = deployed("openai/gpt-oss-120b", "vllm")
    experts = 36 * 128 * 3 * 2880 * 2880 * 4.25 / 8
    for tensor, padded in ((1, 2944), (2, 1536), (4, 768)):
        _, usual, _ = padding_bytes(deployed("openai/gpt-oss-120b", "vllm", parallel=Parallel(tensor=tensor)))
        assert usual == pytest.approx(experts / tensor * (3072 * padded / (2880 * 2880 / tensor) - 1))
    assert device_weight_bytes(base) / GIB == pytest.approx(60.77, abs=0.01), "the checkpoint's own bytes stay"


def test_padding_is_in_the_range_of_peak_memory_and_of_requests() -> None:
    padded = metrics("openai/gpt-oss-120b", "vllm")
    assert padded.peak_memory_gib is not None
    assert padded.weights_gib is not None
    assert padded.peak_memory_gib.low < padded.weights_gib.value, "weights may be padded less"
    assert padded.peak_memory_gib.high > padded.peak_memory_gib.value + 2.5, "or more: 256 by 256"


@pytest.mark.parametrize(
    ("engine", "kv_format", "weights_exact", "cache_exact"),
    [
        ("advisor", "int8", True, True),
        ("vllm", "bf16", False, True),
        ("llama.cpp", "int4", False, True),
        ("lmdeploy", "bf16", False, True),
        ("lmdeploy", "int4", False, False),
    ],
)
def test_only_what_shapes_and_a_known_layout_decide_is_exact(engine: str, kv_format: str, weights_exact: bool, cache_exact: bool) -> None:
    predicted = metrics("meta-llama/Meta-Llama-3.1-8B", engine, kv_format)
    assert predicted.weights_gib is not None
    assert predicted.kv_cache_gib is not None
    assert (predicted.weights_gib.basis is Basis.EXACT) is weights_exact
    assert (predicted.kv_cache_gib.basis is Basis.EXACT) is cache_exact
    for value, exact in ((predicted.weights_gib, weights_exact), (predicted.kv_cache_gib, cache_exact)):
        assert (value.low == value.high) is exact


def test_the_blocks_of_deepseek_v4_are_smaller_in_versions_that_pack_them() -> None:
    """vLLM from 0.26 on packs the pages of a group: 1,002,240 bytes in place of 22 tuples of 47,808."""
    cache = metrics("deepseek-ai/DeepSeek-V4-Flash", "vllm", "fp8", "h200-sxm").kv_cache_gib
    assert cache is not None
    assert cache.low / cache.value == pytest.approx(1_002_240 / (22 * 47_808))
