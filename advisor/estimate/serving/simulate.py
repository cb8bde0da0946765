"""A workload served on paper: which requests come when, which of them count, and what they add up to."""

import random
from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate
from math import ceil

from advisor.backends.deployment import Deployment
from advisor.estimate.serving.requests import SimRequest
from advisor.estimate.serving.scheduler import Scheduler, SchedulerRules
from advisor.estimate.serving.times import ServingTimes
from advisor.estimate.steps.pricer import StepPricer
from advisor.profiles.request import Load, Workload

SEED = 20
BURST_SHARE = 3
"""A closed loop starts with everyone at once. One in so many of those first requests counts: as in ten rounds, not in four."""
ROUNDS = 4
"""Requests simulated in a closed loop, as a multiple of those in flight: the first burst and three rounds of steady state."""
OPEN_REQUESTS = 1000
"""Requests simulated in an open loop: eight of those that count lie beyond the p99."""
OPEN_EDGE = 0.1
"""Share of an open loop's requests that do not count at either end: the system fills, and empties."""
BACKLOG_FACTOR = 1.25
"""Requests that are always there when nobody should wait for arrivals, as a multiple of those that usually run."""


def simulate(
    pricer: StepPricer, deployment: Deployment, workload: Workload, rules: SchedulerRules, lengths: Sequence[tuple[int, int]] | None = None
) -> ServingTimes:
    """Serve the workload on paper. `lengths` gives the requests of a concrete run; else enough of the usual length.

    Data-parallel replicas share the load evenly: one is simulated. The stages of a pipeline work on different requests at a
    time, so a pipeline serves like as many replicas as it has stages, each with a share of slots and memory, in the time of
    all layers one after another.
    """
    replicas, rules = independent_streams(deployment, rules)
    if workload.load is Load.TRACE or lengths is not None:
        served = _concrete(pricer, workload, rules, replicas, lengths)
    elif workload.load is Load.OPEN:
        served = _open(pricer, workload, rules, replicas)
    elif workload.load is Load.BURST:
        burst = request_lengths(workload, requests_per_replica(workload, replicas))
        served = _whole(_scheduler(pricer, workload, rules), burst, in_flight=None)
    else:
        served = _loop(pricer, workload, rules, in_flight_of(workload, rules, replicas))
    most, at_work = served.max_requests_per_s, busy_replicas(workload, replicas)
    return replace(
        served,
        throughput_tok_s=served.throughput_tok_s * at_work,
        requests_per_s=served.requests_per_s * at_work,
        max_requests_per_s=None if most is None else most * replicas,
    )


