"""Simulation of a workload: which requests arrive when, which of them are counted, and their times and rates."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from math import ceil

from advisor.backends.deployment import Deployment
from advisor.estimate.serving.requests import SimRequest
from advisor.estimate.serving.scheduler import Scheduler
from advisor.estimate.serving.scheduler_rules import SchedulerRules
from advisor.estimate.serving.times import ServingTimes
from advisor.estimate.steps.pricer import StepPricer
from advisor.profiles.request import Load, Workload

SEED = 20
BURST_SHARE = 3
"""A closed loop starts with a burst, of which one request in three is counted: its share is then that of ten rounds, not of four."""
ROUNDS = 4
"""Requests simulated in a closed loop, as a multiple of those in flight: the burst and three rounds of steady state."""
OPEN_REQUESTS = 1000
"""Requests simulated in an open loop: of those counted, eight lie above the 99th percentile."""
OPEN_EDGE = 0.1
"""Share of an open loop's requests that is not counted at either end, while the system fills and empties."""
BACKLOG_FACTOR = 1.25
"""Requests in flight that keep a replica always busy, as a multiple of those that run on average."""


def simulate(
    pricer: StepPricer, deployment: Deployment, workload: Workload, rules: SchedulerRules, lengths: Sequence[tuple[int, int]] | None = None
) -> ServingTimes:
    """Simulate a workload on a deployment. `lengths`, prompt and output tokens, are the requests of a concrete run.

    Data-parallel replicas share the load evenly: one is simulated. The stages of a pipeline work on different requests at a time,
    so a pipeline is simulated as as many replicas as it has stages, each with its share of sequences and memory, whose step takes
    the time of all layers.
    """
    replicas, rules = independent_streams(deployment, rules)
    if workload.load is Load.TRACE or lengths is not None:
        times = _concrete_run(pricer, workload, rules, replicas, lengths)
    elif workload.load is Load.OPEN:
        times = _open_loop(pricer, workload, rules, replicas)
    elif workload.load is Load.BURST:
        burst = request_lengths(workload, requests_per_replica(workload, replicas))
        times = _all_counted(_scheduler(pricer, workload, rules), burst, in_flight=None)
    else:
        times = _closed_loop(pricer, workload, rules, in_flight_of(workload, rules, replicas))
    most, busy = times.max_requests_per_s, busy_replicas(workload, replicas)
    return replace(
        times,
        throughput_tok_s=times.throughput_tok_s * busy,
        requests_per_s=times.requests_per_s * busy,
        max_requests_per_s=None if most is None else most * replicas,
    )


