"""Every shipped model in every format and several layouts: operators that price, memory that adds up, published parameter counts."""

import csv
from collections.abc import Iterator
from pathlib import Path

import pytest

from advisor.backends.deployment import Deployment, KvCache, KvLayout, Parallel, Weights
from advisor.estimate.memory.cache import device_kv_bytes
from advisor.estimate.memory.ledger import device_weight_bytes, ledger, weight_bytes
from advisor.estimate.operators.build import PricingModel, step_operators
from advisor.estimate.operators.types import AttentionCall, Gemm, Phase, StepPart
from advisor.profiles.architectures.spec import shipped_models
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import FORMATS, parse_weights
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Workload

LAYOUTS = (Parallel(), Parallel(tensor=8), Parallel(tensor=2, pipeline=4), Parallel(data=8, expert=8), Parallel(tensor=4, data=2, expert=8))
FAMILIES = ("int4-g64", "exl2-4.0bpw", "exl2-2.5bpw")
PARTS: tuple[tuple[Phase, StepPart], ...] = (
    (Phase.PREFILL, StepPart(Phase.PREFILL, 1, 2048, 6144)),
    (Phase.DECODE, StepPart(Phase.DECODE, 32, 1, 4096)),
)
COUNTS = Path(__file__).parents[1] / "profiles/published_counts.csv"


def deployments(id: str, formats: tuple[str, ...]) -> Iterator[Deployment]:
    model = find_model(id)
    for format in formats:
        for layout in LAYOUTS:
            yield Deployment(model=model, weights=Weights(*parse_weights(format)), kv=KvCache(KvLayout.PAGED, 16, "fp8"), parallel=layout)


@pytest.mark.parametrize("id", shipped_models())
def test_both_phases_have_operators_in_every_layout(id: str) -> None:
    for deployment in deployments(id, (find_model(id).weight_format, "int4")):
        for phase, part in PARTS:
            operators = list(step_operators(PricingModel.of(deployment), (part,)))
            products = [operator for operator in operators if isinstance(operator, Gemm)]
            assert products, (deployment.parallel, phase)
            assert all(min(product.m, product.n, product.k, product.count) > 0 < product.groups for product in products)
            calls = [operator for operator in operators if isinstance(operator, AttentionCall)]
            assert all(0 < call.kv_tokens <= part.kv_tokens for call in calls), deployment.parallel
            assert all(call.q_heads >= call.kv_heads > 0 for call in calls), deployment.parallel


def test_sparse_attention_reads_what_it_chose_and_windows_what_they_keep() -> None:
    def read(id: str) -> list[int]:
        plain = Deployment(model=find_model(id), weights=Weights("bf16"))
        step = step_operators(PricingModel.of(plain), (StepPart(Phase.DECODE, 1, 1, 65_536),))
        return sorted({call.kv_tokens for call in step if isinstance(call, AttentionCall) and call.value_dim})

    assert read("MiniMaxAI/MiniMax-M3") == [2048, 65_536], "three layers see everything"
    assert read("deepseek-ai/DeepSeek-V3.2") == [2048]
    assert read("openai/gpt-oss-20b") == [128, 65_536]


def test_heads_that_do_not_divide_go_to_the_fullest_device() -> None:
    plain = Deployment(model=find_model("meta-llama/Meta-Llama-3.1-8B"), weights=Weights("bf16"), parallel=Parallel(tensor=6))
    step = step_operators(PricingModel.of(plain), (StepPart(Phase.DECODE, 1, 1, 128),))
    assert {(call.q_heads, call.kv_heads) for call in step if isinstance(call, AttentionCall)} == {(6, 2)}


@pytest.mark.parametrize("id", shipped_models())
def test_products_of_one_token_are_the_active_parameters(id: str) -> None:
    """Counted from the operators of a step: what a token passes through, the embedding's row left out."""
    model = find_model(id)
    plain = Deployment(model=model, weights=Weights(model.weight_format))
    step = step_operators(PricingModel.of(plain), (StepPart(Phase.DECODE, 1, 1, 128),))
    multiplied = sum(operator.count * operator.groups * operator.n * operator.k for operator in step if isinstance(operator, Gemm))
    outside = model.embedding.parameters if model.head is not None else 0
    vectors = model.active_parameters - outside - multiplied
    assert 0 <= vectors < 0.01 * model.active_parameters, f"{multiplied / 1e9:.3f} of {(model.active_parameters - outside) / 1e9:.3f} B"


