"""Projections of one input as one product."""

from advisor.backends.deployment import Deployment, Weights
from advisor.estimate.operators.build import PricingModel
from advisor.estimate.operators.fusion import fused
from advisor.profiles.model_store import find_model


def products(model: str, *, joins: bool) -> list[tuple[int, int, int, str]]:
    blueprint = PricingModel.of(Deployment(find_model(model), Weights("fp8")), joins=joins)
    return sorted((matrix.n, matrix.k, count, format) for matrix, count, format in blueprint.products)


def test_seven_products_of_a_llama_layer_become_four() -> None:
    assert [(n, k) for n, k, _, _ in products("meta-llama/Meta-Llama-3.1-8B", joins=True)] == [
        (4096, 4096),
        (4096, 14336),
        (6144, 4096),
        (28672, 4096),
    ]


def test_joining_changes_no_weight() -> None:
    for model in ("meta-llama/Meta-Llama-3.1-8B", "deepseek-ai/DeepSeek-R1", "openai/gpt-oss-120b", "Qwen/Qwen3.5-397B-A17B"):
        sizes = [
            sum(
                matrix.n * matrix.k * matrix.copies * count
                for matrix, count, _ in PricingModel.of(Deployment(find_model(model), Weights("fp8")), joins=joins).products
            )
            for joins in (True, False)
        ]
        assert sizes[0] == sizes[1], model


def test_what_is_stored_differently_stays_apart() -> None:
    matrices = {matrix.name: matrix for matrix, _ in find_model("meta-llama/Meta-Llama-3.1-8B").matrices()}
    apart = fused([(matrices["gate_proj"], 32, "fp8"), (matrices["up_proj"], 32, "bf16")])
    assert len(apart) == 2
    assert len(fused([(matrices["gate_proj"], 32, "fp8"), (matrices["up_proj"], 32, "fp8")])) == 1
