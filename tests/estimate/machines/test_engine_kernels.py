"""Kernels of llama.cpp's own: bound by bandwidth, loads in flight, unpacking, peak or power, whichever is least."""

from dataclasses import replace

import pytest

from advisor.backends.deployment import AttentionBackend, KvLayout
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.machines.engine_kernels import attention_s, product_s
from advisor.estimate.machines.gemm_time import product_constants
from advisor.estimate.operators.types import AttentionCall, Gemm, Phase
from advisor.profiles.engine_parts import Kernels
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import load_hardware

PLAIN = Kernels(layer_s=0, read=1, unpack_flops=0, product=1)
DECODE = AttentionCall(Phase.DECODE, 1, 1, 4096, 32, 8, 128, 128, AttentionBackend.EAGER, KvLayout.PAGED, "bf16", 1)
PREFILL = AttentionCall(Phase.PREFILL, 1, 512, 4096, 32, 8, 128, 128, AttentionBackend.EAGER, KvLayout.PAGED, "bf16", 1)


def product(m: int, format: str) -> Gemm:
    return Gemm(m, 14336, 4096, format, 1)


def test_a_weak_device_is_bound_by_unpacking_weights_and_a_strong_one_by_reading_them() -> None:
    """Thirty operations a weight: 0.17 ms on an M1 Max, which reads these weights in 0.09 ms; on RTX 4090 reading takes longer."""
    slow, fast = load_hardware("apple-m1-max-32"), load_hardware("rtx-4090")
    unpacking = PLAIN.model_copy(update={"unpack_flops": 30.0})
    gemm = product(1, "gguf-q4_k_m")
    least = 30 * 14336 * 4096 / slow.peak("fp32")
    assert product_s(slow, unpacking, gemm) == pytest.approx(least, rel=0.05)
    assert product_s(slow, unpacking, gemm) > 1.8 * product_s(slow, PLAIN, gemm)
    assert product_s(fast, unpacking, gemm) < 1.2 * product_s(fast, PLAIN, gemm)
    assert product_s(slow, unpacking, product(1, "gguf-f16")) == product_s(slow, PLAIN, product(1, "gguf-f16"))


def test_processors_with_few_loads_in_flight_leave_stacked_memory_idle() -> None:
    """10 GB/s each: 108 processors of an A100 read half of its bandwidth, 48 of an RTX 4000 Ada all of it."""
    limited = PLAIN.model_copy(update={"wide_bytes_per_s": 10e9})
    gemm = product(1, "gguf-f16")
    for id, slower in (("a100-sxm-80g", 1.88), ("rtx-4000-ada", 1.03)):
        hardware = load_hardware(id)
        assert product_s(hardware, limited, gemm) / product_s(hardware, PLAIN, gemm) == pytest.approx(slower, rel=0.03), id


def test_power_bounds_large_products_and_not_small_ones() -> None:
    """300 W at 0.4 TFLOP/J are 120 TFLOP/s, a third of what the tensor units of an RTX 6000 Ada could do."""
    hardware = load_hardware("rtx-6000-ada")
    bound = PLAIN.model_copy(update={"flops_per_joule": {"Ada": 0.4e12}})
    large, small = product(512, "gguf-f16"), product(1, "gguf-f16")
    assert product_s(hardware, bound, large) == pytest.approx(2 * 512 * 14336 * 4096 / 120e12, rel=0.02)
    assert product_s(hardware, bound, large) > 2.5 * product_s(hardware, PLAIN, large)
    assert product_s(hardware, bound, small) == product_s(hardware, PLAIN, small)


def test_power_of_an_unknown_architecture_is_the_mean_of_the_known_ones() -> None:
    bound = PLAIN.model_copy(update={"flops_per_joule": {"Ada": 0.4e12, "Ampere 8.0": 0.1e12}})
    assert bound.flops_limit("Ada", "8.9", 100) == 40e12
    assert bound.flops_limit("Ampere", "8.0", 100) == 10e12
    assert bound.flops_limit("Hopper", "9.0", 100) == pytest.approx(20e12)
    assert bound.flops_limit("Ada", "8.9", None) == PLAIN.flops_limit("Ada", "8.9", 100) == float("inf")


def test_scores_written_out_grow_with_the_context_and_every_head_reads_for_itself() -> None:
    hardware = load_hardware("rtx-3090")
    written = PLAIN.model_copy(update={"score_bytes": 16.0})
    longer = replace(PREFILL, kv_tokens=8192)
    moved = 16.0 * 32 * 512 * 4096 / (0.8 * hardware.memory_bandwidth_bytes_per_s)
    added = [attention_s(hardware, written, call) - attention_s(hardware, PLAIN, call) for call in (PREFILL, longer)]
    assert added == pytest.approx([moved, 2 * moved])
    alone = replace(DECODE, kv_heads=32)
    assert attention_s(hardware, PLAIN, DECODE) == pytest.approx(attention_s(hardware, PLAIN, alone))


def test_llama_cpp_decodes_f16_on_the_a100_no_faster_than_on_the_rtx_4090() -> None:
    """The loads in flight of the A100's processors hold what a card with half of its bandwidth reaches (53 and 55 tok/s of Llama-3-8B)."""
    engine = load_engine("llama.cpp-2024")
    server, card = (CatalogueMachine(load_hardware(id), engine.gpu) for id in ("a100-sxm-80g", "rtx-4090"))
    gemm = product(1, "gguf-f16")
    assert server.gemm_s(gemm, 0.0) == pytest.approx(card.gemm_s(gemm, 0.0), rel=0.15)
    assert server.latency_s(gemm) == 0.0
    assert server.overheads.layer_s == engine.gpu.kernels["other"].layer_s


def test_game_cards_borrow_the_products_of_the_rtx_4090_and_workstations_those_of_the_l40s() -> None:
    """Sums in fp32 at half rate reach all of the peak; at full rate power does not allow it."""
    for id, source in (("rtx-4080", "rtx-4090"), ("rtx-3090", "rtx-4090"), ("rtx-6000-ada", "l40s"), ("l4", "l40s")):
        borrowed, own = (product_constants(load_hardware(device), "bf16")[0] for device in (id, source))
        assert replace(borrowed, product=own.product) == own, id
        assert borrowed.product <= own.product, id
    assert (
        product_constants(load_hardware("rtx-4090"), "int4")[0].product == product_constants(load_hardware("rtx-4090"), "bf16")[0].product
    )
    assert product_constants(load_hardware("rtx-6000-ada"), "int4")[0].product < 0.8
