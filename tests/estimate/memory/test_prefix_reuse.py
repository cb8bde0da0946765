"""A shared prefix on paper: the first request computes it, the others find it, and memory holds it once."""

import math

import pytest

from advisor.backends.deployment import Attention, AttentionBackend, Batching, BatchPolicy, Deployment, KvCache, KvLayout, Weights
from advisor.backends.measure.spread import quantile
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.memory.cache import device_kv_bytes
from advisor.estimate.operators.types import StepPart
from advisor.estimate.serving.requests import UNLIMITED_POOL, SimPool
from advisor.estimate.serving.scheduler import Scheduler
from advisor.estimate.serving.scheduler_rules import SchedulerRules
from advisor.estimate.steps.pricer import StepPricer
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import load_hardware
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load, Workload

BLOCK = 16
SHARED = 100
"""Six full blocks and four tokens."""


class TokensTake(StepPricer):
    """A step takes a millisecond for each of its tokens."""

    def step_s(self, parts: tuple[StepPart, ...]) -> float:
        """Milliseconds count tokens."""
        return 1e-3 * sum(part.rows for part in parts)


def deployment(*, reuse: bool, batching: Batching | None = None) -> Deployment:
    return Deployment(
        model=find_model("meta-llama/Meta-Llama-3.1-8B"),
        weights=Weights("bf16"),
        attention=Attention(AttentionBackend.SDPA),
        kv=KvCache(KvLayout.PAGED, BLOCK, "bf16", prefix_reuse=reuse),
        batching=batching or Batching(BatchPolicy.CONTINUOUS, 16, 2048, chunked=False),
    )


def estimator(hardware: str = "l40s") -> Estimator:
    engine = load_engine("advisor")
    return Estimator(CatalogueMachine(load_hardware(hardware), engine.gpu), engine)


def scheduler(
    policy: BatchPolicy, budget: int = 64, *, chunked: bool = True, shared: int = 96, pool: SimPool = UNLIMITED_POOL
) -> Scheduler:
    pricer = TokensTake(deployment(reuse=True), estimator().machine)
    rules = SchedulerRules(
        policy=policy, max_sequences=4, token_budget=budget, chunked=chunked, shared_tokens=shared, block_tokens=BLOCK, pool=pool
    )
    return Scheduler(pricer, rules)


@pytest.mark.parametrize(
    ("policy", "chunked"), [(BatchPolicy.STATIC, True), (BatchPolicy.CONTINUOUS, True), (BatchPolicy.CONTINUOUS, False)]
)
def test_the_first_prompt_is_computed_and_later_ones_only_from_where_they_differ(policy: BatchPolicy, chunked: bool) -> None:
    run = scheduler(policy, chunked=chunked)
    done = sorted(run.serve([(120, 1)] * 3, in_flight=1), key=lambda done_request: done_request.number)
    assert [round(1e3 * (done_request.first_s - done_request.arrival_s)) for done_request in done] == [120, 24, 24]
    assert run.times_of(done).prefix_hits == pytest.approx(2 * 96 / 360)


def test_prompts_of_the_first_step_share_nothing_yet() -> None:
    run = scheduler(BatchPolicy.CONTINUOUS, budget=300)
    done = sorted(run.serve([(120, 4)] * 4, in_flight=None), key=lambda done_request: done_request.number)
    assert [done_request.reused for done_request in done] == [0, 0, 0, 96], "the third has begun, and stands in the middle of a block"


def test_the_last_token_of_a_prompt_is_always_computed() -> None:
    run = scheduler(BatchPolicy.CONTINUOUS, shared=96)
    run.serve([(96, 1)] * 2, in_flight=1)
    assert [done_request.reused for done_request in run._done] == [0, 80]


