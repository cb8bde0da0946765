"""Prices of a machine known from published kernels: every format on every device, and how far they are from measurements."""

from dataclasses import replace

import pytest

from advisor.backends.deployment import AttentionBackend, KvLayout
from advisor.estimate.machines.attention_time import attention_constants
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.machines.collective_time import Fabric
from advisor.estimate.machines.gemm_time import product_constants, product_work
from advisor.estimate.operators.types import AllReduce, AttentionCall, Exchange, Gemm, Phase
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import CACHE_FORMATS, FORMATS, weight_format
from advisor.profiles.hardware import Hardware, load_hardware, shipped_hardware
from advisor.profiles.metrics import Basis

EVERY_FORMAT = (*FORMATS, "int4-g32", "int4-g128", "exl2-2.5bpw", "exl2-4.0bpw", "exl2-8.0bpw")
DECODE = AttentionCall(Phase.DECODE, 1, 1, 4096, 32, 8, 128, 128, AttentionBackend.SDPA, KvLayout.PAGED, "bf16", 1)
PREFILL = AttentionCall(Phase.PREFILL, 1, 2048, 2048, 32, 8, 128, 128, AttentionBackend.SDPA, KvLayout.PAGED, "bf16", 1)


def machine(id: str) -> CatalogueMachine:
    return CatalogueMachine(load_hardware(id), load_engine("vllm").gpu)


def test_every_format_has_a_price_on_every_device() -> None:
    """At no less than the data sheet allows, and within a factor that no kernel worth running exceeds."""
    for id in shipped_hardware():
        priced, hardware = machine(id), load_hardware(id)
        for format in EVERY_FORMAT:
            for m in (1, 4096):
                gemm = Gemm(m, 8192, 8192, format, 1)
                work, seconds = product_work(hardware, gemm), priced.gemm_s(gemm, 0.0)
                least = max(work.read_s, min(work.vector_s * 0.5, 2.0 * m * 8192**2 / _peak_of(hardware, format)))
                assert 0.999 * least <= seconds <= 12 * least + 1e-4, (id, format, m, seconds, least)
            assert priced.basis_of(format).rank >= Basis.CATALOGUE.rank


def test_every_cache_format_has_a_price_on_every_device() -> None:
    for id in shipped_hardware():
        priced = machine(id)
        for kv in CACHE_FORMATS:
            for call in (DECODE, PREFILL):
                shorter, longer = (replace(call, kv_format=kv, kv_tokens=tokens) for tokens in (2048, 8192))
                assert 0 < priced.attention_s(shorter) < priced.attention_s(longer) < 100, (id, kv, call.phase)


@pytest.mark.parametrize(
    ("id", "format", "m", "n", "k", "measured_us"),
    [
        ("h100-sxm", "bf16", 1, 8192, 8192, 47.7),
        ("h100-sxm", "bf16", 1, 1024, 4096, 6.9),
        ("h100-sxm", "bf16", 4096, 6144, 4096, 258.7),
        ("h200-sxm", "int4", 64, 65536, 8192, 162.4),
        ("l40s", "bf16", 128, 6144, 4096, 80.0),
    ],
)
def test_products_are_near_their_measured_times(id: str, format: str, m: int, n: int, k: int, measured_us: float) -> None:
    """Rows of the aiconfigurator kernel database."""
    hardware = load_hardware(id)
    constants, basis = product_constants(hardware, format)
    assert basis is Basis.CATALOGUE
    assert constants.seconds(product_work(hardware, Gemm(m, n, k, format, 1))) * 1e6 == pytest.approx(measured_us, rel=0.2)


@pytest.mark.parametrize(
    ("id", "sequences", "q_tokens", "kv_tokens", "measured_us"),
    [
        ("h100-sxm", 1, 1, 4096, 16.9),
        ("h100-sxm", 64, 1, 8192, 688.2),
        ("l40s", 128, 1, 2048, 1510.7),
        ("h100-sxm", 1, 4096, 4096, 264.3),
        ("b200-sxm", 8, 2048, 2048, 341.4),
    ],
)
def test_attention_is_near_its_measured_time(id: str, sequences: int, q_tokens: int, kv_tokens: int, measured_us: float) -> None:
    """Rows of the aiconfigurator kernel database: 32 heads on 8."""
    call = replace(PREFILL if q_tokens > 1 else DECODE, sequences=sequences, q_tokens=q_tokens, kv_tokens=kv_tokens)
    assert machine(id).attention_s(call) * 1e6 == pytest.approx(measured_us, rel=0.2)


