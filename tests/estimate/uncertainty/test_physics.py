"""Ranges end at the data sheet: no prefill above the device's operations per second, no decoding above its bandwidth."""

from __future__ import annotations

import csv

import pytest

from advisor.backends.deployment import Attention, AttentionBackend, Batching, BatchPolicy, Deployment, KvCache, KvLayout, Weights
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import catalogue_machine
from advisor.estimate.machines.profiled import ProfiledMachine
from advisor.estimate.machines.roofline import ceiling
from advisor.estimate.memory.ledger import device_weight_bytes
from advisor.estimate.uncertainty.physics import PhysicalBounds
from advisor.profiles.engines import load_engine
from advisor.profiles.files import read_yaml
from advisor.profiles.hardware import load_hardware
from advisor.profiles.machine import MachineProfile
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load, Workload
from advisor.validation.cases import configuration_of
from advisor.validation.predict import deployment_of, estimator_for, workload_of
from tests.paths import ROOT

LLAMA = "meta-llama/Meta-Llama-3.1-8B"


def estimator(hardware: str, engine: str) -> Estimator:
    profile = load_engine(engine)
    return Estimator(catalogue_machine(load_hardware(hardware), profile), profile)


def deployed(weights: str, engine: str, model: str = LLAMA) -> Deployment:
    return Deployment(
        find_model(model),
        Weights(weights),
        Attention(AttentionBackend.SDPA),
        KvCache(KvLayout.PAGED, 16),
        batching=Batching(BatchPolicy.CONTINUOUS, 1),
        engine=engine,
    )


def predicted(hardware: str, engine: str, weights: str, prompt: int, model: str = LLAMA) -> Metrics:
    workload = Workload(prompt_tokens=prompt, output_tokens=32, concurrency=1)
    return estimator(hardware, engine).metrics(deployed(weights, engine, model), workload)


@pytest.mark.parametrize("prompt", [1024, 4096])
def test_prefill_with_int8_weights_and_bf16_arithmetic_stays_below_the_bf16_peak(prompt: int) -> None:
    """RTX 4090, 165 TFLOP/s: 15 GFLOP a token are at most 11,000 tokens a second; the upper end was 20,800."""
    prefill = predicted("rtx-4090", "advisor", "int8", prompt).prefill_tok_s
    assert prefill is not None
    assert prefill.low < prefill.value < prefill.high < 11_050


@pytest.mark.parametrize(
    ("hardware", "engine", "weights"),
    [
        ("rtx-4090", "advisor", "int8"),
        ("rtx-3090", "vllm", "bf16"),
        ("h100-sxm", "vllm", "fp8"),
        ("mi300x", "vllm", "bf16"),
        ("apple-m3-max-40", "llama.cpp", "gguf-q4_k_m"),
        ("rtx-4090", "exllamav2", "exl2-4.0bpw"),
    ],
)
def test_no_metric_of_any_device_passes_its_data_sheet(hardware: str, engine: str, weights: str) -> None:
    """With twelve hundred tokens of a model of 7 billion parameters in its layers, embedding and head left out."""
    device, metrics = load_hardware(hardware), predicted(hardware, engine, weights, 1200)
    top = ceiling(device, weights, own_kernels=engine == "llama.cpp", sums=load_engine(engine).gpu.sums)
    least_s = 2 * 6.97e9 / top
    embedding_bytes = 2 * 128_256 * 4096
    read_s = (0.999 * device_weight_bytes(deployed(weights, engine)) - embedding_bytes) / device.memory_bandwidth_bytes_per_s
    assert metrics.prefill_tok_s is not None
    assert metrics.ttft_ms_mean is not None
    assert metrics.tpot_ms_mean is not None
    assert metrics.decode_tok_s is not None
    assert metrics.throughput_tok_s is not None
    assert metrics.e2e_ms_mean is not None
    assert metrics.prefill_tok_s.high <= 1 / least_s
    assert metrics.ttft_ms_mean.low >= 1e3 * 1200 * least_s
    assert metrics.tpot_ms_mean.low >= 1e3 * read_s
    assert metrics.decode_tok_s.high <= 1 / read_s
    assert metrics.throughput_tok_s.high <= 1 / read_s
    assert metrics.e2e_ms_mean.low >= 1e3 * (1200 * least_s + 31 * read_s)


@pytest.mark.parametrize("model", ["openai/gpt-oss-20b", "deepseek-ai/DeepSeek-V3.2", "deepseek-ai/DeepSeek-V4-Flash", "Qwen/Qwen3.5-27B"])
def test_a_long_prompt_of_a_windowed_or_sparse_model_is_not_bounded_as_if_it_attended_to_everything(model: str) -> None:
    workload = Workload(prompt_tokens=262_144, output_tokens=32, concurrency=1)
    machine = estimator("b200-sxm", "vllm")
    served = deployed(find_model(model).weight_format, "vllm", model)
    bounds, metrics = machine.physical_bounds(served, workload), machine.metrics(served, workload)
    assert bounds is not None
    assert metrics.prefill_tok_s is not None
    assert metrics.ttft_ms_mean is not None
    assert metrics.prefill_tok_s.value < 0.9 * bounds.prefill_tok_s
    assert metrics.ttft_ms_mean.value > 1e3 * bounds.ttft_s / 0.9


