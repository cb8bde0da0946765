"""What is said to fit must fit: small devices, plans near the edge, and settings that were published as out of memory."""

from dataclasses import replace

import pytest

from advisor.backends.deployment import Attention, AttentionBackend, Batching, BatchPolicy, Deployment, KvCache, KvLayout, Parallel, Weights
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.planning.advice import Status
from advisor.planning.ranking import columns_of, evaluate
from advisor.planning.violations import status, violations_of
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import GIB
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load, Request, Workload

SHORT = Workload(prompt_tokens=512, output_tokens=128, load=Load.OFFLINE)


def estimator(hardware: str, engine: str, share: float | None = None) -> Estimator:
    settings = load_engine(engine)
    settings = settings.model_copy(update={"memory_share": share}) if share is not None else settings
    return Estimator(CatalogueMachine(load_hardware(hardware), settings.gpu), settings)


def deployment(model: str, weights: str, *, tp: int = 1, slots: int = 256, budget: int = 0) -> Deployment:
    return Deployment(
        model=find_model(model),
        weights=Weights(weights),
        attention=Attention(AttentionBackend.SDPA),
        kv=KvCache(KvLayout.PAGED, 16),
        batching=Batching(BatchPolicy.CONTINUOUS, slots, budget),
        parallel=Parallel(tensor=tp),
    )


def fits(hardware: str, engine: str, deployment: Deployment, workload: Workload, share: float | None = None) -> int:
    return estimator(hardware, engine, share).memory.max_sequences(deployment, workload)


@pytest.mark.parametrize(
    ("hardware", "engine", "model", "weights", "tp"),
    [
        ("h100-sxm", "vllm", "meta-llama/Meta-Llama-3.1-70B", "bf16", 1),
        ("rtx-4090", "vllm", "meta-llama/Llama-2-13b-hf", "fp16", 1),
        ("rtx-3080-10g", "llama.cpp", "meta-llama/Meta-Llama-3-8B", "gguf-f16", 1),
        ("rtx-4090", "llama.cpp", "meta-llama/Meta-Llama-3-70B", "gguf-q4_k_m", 1),
        ("apple-m1-7", "llama.cpp", "meta-llama/Meta-Llama-3-8B", "gguf-f16", 1),
    ],
)
def test_what_ran_out_of_memory_does_not_fit(hardware: str, engine: str, model: str, weights: str, tp: int) -> None:
    """The llama.cpp rows are `OOM` in XiongjieDai/GPU-Benchmarks-on-LLM-Inference; the others hold less memory than weights."""
    assert fits(hardware, engine, deployment(model, weights, tp=tp, slots=1), SHORT) == 0


def test_a_context_that_did_not_fit_is_refused_and_the_one_that_did_is_not() -> None:
    """vllm-project/vllm issue 10517, RTX 3090, Llama-3.1-8B, whole prompts: 20,000 tokens ran, 29,000 did not."""
    for tokens, ran in ((20_000, True), (29_000, False)):
        requested = Workload(prompt_tokens=tokens - 1, output_tokens=1, concurrency=1)
        planned = deployment("meta-llama/Meta-Llama-3.1-8B", "bf16", budget=tokens)
        assert (fits("rtx-3090", "vllm", planned, requested, 0.9) > 0) is ran, tokens


def test_requests_that_fit_have_a_low_end_and_whole_numbers() -> None:
    concurrency = estimator("rtx-4090", "vllm", 0.9).metrics(deployment("meta-llama/Meta-Llama-3.1-8B", "bf16"), SHORT).max_concurrency
    assert concurrency is not None
    assert concurrency.value == int(concurrency.value)
    assert concurrency.low <= 41_408 / 640 <= concurrency.high, "a pool of 41,408 tokens was measured"
    assert concurrency.low < concurrency.value


@pytest.mark.parametrize(("spare", "expected"), [(-0.01, Status.INFEASIBLE), (0.01, Status.AT_RISK), (2.0, Status.MEETS)])
def test_a_plan_close_to_the_edge_of_the_memory_is_at_risk(spare: float, expected: Status) -> None:
    """The device's memory is a limit like any other: the upper end of what is needed counts."""
    requested = Workload(prompt_tokens=512, output_tokens=128, concurrency=8)
    request = Request(workload=requested)
    planned = deployment("meta-llama/Llama-3.2-1B", "bf16", slots=8)
    prices = estimator("l4", "vllm")
    needed = prices.requested_memory(planned, requested)
    metrics = prices.metrics(planned, requested).model_copy(update={"peak_memory_gib": needed})
    budget_gib = needed.value * (1 + spare)
    verdicts = evaluate(columns_of([metrics], [0]), request, budget_gib)
    assert status(float(verdicts.probability[0]), violations_of(metrics, request.limits, budget_gib)) is expected


def test_larger_steps_and_more_sequences_leave_less_to_the_cache() -> None:
    """An engine that tries its largest step before it sizes its cache keeps that much free."""
    prices, base = estimator("h100-sxm", "vllm"), deployment("meta-llama/Meta-Llama-3.1-8B", "bf16")
    small = prices.memory.max_sequences(base, SHORT)
    assert prices.memory.max_sequences(replace(base, batching=Batching(BatchPolicy.CONTINUOUS, 2048, 0)), SHORT) < small
    assert prices.memory.max_sequences(replace(base, batching=Batching(BatchPolicy.CONTINUOUS, 256, 65_536)), SHORT) < small


def test_small_devices_take_smaller_steps() -> None:
    small, large = (estimator(hardware, "vllm").engine for hardware in ("rtx-4090", "h100-sxm"))
    assert (small.token_budget, small.max_sequences) == (2048, 256)
    assert (large.token_budget, large.max_sequences) == (8192, 1024)


@pytest.mark.parametrize(("hardware", "share"), [("h100-sxm", 0.84), ("h200-sxm", 0.91), ("b200-sxm", 0.93)])
def test_sglang_leaves_its_reserve_free(hardware: str, share: float) -> None:
    """server_args.py with chunks of 8,192 tokens: 13 GiB."""
    prices = estimator(hardware, "sglang")
    assert prices.memory.memory_share == pytest.approx(share, abs=0.01)
    assert prices.memory.budget_bytes / GIB < load_hardware(hardware).memory_bytes / GIB - 12