def test_a_preempted_request_finds_the_prefix_again() -> None:
    run = scheduler(BatchPolicy.CONTINUOUS, pool=SimPool(6, BLOCK, fixed_blocks=-6))
    done = {done_request.number: done_request for done_request in run.serve([(120, 40)] * 2, in_flight=None)}
    assert run.preemptions > 0
    assert done[1].reused == 96


WORKLOADS = [
    {"prompt_tokens": 2048, "output_tokens": 128, "concurrency": 8, "shared_prefix_tokens": 1536},
    {"prompt_tokens": 1024, "output_tokens": 256, "concurrency": 32, "shared_prefix_tokens": 512},
    {"prompt_tokens": 4000, "output_tokens": 64, "concurrency": 16, "shared_prefix_tokens": 3900},
    {"prompt_tokens": 1024, "output_tokens": 128, "load": Load.OPEN, "request_rate_per_s": 2.0, "shared_prefix_tokens": 900},
]
BATCHINGS = [
    Batching(BatchPolicy.STATIC, 16),
    Batching(BatchPolicy.CONTINUOUS, 16, 512),
    Batching(BatchPolicy.CONTINUOUS, 16, 2048, chunked=False),
]


@pytest.mark.parametrize("shape", WORKLOADS, ids=lambda shape: f"{shape['prompt_tokens']}-{shape['shared_prefix_tokens']}")
@pytest.mark.parametrize("batching", BATCHINGS, ids=["static", "chunks", "whole"])
def test_sharing_makes_nothing_slower_and_nothing_larger(shape: dict[str, int], batching: Batching) -> None:
    pricing, workload = estimator("h100-sxm"), Workload.model_validate(shape)
    with_it, without = (pricing.metrics(deployment(reuse=wanted, batching=batching), workload) for wanted in (True, False))
    for metric in ("ttft_ms_mean", "tpot_ms_mean", "peak_memory_gib", "kv_cache_gib"):
        assert getattr(with_it, metric).value <= getattr(without, metric).value * 1.001, metric
    assert with_it.prefix_hits is not None
    assert 0.3 < with_it.prefix_hits.value < 1
    assert without.prefix_hits is None


@pytest.mark.parametrize("shape", WORKLOADS, ids=lambda shape: f"{shape['prompt_tokens']}-{shape['shared_prefix_tokens']}")
@pytest.mark.parametrize("batching", BATCHINGS, ids=["static", "chunks", "whole"])
def test_the_closed_form_stands_for_the_simulation(shape: dict[str, int], batching: Batching) -> None:
    pricing, workload, stack = estimator("h100-sxm"), Workload.model_validate(shape), deployment(reuse=True, batching=batching)
    quick, served = pricing.steady_state(stack, workload), pricing.simulate(stack, workload)
    assert abs(math.log(quick.tpot_ms_p95 / (1e3 * quantile(list(served.tpot_s), 0.95)))) < 0.35
    assert abs(math.log(quick.throughput_tok_s / served.throughput_tok_s)) < 0.3
    assert abs(math.log(quick.ttft_ms_p95 / (1e3 * quantile(list(served.ttft_s), 0.95)))) < 1.2


def test_the_blocks_of_a_prefix_are_counted_once() -> None:
    pricing, workload = estimator(), Workload(prompt_tokens=2048, output_tokens=64, concurrency=16, shared_prefix_tokens=1000)
    reuse, plain = (pricing.memory.capacity(deployment(reuse=wanted), workload).ledger.kv_bytes for wanted in (True, False))
    shared = device_kv_bytes(deployment(reuse=True), 992)
    assert plain - reuse == pytest.approx(15 * shared)
    assert pricing.memory.max_sequences(deployment(reuse=True), workload) > pricing.memory.max_sequences(deployment(reuse=False), workload)


def test_without_a_shared_prefix_reuse_changes_nothing() -> None:
    pricing, workload = estimator(), Workload(prompt_tokens=1024, output_tokens=64, concurrency=8)
    assert pricing.metrics(deployment(reuse=True), workload) == pricing.metrics(deployment(reuse=False), workload)