@pytest.mark.parametrize("id", shipped_models())
def test_memory_of_every_format_and_layout_adds_up(id: str) -> None:
    workload, engine = Workload(prompt_tokens=2048, output_tokens=128, concurrency=4), load_engine("vllm")
    for deployment in deployments(id, (*FORMATS, *FAMILIES)):
        parallel, memory = deployment.parallel, ledger(deployment, workload, engine, 4)
        whole, devices = weight_bytes(deployment), parallel.tensor * parallel.pipeline * (parallel.data if parallel.expert > 1 else 1)
        assert whole / devices * 0.999 <= device_weight_bytes(deployment) <= whole * 1.001, parallel
        assert memory.activation_bytes > 0 < memory.context_bytes
        assert device_kv_bytes(deployment, 4096) >= device_kv_bytes(deployment, 64) > 0


def test_fewer_bits_are_fewer_bytes() -> None:
    def size(format: str) -> float:
        return weight_bytes(Deployment(model=find_model("meta-llama/Meta-Llama-3.1-8B"), weights=Weights(*parse_weights(format))))

    types = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m", "q2_k")
    for ladder in (("fp32", "bf16", "fp8", "nvfp4", "mxfp4"), tuple(f"gguf-{type}" for type in types)):
        sizes = [size(format) for format in ladder]
        assert sizes == sorted(sizes, reverse=True), sizes


def counts() -> list[dict[str, str]]:
    with COUNTS.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("row", counts(), ids=lambda row: row["model"])
def test_parameters_are_those_that_were_published(row: dict[str, str]) -> None:
    """Publishers count a token's embedding among what is active, or do not."""
    model = find_model(row["model"])
    outside = model.embedding.parameters if model.head is not None else 0
    total, active = float(row["total_b"]) * 1e9, float(row["active_b"]) * 1e9
    assert model.parameters == pytest.approx(total, rel=0.02), f"{model.parameters / 1e9:.1f} B"
    readings = (model.active_parameters, model.active_parameters - outside)
    assert min(abs(count / active - 1) for count in readings) < 0.05, f"{readings[0] / 1e9:.2f} or {readings[1] / 1e9:.2f} B"


SIZES_GB = [
    ("meta-llama/Meta-Llama-3.1-8B", 16.06, "model.safetensors.index.json"),
    ("meta-llama/Meta-Llama-3.1-70B", 141.11, "model.safetensors.index.json"),
    ("Qwen/Qwen2.5-7B", 15.23, "model.safetensors.index.json"),
    ("mistralai/Mixtral-8x7B-v0.1", 93.41, "model.safetensors.index.json"),
    ("openai/gpt-oss-120b", 65.2, "arXiv 2508.10925: 60.8 GiB"),
    ("openai/gpt-oss-20b", 13.76, "arXiv 2508.10925: 12.8 GiB"),
]


@pytest.mark.parametrize(("id", "published_gb", "source"), SIZES_GB)
def test_checkpoints_have_the_size_of_their_files(id: str, published_gb: float, source: str) -> None:
    model = find_model(id)
    size_gb = weight_bytes(Deployment(model=model, weights=Weights(model.weight_format))) / 1e9
    assert size_gb == pytest.approx(published_gb, rel=0.01), f"{size_gb:.2f} GB against {published_gb} GB ({source})"


GGUF_GIB = {
    "meta-llama/Meta-Llama-3-8B": "q8_0 7.96, q6_k 6.14, q5_k_m 5.33, q5_k_s 5.21, q4_k_m 4.58, q4_k_s 4.37, q3_k_l 4.03",
    "meta-llama/Llama-2-70b-hf": "q6_k 52.70, q5_k_m 45.41, q5_0 44.20, q4_k_m 38.54, q4_1 40.20, q4_0 36.20, q3_k_m 30.83",
    "meta-llama/Meta-Llama-3-70B": "q8_0 69.83, q6_k 53.91, q5_k_m 46.52, q4_k_m 39.60, iq4_xs 35.30, iq3_m 29.74, iq2_m 22.46",
}
"""ggml-org/llama.cpp, examples/perplexity/README.md; Llama 3 70B: XiongjieDai/GPU-Benchmarks-on-LLM-Inference."""
GGUF_FILES = [(id, *size.split()) for id, sizes in GGUF_GIB.items() for size in sizes.split(", ")]


@pytest.mark.parametrize(("id", "type", "published_gib"), GGUF_FILES)
def test_gguf_types_take_the_bits_of_their_files(id: str, type: str, published_gib: str) -> None:
    size_gib = weight_bytes(Deployment(model=find_model(id), weights=Weights(f"gguf-{type}"))) / 2**30
    assert size_gib == pytest.approx(float(published_gib), rel=0.025), f"{size_gib:.2f} GiB against {published_gib} GiB"
