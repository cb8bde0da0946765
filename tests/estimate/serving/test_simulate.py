"""Simulated loads: bursts, sustained rates and overload, goodput."""

import math

import pytest

from advisor.backends.deployment import Attention, AttentionBackend, Batching, BatchPolicy, Deployment, KvCache, KvLayout, Parallel, Weights
from advisor.estimate.estimator import Estimator
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.serving.metrics import goodput
from advisor.estimate.serving.pool import cache_pool
from advisor.planning.question import workload_of
from advisor.profiles.engines import load_engine
from advisor.profiles.hardware import load_hardware
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Limits, Load, Workload
from advisor.profiles.trace import Arrival, Trace

ENGINE = load_engine("vllm")
ESTIMATOR = Estimator(CatalogueMachine(load_hardware("h100-sxm"), ENGINE.gpu), ENGINE)


def deployment(*, slots: int = 64, data: int = 1, model: str = "meta-llama/Meta-Llama-3.1-8B") -> Deployment:
    return Deployment(
        model=find_model(model),
        weights=Weights("bf16"),
        attention=Attention(AttentionBackend.SDPA),
        kv=KvCache(KvLayout.PAGED, 16, "bf16"),
        batching=Batching(BatchPolicy.CONTINUOUS, slots, 2048),
        parallel=Parallel(data=data),
        engine="vllm",
    )


def arriving(rate: float) -> Workload:
    return workload_of(1024, 128, request_rate_per_s=rate)


def value(metrics: Metrics, name: str) -> float:
    result = metrics.present()[name]
    assert isinstance(result, Value)
    return result.value


def test_percentiles_are_in_order_and_end_to_end_is_more_than_its_parts() -> None:
    metrics = ESTIMATOR.metrics(deployment(), arriving(8.0))
    for latency in ("ttft_ms", "tpot_ms", "e2e_ms"):
        percentiles = [value(metrics, f"{latency}_{name}") for name in ("p50", "p95", "p99")]
        assert 0 < percentiles[0] < percentiles[1] < percentiles[2]
    assert value(metrics, "e2e_ms_mean") == pytest.approx(value(metrics, "ttft_ms_mean") + 127 * value(metrics, "tpot_ms_mean"), rel=0.02)


def test_a_rate_below_capacity_is_served_in_full() -> None:
    metrics = ESTIMATOR.metrics(deployment(), arriving(2.0))
    assert value(metrics, "request_rate_per_s") > 2
    assert value(metrics, "throughput_tok_s") == pytest.approx(2 * 128)


def test_the_sustained_rate_does_not_depend_on_the_overload() -> None:
    """What a replica serves that is never idle does not depend on how many more would come."""
    some, many = (ESTIMATOR.metrics(deployment(), arriving(rate)) for rate in (200.0, 400.0))
    lasting = value(some, "request_rate_per_s")
    assert lasting == value(many, "request_rate_per_s") < 200
    assert value(some, "throughput_tok_s") == pytest.approx(lasting * 128)
    assert value(many, "ttft_ms_p50") > value(some, "ttft_ms_p50") > value(ESTIMATOR.metrics(deployment(), arriving(2.0)), "ttft_ms_p99")


def test_queues_grow_above_the_sustained_rate() -> None:
    lasting = value(ESTIMATOR.metrics(deployment(), arriving(1.0)), "request_rate_per_s")
    below, above = (ESTIMATOR.metrics(deployment(), arriving(lasting * share)) for share in (0.8, 1.3))
    assert value(above, "ttft_ms_p50") > 5 * value(below, "ttft_ms_p50")


def test_replicas_share_a_rate() -> None:
    alone, four = (ESTIMATOR.metrics(deployment(data=data), arriving(rate)) for data, rate in ((1, 3.0), (4, 12.0)))
    assert value(four, "request_rate_per_s") == pytest.approx(4 * value(alone, "request_rate_per_s"))
    assert value(four, "ttft_ms_p95") == pytest.approx(value(alone, "ttft_ms_p95"))


def test_a_burst_is_served_once() -> None:
    """Of 100 at once with 64 slots, the last wait until others are done."""
    served = ESTIMATOR.simulate(deployment(slots=64), workload_of(512, 64, burst=100))
    assert len(served.timings) == 100
    assert max(served.ttft_s) > 64 * min(seconds for seconds in served.tpot_s)
    assert served.throughput_tok_s == pytest.approx(100 * 64 / max(served.e2e_s), rel=0.05)


def test_goodput_counts_the_requests_that_keep_both_limits() -> None:
    stack, workload = deployment(), arriving(8.0)
    served = ESTIMATOR.simulate(stack, workload)
    middle = Limits(ttft_ms_p95=1e3 * sorted(served.ttft_s)[len(served.ttft_s) // 2])
    strict = Limits(ttft_ms_p95=1e-3, tpot_ms_p95=1e6)
    values = [goodput(ESTIMATOR.ranges(stack), workload, served, limits) for limits in (Limits(ttft_ms_p95=1e6), middle, strict)]
    rates = [rate.value for rate in values if rate is not None]
    assert rates == [pytest.approx(8.0), pytest.approx(4.0, rel=0.01), 0.0]
    assert goodput(ESTIMATOR.ranges(stack), workload, served, Limits(throughput_tok_s=1.0)) is None
    assert all(rate.low <= rate.value <= rate.high <= 8.0 for rate in values if rate is not None)


def test_a_trace_is_served_with_its_own_lengths() -> None:
    requests = tuple(Arrival(arrival_s=float(index), prompt_tokens=100 * (index + 1), output_tokens=10 + index) for index in range(5))
    trace = Trace(name="five", requests=requests)
    served = ESTIMATOR.simulate(deployment(), workload_of(1, 1, trace=trace))
    assert len(served.timings) == 5
    assert list(served.ttft_s) == sorted(served.ttft_s)
    assert served.requests_per_s == pytest.approx(5 / (4 + served.e2e_s[-1] - served.ttft_s[0]), rel=0.1)


def test_the_pool_takes_the_memory_that_the_weights_leave() -> None:
    """Llama-3.1-8B: 131,072 bytes a token in bf16, 16 tokens a block."""
    stack, workload = deployment(), Workload(prompt_tokens=1000, output_tokens=1000, concurrency=32)
    pool, footprint = cache_pool(ESTIMATOR.memory, stack, workload), ESTIMATOR.memory.footprint(stack, workload)
    assert pool.fixed_blocks == 0
    taken = pool.blocks * 16 * 131072 + footprint.fixed_bytes
    assert taken == pytest.approx(ESTIMATOR.memory.budget_bytes, rel=0.01)
    assert taken <= ESTIMATOR.memory.budget_bytes


def test_full_windows_take_a_fixed_share_of_the_pool() -> None:
    """What half of gpt-oss's layers keep, 128 tokens, is full before the answer begins: 8 blocks of half of the layers."""
    pool = cache_pool(
        ESTIMATOR.memory, deployment(model="openai/gpt-oss-20b"), Workload(prompt_tokens=1000, output_tokens=1000, concurrency=32)
    )
    assert math.isfinite(pool.blocks)
    assert pool.fixed_blocks == pytest.approx(9), "128 tokens that may begin in the middle of a block of 16"


def test_offline_more_wait_than_run() -> None:
    """Memory decides how many run: the pool is full, and sequences are preempted."""
    served = ESTIMATOR.simulate(deployment(slots=1024), Workload(prompt_tokens=2048, output_tokens=2048, load=Load.OFFLINE))
    assert served.preemptions > 0