def independent_streams(deployment: Deployment, rules: SchedulerRules) -> tuple[int, SchedulerRules]:
    """Streams of requests that do not meet, and the rules of one."""
    parallel, pool = deployment.parallel, rules.pool
    stages = parallel.pipeline
    if stages == 1:
        return parallel.data, rules
    return parallel.data * stages, replace(
        rules, max_sequences=-(-rules.max_sequences // stages), pool=replace(pool, blocks=pool.blocks / stages)
    )


def busy_replicas(workload: Workload, replicas: int) -> float:
    """Replicas that are at work: fewer than there are where there are fewer requests."""
    if workload.load not in (Load.CLOSED, Load.BURST):
        return replicas
    return (workload.concurrency or 1) / requests_per_replica(workload, replicas)


def closed_loop_lengths(workload: Workload, in_flight: int) -> list[tuple[int, int]]:
    """Lengths of the requests of a simulated loop; a single stream is one request."""
    return request_lengths(workload, ROUNDS * in_flight if in_flight > 1 else 1)


def counted_requests(done: Sequence[SimRequest], in_flight: int) -> list[SimRequest]:
    """The requests of a simulated loop that stand for a longer one: all but most of the first burst."""
    return [one for one in done if one.number >= in_flight or one.number % BURST_SHARE == 0]


def in_flight_of(workload: Workload, rules: SchedulerRules, replicas: int) -> int:
    """Requests on one replica at once; offline, so many that some always wait."""
    if workload.load is Load.CLOSED:
        return requests_per_replica(workload, replicas)
    crowd = _crowd(workload, rules)
    return crowd if workload.concurrency is None else min(requests_per_replica(workload, replicas), crowd)


def _scheduler(pricer: StepPricer, workload: Workload, rules: SchedulerRules, *, exact_cache: bool = False) -> Scheduler:
    alone = workload.load is Load.CLOSED and workload.concurrency == 1
    waited = 0.0 if alone else rules.wait_steps + pricer.machine.overheads.wait_steps
    return Scheduler(pricer, replace(rules, wait_steps=waited), exact_cache=exact_cache)


def _concrete(
    pricer: StepPricer, workload: Workload, rules: SchedulerRules, replicas: int, lengths: Sequence[tuple[int, int]] | None
) -> ServingTimes:
    """The very requests of a run or of a trace, all of which count."""
    scheduler = _scheduler(pricer, workload, rules, exact_cache=lengths is not None)
    if workload.trace is not None:
        own = workload.trace.requests[::replicas]
        arrivals = [request.arrival_s for request in own]
        return _whole(scheduler, [(request.prompt_tokens, request.output_tokens) for request in own], arrivals_s=arrivals)
    assert lengths is not None
    if workload.load is Load.OPEN:
        return _whole(scheduler, lengths, arrivals_s=_poisson(_rate(workload, replicas), len(lengths)))
    return _whole(scheduler, lengths, in_flight=in_flight_of(workload, rules, replicas) if workload.load is Load.CLOSED else None)


def _whole(
    scheduler: Scheduler, lengths: Sequence[tuple[int, int]], *, in_flight: int | None = None, arrivals_s: Sequence[float] | None = None
) -> ServingTimes:
    return scheduler.served(scheduler.serve(lengths, in_flight=in_flight, arrivals_s=arrivals_s))


def _loop(pricer: StepPricer, workload: Workload, rules: SchedulerRules, in_flight: int) -> ServingTimes:
    """The steady state of so many in flight, who are followed by others."""
    scheduler, lengths = _scheduler(pricer, workload, rules), closed_loop_lengths(workload, in_flight)
    served = scheduler.served(counted_requests(scheduler.serve(lengths, in_flight=in_flight), in_flight))
    rate = scheduler.steady_state_tok_s(in_flight)
    return replace(served, throughput_tok_s=rate, requests_per_s=rate / workload.output_tokens)


def _open(pricer: StepPricer, workload: Workload, rules: SchedulerRules, replicas: int) -> ServingTimes:
    """Poisson arrivals; what a replica that is never idle serves bounds the rate that lasts."""
    rate, most = _rate(workload, replicas), _loop(pricer, workload, rules, _crowd(workload, rules)).requests_per_s
    scheduler = _scheduler(pricer, workload, rules)
    done = scheduler.serve(request_lengths(workload, OPEN_REQUESTS), in_flight=None, arrivals_s=_poisson(rate, OPEN_REQUESTS))
    edge = int(OPEN_EDGE * OPEN_REQUESTS)
    served = scheduler.served([one for one in done if edge <= one.number < OPEN_REQUESTS - edge])
    kept = min(rate, most)
    return replace(served, throughput_tok_s=kept * workload.output_tokens, requests_per_s=kept, max_requests_per_s=most)


def requests_per_replica(workload: Workload, replicas: int) -> int:
    """Requests of one replica, of those that are in flight or come at once."""
    return max(-(-(workload.concurrency or 1) // replicas), 1)


def _crowd(workload: Workload, rules: SchedulerRules) -> int:
    pool, slots = rules.pool, rules.max_sequences
    if pool.blocks == float("inf"):
        return slots
    tokens = workload.prompt_tokens + (workload.output_tokens if pool.reserves else workload.output_tokens // 2)
    usual = pool.blocks / (pool.blocks_of(tokens) + pool.fixed_blocks)
    return max(min(slots, ceil(BACKLOG_FACTOR * usual)), 1)


def _rate(workload: Workload, replicas: int) -> float:
    return (workload.request_rate_per_s or 1.0) / replicas


def request_lengths(workload: Workload, count: int) -> list[tuple[int, int]]:
    """Prompts and outputs of `count` requests, the usual ones on average; one alone has just those."""
    if count == 1:
        return [(workload.prompt_tokens, workload.output_tokens)]
    rng = random.Random(SEED)

    def around(tokens: int) -> int:
        return max(round(tokens * rng.uniform(1 - workload.length_spread, 1 + workload.length_spread)), 1)

    return [(around(workload.prompt_tokens), around(workload.output_tokens)) for _ in range(count)]


def _poisson(rate_per_s: float, count: int) -> list[float]:
    """When `count` requests arrive that know nothing of one another, seconds."""
    rng = random.Random(SEED)
    return list(accumulate(rng.expovariate(rate_per_s) for _ in range(count)))
