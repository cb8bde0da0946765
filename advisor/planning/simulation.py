"""Simulates serving with one stack and turns the times into metrics."""

from dataclasses import dataclass

from advisor.backends.technique import QualityEffect
from advisor.estimate.estimator import Estimator
from advisor.estimate.serving.times import ServingTimes
from advisor.planning.search import Stack
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Metrics
from advisor.profiles.request import Limits, Workload


@dataclass(frozen=True, slots=True)
class Simulation:
    """The result of simulating one stack under one workload. It does not depend on limits."""

    metrics: Metrics
    times: ServingTimes


def simulate(estimator: Estimator, stack: Stack, workload: Workload, quality: QualityEffect) -> Simulation:
    """Simulate serving a workload with a stack.

    Memory is that of all requested sequences, also where fewer fit, so that a limit on it can be compared with what is requested.
    """
    times = estimator.simulate(stack.deployment, workload)
    metrics = estimator.metrics_of(stack.deployment, workload, times, quality)
    assert metrics.peak_memory_gib is not None
    requested = estimator.requested_memory(stack.deployment, workload)
    cache, missing_gib = metrics.kv_cache_gib, max(requested.value - metrics.peak_memory_gib.value, 0.0)
    if cache is not None and missing_gib:
        cache = estimator.ranges(stack.deployment).cache_gib((cache.value + missing_gib) * GIB)
    memory = {"peak_memory_gib": requested, "kv_cache_gib": cache}
    return Simulation(metrics.model_copy(update=memory), times)


def with_goodput(simulation: Simulation, estimator: Estimator, stack: Stack, workload: Workload, limits: Limits) -> Metrics:
    """The metrics of a simulation, with the goodput: the rate of requests that meet the limits on their latency."""
    rate = estimator.goodput(stack.deployment, workload, simulation.times, limits)
    return simulation.metrics.model_copy(update={"goodput_per_s": rate})