def independent_streams(deployment: Deployment, rules: SchedulerRules) -> tuple[int, SchedulerRules]:
    """Number of streams that share no scheduler, and the rules of one: replicas, times the stages of a pipeline."""
    parallel, pool = deployment.parallel, rules.pool
    stages = parallel.pipeline
    if stages == 1:
        return parallel.data, rules
    return parallel.data * stages, replace(
        rules, max_sequences=-(-rules.max_sequences // stages), pool=replace(pool, blocks=pool.blocks / stages)
    )


def busy_replicas(workload: Workload, replicas: int) -> float:
    """Replicas with requests, on average over the load: fewer than `replicas` where there are fewer requests."""
    if workload.load not in (Load.CLOSED, Load.BURST):
        return replicas
    return (workload.concurrency or 1) / requests_per_replica(workload, replicas)


def closed_loop_lengths(workload: Workload, in_flight: int) -> list[tuple[int, int]]:
    """Prompt and output tokens of the requests of a closed loop; a single stream is one request."""
    return request_lengths(workload, ROUNDS * in_flight if in_flight > 1 else 1)


def counted_requests(done: Sequence[SimRequest], in_flight: int) -> list[SimRequest]:
    """The requests of a closed loop that are counted: one in `BURST_SHARE` of the burst, and all after it."""
    return [request for request in done if request.number >= in_flight or request.number % BURST_SHARE == 0]


def in_flight_of(workload: Workload, rules: SchedulerRules, replicas: int) -> int:
    """Requests in flight on one replica; for offline loads, enough that some always wait."""
    if workload.load is Load.CLOSED:
        return requests_per_replica(workload, replicas)
    saturating = _saturating_requests(workload, rules)
    return saturating if workload.concurrency is None else min(requests_per_replica(workload, replicas), saturating)


def _scheduler(pricer: StepPricer, workload: Workload, rules: SchedulerRules, *, exact_cache: bool = False) -> Scheduler:
    alone = workload.load is Load.CLOSED and workload.concurrency == 1
    waited = 0.0 if alone else rules.wait_steps + pricer.machine.overheads.wait_steps
    return Scheduler(pricer, replace(rules, wait_steps=waited), exact_cache=exact_cache)


def _concrete_run(
    pricer: StepPricer, workload: Workload, rules: SchedulerRules, replicas: int, lengths: Sequence[tuple[int, int]] | None
) -> ServingTimes:
    """The requests of a run or of a trace, all of which are counted."""
    scheduler = _scheduler(pricer, workload, rules, exact_cache=lengths is not None)
    if workload.trace is not None:
        own = workload.trace.requests[::replicas]
        arrivals = [request.arrival_s for request in own]
        return _all_counted(scheduler, [(request.prompt_tokens, request.output_tokens) for request in own], arrivals_s=arrivals)
    assert lengths is not None
    if workload.load is Load.OPEN:
        return _all_counted(scheduler, lengths, arrivals_s=_poisson(_rate(workload, replicas), len(lengths)))
    return _all_counted(scheduler, lengths, in_flight=in_flight_of(workload, rules, replicas) if workload.load is Load.CLOSED else None)


def _all_counted(
    scheduler: Scheduler, lengths: Sequence[tuple[int, int]], *, in_flight: int | None = None, arrivals_s: Sequence[float] | None = None
) -> ServingTimes:
    return scheduler.times_of(scheduler.serve(lengths, in_flight=in_flight, arrivals_s=arrivals_s))


def _closed_loop(pricer: StepPricer, workload: Workload, rules: SchedulerRules, in_flight: int) -> ServingTimes:
    """A closed loop with `in_flight` requests, each followed by another one; rates are those of the steady state."""
    scheduler, lengths = _scheduler(pricer, workload, rules), closed_loop_lengths(workload, in_flight)
    done = scheduler.serve(lengths, in_flight=in_flight)
    rate = _steady_state_tok_s(done, in_flight)
    times = scheduler.times_of(counted_requests(done, in_flight))
    return replace(times, throughput_tok_s=rate, requests_per_s=rate / workload.output_tokens)


def _steady_state_tok_s(done: Sequence[SimRequest], in_flight: int) -> float:
    """Output tokens per second with `in_flight` requests, by Little's law from the latencies of all but the first burst.

    Tokens over duration would understate it, as fewer requests run towards the end of a simulation.
    """
    requests = [request for request in done if request.number >= in_flight] or done
    latency_s = sum(request.last_s - request.arrival_s for request in requests)
    return in_flight * sum(request.output for request in requests) / latency_s if latency_s > 0 else 0.0


def _open_loop(pricer: StepPricer, workload: Workload, rules: SchedulerRules, replicas: int) -> ServingTimes:
    """Poisson arrivals; the sustained rate is at most that of a replica which is never idle."""
    rate, most = _rate(workload, replicas), _closed_loop(pricer, workload, rules, _saturating_requests(workload, rules)).requests_per_s
    scheduler = _scheduler(pricer, workload, rules)
    done = scheduler.serve(request_lengths(workload, OPEN_REQUESTS), in_flight=None, arrivals_s=_poisson(rate, OPEN_REQUESTS))
    edge = int(OPEN_EDGE * OPEN_REQUESTS)
    times = scheduler.times_of([request for request in done if edge <= request.number < OPEN_REQUESTS - edge])
    sustained = min(rate, most)
    return replace(times, throughput_tok_s=sustained * workload.output_tokens, requests_per_s=sustained, max_requests_per_s=most)


def requests_per_replica(workload: Workload, replicas: int) -> int:
    """Requests of one replica, of those that are in flight or arrive in one burst; at least 1."""
    return max(-(-(workload.concurrency or 1) // replicas), 1)


def _saturating_requests(workload: Workload, rules: SchedulerRules) -> int:
    """Requests in flight on one replica with which some always wait, and no more."""
    pool, slots = rules.pool, rules.max_sequences
    if pool.blocks == float("inf"):
        return slots
    tokens = workload.prompt_tokens + (workload.output_tokens if pool.reserves else workload.output_tokens // 2)
    running = pool.blocks / (pool.blocks_of(tokens) + pool.fixed_blocks)
    return max(min(slots, ceil(BACKLOG_FACTOR * running)), 1)


def _rate(workload: Workload, replicas: int) -> float:
    return (workload.request_rate_per_s or 1.0) / replicas


def request_lengths(workload: Workload, count: int) -> list[tuple[int, int]]:
    """Prompt and output tokens of `count` requests: uniform around the workload's by its `length_spread`; a single one has the mean."""
    if count == 1:
        return [(workload.prompt_tokens, workload.output_tokens)]
    rng = random.Random(SEED)

    def around(tokens: int) -> int:
        return max(round(tokens * rng.uniform(1 - workload.length_spread, 1 + workload.length_spread)), 1)

    return [(around(workload.prompt_tokens), around(workload.output_tokens)) for _ in range(count)]


def _poisson(rate_per_s: float, count: int) -> list[float]:
    """Arrival times of `count` requests of a Poisson process, seconds."""
    rng = random.Random(SEED)
    return list(accumulate(rng.expovariate(rate_per_s) for _ in range(count)))