def test_a_range_is_cut_at_a_bound_but_never_excludes_its_value() -> None:
    bounds = PhysicalBounds(prefill_tok_s=90, ttft_s=0.009, tpot_s=0.02, throughput_tok_s=100, output_tokens=11)
    spread = Value(value=100, low=50, high=200, basis=Basis.CATALOGUE)
    cut = bounds.applied(Metrics(prefill_tok_s=spread, ttft_ms_mean=spread, tpot_ms_p95=spread, e2e_ms_p50=spread, throughput_tok_s=spread))
    assert cut.prefill_tok_s == Value(value=100, low=50, high=100, basis=Basis.CATALOGUE), "predicted above: an error of ours, not hidden"
    assert cut.ttft_ms_mean == spread, "9 ms exclude nothing"
    assert cut.tpot_ms_p95 == spread
    assert cut.e2e_ms_p50 is not None
    assert cut.e2e_ms_p50.low == 100, "9 ms and ten times 20 ms, at most the value"
    assert cut.throughput_tok_s == Value(value=100, low=50, high=100, basis=Basis.CATALOGUE)


def test_requests_of_unknown_lengths_are_bounded_by_the_weights_alone() -> None:
    equal_lengths, any_lengths = (
        estimator("h100-sxm", "vllm").physical_bounds(
            deployed("bf16", "vllm"), Workload(prompt_tokens=8000, output_tokens=32, load=Load.OFFLINE), equal_lengths=equal
        )
        for equal in (True, False)
    )
    assert equal_lengths is not None
    assert any_lengths is not None
    assert any_lengths.ttft_s == 0 < equal_lengths.ttft_s
    assert any_lengths.tpot_s < equal_lengths.tpot_s, "without the cache of 8,000 tokens"


def test_a_machine_that_was_measured_is_not_overruled_by_its_data_sheet() -> None:
    profile = MachineProfile.model_validate(read_yaml(ROOT / "tests/canned/profile.yaml", what="profile"))
    measured = Estimator(ProfiledMachine(profile), load_engine("advisor"))
    assert measured.physical_bounds(deployed("bf16", "advisor"), Workload(prompt_tokens=64, output_tokens=8, concurrency=1)) is None


def test_no_published_decoding_speed_is_above_the_bound() -> None:
    """Every published single stream on a device with a data sheet, other than those with speculative decoding."""
    above, counted = {}, 0
    with (ROOT / "benchmarks/published/cases.csv").open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["metric"] == "decode_tok_s_single_stream"]
    for row in rows:
        case = configuration_of(row)
        engine, model = load_engine(case.engine), find_model(case.model)
        bounds = estimator_for(case.hardware, case.engine, None).physical_bounds(deployment_of(case, model, engine), workload_of(case))
        counted += bounds is not None
        if bounds is not None and float(row["value"]) * bounds.tpot_s > 1:
            above[row["case_id"]] = float(row["value"]) * bounds.tpot_s
    assert counted > 200
    assert not above


@pytest.mark.parametrize(("context", "measured"), [(4096, 77.4), (8192, 74.0), (32_768, 59.9)])
def test_files_of_llama_cpp_have_the_rest_of_an_mxfp4_model_in_8_bits(context: int, measured: float) -> None:
    """gpt-oss-20b on a DGX Spark: with attention and head in 16 bits, the measured speeds were above the device's bandwidth."""
    workload = Workload(prompt_tokens=context, output_tokens=32, concurrency=1)
    profile = load_engine("llama.cpp")
    served = Deployment(
        find_model("openai/gpt-oss-20b"),
        Weights("mxfp4", plain_format=profile.loading.plain_formats["mxfp4"]),
        Attention(AttentionBackend.SDPA),
        KvCache(KvLayout.PAGED, 1),
        batching=Batching(BatchPolicy.CONTINUOUS, 1),
        engine="llama.cpp",
    )
    decode = estimator("dgx-spark-gb10", "llama.cpp").metrics(served, workload).decode_tok_s
    assert decode is not None
    assert decode.low <= measured <= decode.high
    assert decode.value == pytest.approx(measured, rel=0.12)
    assert device_weight_bytes(served) / 2**30 == pytest.approx(11.27, rel=0.005)


def test_long_prompts_pass_in_steps_of_the_engine() -> None:
    """gpt-oss-120b on a DGX Spark, llama.cpp, a prompt of 2,048: 1,938 tokens a second; whole, its experts would fill their tiles."""
    prefill = predicted("dgx-spark-gb10", "llama.cpp", "mxfp4", 2048, "openai/gpt-oss-120b").prefill_tok_s
    assert prefill is not None
    assert prefill.low <= 1938 <= prefill.high
