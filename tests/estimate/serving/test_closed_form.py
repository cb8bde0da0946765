"""The closed form against the simulation, which it stands for while thousands of stacks are ranked."""

import math
import random
from statistics import median
from typing import Any

import pytest

from advisor.backends.deployment import (
    Attention,
    AttentionBackend,
    Batching,
    BatchPolicy,
    DecodeMethod,
    Decoding,
    Deployment,
    KvCache,
    KvLayout,
    Weights,
)
from advisor.backends.measure.spread import quantile
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.serving.closed_form import burst_position_p95
from advisor.planning.search import search
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load, Request, Workload

WORKLOADS: list[tuple[str, dict[str, Any]]] = [
    ("l40s", {"prompt_tokens": 1024, "output_tokens": 256, "concurrency": 8}),
    ("l40s", {"prompt_tokens": 1024, "output_tokens": 256, "concurrency": 48}),
    ("h100-sxm", {"prompt_tokens": 4000, "output_tokens": 200, "concurrency": 32}),
    ("rtx-4090", {"prompt_tokens": 128, "output_tokens": 512, "concurrency": 16}),
    ("l40s", {"prompt_tokens": 512, "output_tokens": 64, "concurrency": 1}),
]
STACKS = 24


def estimator(hardware: str) -> Estimator:
    engine = load_engine("advisor")
    return Estimator(CatalogueMachine(load_hardware(hardware), engine.gpu), engine)


def errors(hardware: str, shape: dict[str, Any]) -> dict[str, list[float]]:
    """Logarithms of closed form over simulation, of stacks drawn from a whole search."""
    workload, pricing = Workload(**shape), estimator(hardware)
    stacks = list(search(find_model("Qwen/Qwen3-8B"), Request(workload=workload), "advisor"))
    compared: dict[str, list[float]] = {"ttft": [], "tpot": [], "throughput": []}
    for stack in random.Random(7).sample(stacks, STACKS):
        quick, served = pricing.steady_state(stack.deployment, workload), pricing.simulate(stack.deployment, workload)
        compared["ttft"].append(math.log(quick.ttft_ms_p95 / (1e3 * quantile(list(served.ttft_s), 0.95))))
        compared["tpot"].append(math.log(quick.tpot_ms_p95 / (1e3 * quantile(list(served.tpot_s), 0.95))))
        compared["throughput"].append(math.log(quick.throughput_tok_s / served.throughput_tok_s))
    return compared


@pytest.fixture(scope="module")
def compared() -> dict[str, list[float]]:
    logs_by_metric: dict[str, list[float]] = {"ttft": [], "tpot": [], "throughput": []}
    for hardware, shape in WORKLOADS:
        for metric, logs in errors(hardware, shape).items():
            logs_by_metric[metric] += logs
    return logs_by_metric


@pytest.mark.parametrize(("metric", "usual", "worst"), [("ttft", 0.16, 1.2), ("tpot", 0.06, 0.35), ("throughput", 0.06, 0.30)])
def test_the_closed_form_stands_for_the_simulation(compared: dict[str, list[float]], metric: str, usual: float, worst: float) -> None:
    logs = compared[metric]
    assert median(map(abs, logs)) < usual
    assert max(map(abs, logs)) < worst, max(logs, key=abs)
    assert abs(median(logs)) < usual, "no bias either way"


def deployment(budget: int, decoding: Decoding | None = None) -> Deployment:
    return Deployment(
        model=find_model("Qwen/Qwen3-8B"),
        weights=Weights("bf16"),
        attention=Attention(AttentionBackend.SDPA),
        kv=KvCache(KvLayout.PAGED, 16),
        decoding=decoding or Decoding(),
        batching=Batching(BatchPolicy.CONTINUOUS, 64, budget),
    )


def test_an_overload_shows_in_ttft_and_throughput() -> None:
    pricing, workload = estimator("l40s"), Workload(prompt_tokens=1024, output_tokens=256, load=Load.OPEN, request_rate_per_s=1.0)
    within = pricing.steady_state(deployment(2048), workload)
    assert within.throughput_tok_s == pytest.approx(256.0)
    most = within.capacity_tok_s / 256
    over = pricing.steady_state(deployment(2048), workload.model_copy(update={"request_rate_per_s": 2 * most}))
    assert over.throughput_tok_s == pytest.approx(within.capacity_tok_s), "no more is produced than can be"
    assert over.ttft_ms_p95 > 60_000, "the queue grows as long as requests come"
    assert over.ttft_ms_p95 > 20 * within.ttft_ms_p95


def test_waiting_grows_with_the_rate_up_to_the_capacity() -> None:
    pricing = estimator("l40s")
    waits = [
        pricing.steady_state(
            deployment(2048), Workload(prompt_tokens=1024, output_tokens=256, load=Load.OPEN, request_rate_per_s=rate)
        ).ttft_ms_p95
        for rate in (0.5, 1.0, 2.0, 3.0, 20.0)
    ]
    assert waits == sorted(waits)


def test_prompt_lookup_during_prefill_is_predicted_as_late_as_it_is_simulated() -> None:
    pricing, workload = estimator("l40s"), Workload(prompt_tokens=1024, output_tokens=256, concurrency=8)
    speculative = deployment(512, Decoding(DecodeMethod.PROMPT_LOOKUP, 4, 0.3, (0.2, 0.4)))
    quick, served = pricing.steady_state(speculative, workload), pricing.simulate(speculative, workload)
    assert quick.ttft_ms_p95 == pytest.approx(1e3 * quantile(list(served.ttft_s), 0.95), rel=0.35)


@pytest.mark.parametrize("in_flight", [1, 2, 7, 8, 64, 500])
def test_the_late_request_is_one_of_the_burst(in_flight: int) -> None:
    assert 0 < burst_position_p95(in_flight) <= in_flight
