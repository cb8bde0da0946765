"""What engines really left for their caches, published start by start, against the ledger."""

import csv
from statistics import median

import pytest

from advisor.backends.deployment import Batching, BatchPolicy, Deployment, KvCache, KvLayout, Parallel, Weights
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.memory.cache import block_tokens, device_kv_bytes
from advisor.estimate.memory.ledger import device_weight_bytes
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import GIB
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load, Workload
from tests.paths import ROOT

Row = dict[str, str]
POOLS = ROOT / "benchmarks/published/kv_pools.csv"
OTHER_ENGINES = {"vllm-2031-2", "vllm-21348"}
"""Versions that sized their cache in another way than any that has a profile; `notes` says how."""
LONG = 8192


def rows(use: str) -> list[Row]:
    with POOLS.open(encoding="utf-8", newline="") as file:
        return [row for row in csv.DictReader(file) if row["use"] == use]


def predicted_pool(row: Row) -> tuple[Deployment, float]:
    """The deployment, and the bytes that it leaves for the cache on each device."""
    engine = load_engine(row["engine"]).model_copy(update={"memory_share": float(row["memory_share"])})
    estimator = Estimator(CatalogueMachine(load_hardware(row["hardware"]), engine.gpu), engine)
    profile = estimator.engine
    deployment = Deployment(
        model=find_model(row["model"]),
        weights=Weights(row["weights"]),
        kv=KvCache(KvLayout.PAGED, profile.block_tokens, row["kv"]),
        batching=Batching(BatchPolicy.CONTINUOUS, int(row["max_sequences"] or profile.max_sequences), int(row["token_budget"] or 0)),
        parallel=Parallel(tensor=int(row["tp"]), pipeline=int(row["pp"])),
        engine=profile.name,
    )
    footprint = estimator.memory.footprint(deployment, Workload(prompt_tokens=LONG, output_tokens=1, load=Load.OFFLINE))
    return deployment, estimator.memory.budget_bytes - footprint.fixed_bytes


def error(row: Row) -> float:
    """How far the pool is off, in tokens where they were published, else in bytes."""
    deployment, pool = predicted_pool(row)
    if row["kv_tokens"]:
        return pool / device_kv_bytes(deployment, LONG) * LONG / float(row["kv_tokens"]) - 1
    return pool / GIB / float(row["kv_gib"]) - 1


def test_there_are_enough_pools_of_both_halves_and_no_source_is_in_both() -> None:
    fit, validation = rows("fit"), rows("judge")
    assert len(fit) >= 15
    assert len(validation) >= 10
    assert not {(row["source"], row["engine"]) for row in fit} & {(row["source"], row["engine"]) for row in validation}


def test_pools_of_sources_that_nothing_was_fitted_on_are_right() -> None:
    errors = {row["id"]: error(row) for row in rows("judge")}
    published = {id: off for id, off in errors.items() if id not in OTHER_ENGINES}
    assert median(map(abs, errors.values())) < 0.05, errors
    assert max(map(abs, published.values())) < 0.10, published


@pytest.mark.parametrize("row", rows("fit"), ids=lambda row: row["id"])
def test_pools_that_constants_were_fitted_on(row: Row) -> None:
    assert abs(error(row)) < 0.1, f"{error(row):+.1%}"


@pytest.mark.parametrize(
    ("model", "tp", "pp", "loaded_gib"),
    [
        ("meta-llama/Meta-Llama-3.1-8B", 1, 1, 14.99),
        ("meta-llama/Meta-Llama-3.1-8B", 2, 1, 7.51),
        ("meta-llama/Meta-Llama-3.1-8B", 4, 1, 3.77),
        ("meta-llama/Meta-Llama-3.1-8B", 1, 2, 7.51),
        ("meta-llama/Meta-Llama-3.1-8B", 1, 4, 4.26),
        ("Qwen/Qwen2.5-7B", 1, 1, 14.25),
        ("Qwen/Qwen2.5-7B", 2, 1, 7.12),
        ("Qwen/Qwen2.5-7B", 4, 1, 3.55),
    ],
)
def test_weights_of_a_device_are_what_vllm_loaded(model: str, tp: int, pp: int, loaded_gib: float) -> None:
    """llm-d-planner, accuracy report on vLLM 0.19: `Model loading took`. It repeats a tenth of a percent in buffers of its own."""
    deployment = Deployment(model=find_model(model), weights=Weights("bf16"), parallel=Parallel(tensor=tp, pipeline=pp))
    assert device_weight_bytes(deployment) / GIB == pytest.approx(loaded_gib, rel=0.01)


def test_a_block_of_a_hybrid_grows_until_it_holds_a_state() -> None:
    """vLLM, 27B with these layers and an fp8 cache: 1,568 tokens a block (github.com/mitchross/talos-argocd-proxmox/pull/1995)."""
    hybrid = Deployment(model=find_model("Qwen/Qwen3.5-27B"), weights=Weights("fp8"), kv=KvCache(KvLayout.PAGED, 16, "fp8"))
    assert block_tokens(hybrid, load_engine("vllm")) == 1568
    assert block_tokens(hybrid, load_engine("sglang")) == 16


def test_heads_that_do_not_divide_are_repeated_and_latent_caches_are_whole_on_every_device() -> None:
    def cache(model: str, tp: int) -> float:
        return device_kv_bytes(Deployment(model=find_model(model), weights=Weights("bf16"), parallel=Parallel(tensor=tp)), LONG)

    llama, deepseek = "meta-llama/Meta-Llama-3.1-70B", "deepseek-ai/DeepSeek-V3"
    assert cache(llama, 8) * 8 == cache(llama, 1)
    assert cache(llama, 16) == cache(llama, 8), "8 heads on 16 devices: each is kept twice"
    assert cache(llama, 6) * 4 == cache(llama, 1), "8 heads on 6 devices: the fullest holds two"
    assert cache(deepseek, 8) == cache(deepseek, 1)