def test_sums_over_pcie_take_as_long_as_measured() -> None:
    """16 Mi elements on L40S: 1.8, 13.6 and 30 ms for 2, 4 and 8 devices by vLLM's kernel, less by NCCL's for 4."""
    times = [machine("l40s").all_reduce_s(AllReduce(2.0 * (1 << 24), ranks, 1)) * 1e3 for ranks in (2, 4, 8)]
    assert times == pytest.approx([1.7, 9.8, 30.1], rel=0.05)


def test_collectives_grow_with_payload_and_over_pcie_with_devices() -> None:
    for id in ("h100-sxm", "a100-pcie-80g", "rtx-4090", "mi300x", "gb200", "tpu-v5e", "apple-m2-ultra-76"):
        fabric = Fabric(load_hardware(id))
        for times in (
            [fabric.all_reduce_s(float(size), 8) for size in (1 << 10, 1 << 20, 1 << 24, 1 << 28, 1 << 34)],
            [fabric.exchange_s(float(size), 8) for size in (1 << 10, 1 << 20, 1 << 24, 1 << 28, 1 << 34)],
        ):
            assert times == sorted(times), (id, times)
    fabric = Fabric(load_hardware("rtx-4090"))
    by_ranks = [fabric.all_reduce_s(float(1 << 26), ranks) for ranks in (2, 3, 4, 6, 8, 16, 64)]
    assert by_ranks == sorted(by_ranks)


def test_servers_are_slower_to_cross_than_a_rack_of_one_link_domain() -> None:
    """72 GB200 share one NVLink domain; 16 H100 are two servers."""
    exchange = Exchange(float(1 << 24), 16, 1)
    assert machine("h100-sxm").exchange_s(exchange) > 3 * machine("gb200").exchange_s(exchange)


def test_a_format_that_was_not_measured_on_a_device_weakens_the_basis() -> None:
    assert machine("h100-sxm").basis_of("bf16") is Basis.CATALOGUE
    assert machine("h100-sxm").basis_of("int4") is Basis.ARCHITECTURE
    assert machine("h100-sxm").basis_of("mxfp4").rank >= Basis.ARCHITECTURE.rank
    assert machine("mi300x").basis is Basis.ARCHITECTURE, "shares of peak and bandwidth, no kernels"
    assert machine("gaudi-3").basis is Basis.DATASHEET


def test_cards_borrow_from_cards_and_servers_from_servers() -> None:
    """GeForce Blackwell runs what RTX PRO 6000 runs, B300 what B200 does, although all are called Blackwell."""
    for id, source in (("rtx-5090", "rtx-pro-6000-blackwell"), ("b300-sxm", "b200-sxm")):
        for phase_format in ("bf16", "fp8"):
            assert product_constants(load_hardware(id), phase_format)[0] == product_constants(load_hardware(source), phase_format)[0]
            assert attention_constants(load_hardware(id), phase_format)[0] == attention_constants(load_hardware(source), phase_format)[0]


def test_experts_run_as_one_product_in_waves_over_the_processors() -> None:
    """128 experts of Qwen3-30B-A3B with 8 rows each: more than reading them once, far less than 128 launches."""
    priced, hardware = machine("h100-sxm"), load_hardware("h100-sxm")
    grouped = priced.gemm_s(Gemm(8, 1536, 2048, "bf16", 1, groups=128.0), 0.0)
    alone = priced.gemm_s(Gemm(8, 1536, 2048, "bf16", 1), 0.0)
    assert 128 * 1536 * 2048 * 2 / hardware.memory_bandwidth_bytes_per_s < grouped < 0.6 * 128 * alone


def _peak_of(hardware: Hardware, format: str) -> float:
    compute = weight_format(format).compute
    return max(hardware.peak(compute), hardware.peak_flops.get("int8", 0.0) / 2 if format.startswith("gguf-") else 0.0)
