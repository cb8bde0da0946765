"""Limits of cards whose kernels were not measured: power, and fp32 accumulation on game cards; launches that overlap."""

from dataclasses import replace

import pytest

from advisor.backends.deployment import Attention, AttentionBackend, Deployment, KvCache, KvLayout, Parallel, Weights
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.machines.gemm_time import FLOPS_PER_JOULE, product_constants, product_work
from advisor.estimate.memory.ledger import ledger
from advisor.estimate.operators.types import Gemm, Phase, StepPart
from advisor.estimate.steps.pricer import StepPricer
from advisor.profiles.engines import Overheads, load_engine
from advisor.profiles.formats import weight_format
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Workload

LARGE = Gemm(4096, 14336, 4096, "bf16", 1)
FLOPS = 2.0 * 4096 * 14336 * 4096
BARE = Overheads(step_s=0, layer_s=0, sequence_s=0, element_s=0, source="test")


def rate(id: str, overheads: Overheads = BARE) -> float:
    return FLOPS / CatalogueMachine(load_hardware(id), overheads).gemm_s(LARGE, 0.0)


@pytest.mark.parametrize(("id", "tflops"), [("l4", 55), ("rtx-6000-ada", 228), ("jetson-agx-orin-64g", 25), ("a40", 126)])
def test_a_card_multiplies_no_faster_than_its_power_allows(id: str, tflops: float) -> None:
    hardware = load_hardware(id)
    assert hardware.tdp_w is not None
    limit = FLOPS_PER_JOULE[hardware.arch.split()[0]] * hardware.tdp_w
    assert limit == pytest.approx(tflops * 1e12, rel=0.02)
    assert 0.75 * limit < rate(id) <= 1.01 * limit


def test_servers_and_measured_cards_keep_what_was_measured() -> None:
    for id, format in (("a100-sxm-80g", "bf16"), ("l40s", "bf16"), ("rtx-4090", "bf16")):
        hardware = load_hardware(id)
        constants, _ = product_constants(hardware, format)
        assert rate(id) == pytest.approx(FLOPS / constants.seconds(product_work(hardware, LARGE)), rel=0.02), id
        assert rate(id) > 0.65 * hardware.peak("bf16")


def test_game_cards_gain_from_sums_in_fp16_and_others_do_not() -> None:
    """TinyChat prefills on an RTX 4090 at 224 TFLOP/s, with an fp32 peak of 165."""
    narrow = BARE.model_copy(update={"sums": "fp16"})
    assert 1.25 < rate("rtx-4090", narrow) / rate("rtx-4090") < 1.6
    assert rate("rtx-4090") < 165.2e12 < rate("rtx-4090", narrow)
    for id in ("l40s", "a40", "h100-sxm", "mi300x"):
        assert rate(id, narrow) == pytest.approx(rate(id), rel=0.02), id


def test_launches_of_the_host_hide_behind_a_slow_device_and_hold_a_fast_one() -> None:
    """0.3 ms a layer: less than an RTX 3090 takes to read a layer of 7B in fp16, far more than an H200 does."""
    model = find_model("meta-llama/Llama-2-7b-hf")
    deployment = Deployment(model, Weights("fp16"), Attention(AttentionBackend.SDPA), KvCache(KvLayout.PAGED, 16, "bf16"))
    eager = BARE.model_copy(update={"host_layer_s": 0.0003})
    part = (StepPart(Phase.DECODE, 1, 1, 128),)
    step_s = {
        (id, overheads.host_layer_s): StepPricer(deployment, CatalogueMachine(load_hardware(id), overheads)).step_s(part)
        for id in ("rtx-3090", "h200-sxm")
        for overheads in (BARE, eager)
    }
    assert step_s["rtx-3090", 0.0003] == step_s["rtx-3090", 0.0]
    assert step_s["h200-sxm", 0.0003] == pytest.approx(32 * 0.0003)
    assert step_s["h200-sxm", 0.0] < 0.6 * 32 * 0.0003


@pytest.mark.parametrize(("id", "format", "stages"), [("a40", "gguf-q4_k_m", 1), ("rtx-3090", "gguf-f16", 6)])
def test_llama_cpp_leaves_the_embedding_on_the_host(id: str, format: str, stages: int) -> None:
    """Both were measured with 8,192 and 1,024 tokens of Llama-3-70B."""
    engine, hardware = load_engine("llama.cpp-2024"), load_hardware(id)
    model = find_model("meta-llama/Meta-Llama-3-70B")
    deployment = Deployment(
        model, Weights(format), Attention(AttentionBackend.EAGER), KvCache(KvLayout.PAGED, 1, "bf16"), parallel=Parallel(pipeline=stages)
    )
    workload = Workload(prompt_tokens=1, output_tokens=8192 if stages == 1 else 1024, concurrency=1)
    offloaded = ledger(deployment, workload, engine, 1)
    whole = ledger(deployment, workload, engine.model_copy(update={"embedding_on_host": False}), 1)
    assert offloaded.total_bytes < hardware.memory_bytes
    assert model.embedding is not None
    embedding = model.embedding.n * model.embedding.k * weight_format(format).bytes_per_element()
    assert 0 < whole.weights_bytes - offloaded.weights_bytes <= embedding * 1.001


def test_stages_of_a_pipeline_add_a_hop_each() -> None:
    model = find_model("meta-llama/Llama-2-7b-hf")
    deployment = Deployment(model, Weights("fp16"), Attention(AttentionBackend.SDPA), KvCache(KvLayout.PAGED, 16, "bf16"))
    machine = CatalogueMachine(load_hardware("rtx-3090"), BARE.model_copy(update={"hop_s": 0.001}))
    part = (StepPart(Phase.DECODE, 1, 1, 128),)
    alone, staged = (StepPricer(replace(deployment, parallel=Parallel(pipeline=n)), machine).step_s(part) for n in (1, 4))
    assert staged - alone == pytest.approx(0.003)
