"""Predict the metrics of a deployment under a workload on a machine, each with its range and basis.

`Estimator.metrics` does both steps: `simulate` serves the workload step by step, `metrics_of` turns its times into metrics.
`steady_state` approximates the same in closed form, for the thousands of stacks of a search.
"""

from collections.abc import Sequence
from copy import copy
from dataclasses import replace

from advisor.backends.deployment import Attention, Batching, BatchPolicy, Deployment, KvLayout
from advisor.backends.technique import QualityEffect
from advisor.estimate.machines.machine import Machine
from advisor.estimate.memory.cache import block_tokens, kv_bytes_of_sequence, recent_bytes
from advisor.estimate.memory.capacity import MemoryBudget
from advisor.estimate.memory.ledger import shared_tokens
from advisor.estimate.memory.retention import retention_of
from advisor.estimate.serving.closed_form import SteadyState, steady_state
from advisor.estimate.serving.metrics import goodput, serving_metrics
from advisor.estimate.serving.pool import cache_pool
from advisor.estimate.serving.requests import UNLIMITED_POOL
from advisor.estimate.serving.scheduler_rules import SchedulerRules
from advisor.estimate.serving.simulate import simulate
from advisor.estimate.serving.times import ServingTimes
from advisor.estimate.steps.batched import Family
from advisor.estimate.steps.pricer import SharedPrices, StepPricer
from advisor.estimate.uncertainty.physics import PhysicalBounds, at_most, physical_bounds
from advisor.estimate.uncertainty.values import Ranges, ranges_of
from advisor.profiles.engines import EngineProfile
from advisor.profiles.evidence import accepted_share
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.request import Limits, Workload

ANY_BATCHING = Batching()
"""Batching of the deployments that steps are priced for: a step costs the same whichever policy composed it."""


class Estimator:
    """Predicts deployments on one machine with one engine. Prices of steps are cached."""

    def __init__(self, machine: Machine, engine: EngineProfile, *, memory_budget_bytes: float | None = None) -> None:
        """`memory_budget_bytes` is the most memory that may be used on each device; `None` for all that the engine can use."""
        self.machine = machine
        self.engine = engine.on(machine.working_memory_bytes)
        self.memory = MemoryBudget(self.engine, machine.working_memory_bytes, memory_budget_bytes)
        self._pricers: dict[Deployment, StepPricer] = {}
        self._shared = SharedPrices()

    def with_memory(self, extra_bytes: float) -> "Estimator":
        """The same machine with `extra_bytes` more memory on each device. Both share their prices, which do not depend on it."""
        larger = copy(self)
        larger.memory = self.memory.with_extra(extra_bytes)
        return larger

    def metrics(
        self,
        deployment: Deployment,
        workload: Workload,
        *,
        quality: QualityEffect | None = None,
        lengths: Sequence[tuple[int, int]] | None = None,
    ) -> Metrics:
        """All predicted metrics. `lengths`, prompt and output tokens, are the requests of a concrete run."""
        times = self.simulate(deployment, workload, lengths)
        metrics = self.metrics_of(deployment, workload, times, quality, equal_lengths=lengths is None)
        if lengths is None or deployment.kv.layout == KvLayout.CONTIGUOUS:
            return metrics
        cache = kv_bytes_of_sequence(deployment, times.peak_cache_tokens)
        cache += self.memory.running_sequences(deployment, workload) * recent_bytes(deployment)
        return metrics.model_copy(update={"kv_cache_gib": self.ranges(deployment).cache_gib(cache)})

    def simulate(self, deployment: Deployment, workload: Workload, lengths: Sequence[tuple[int, int]] | None = None) -> ServingTimes:
        """Times of simulated requests; `lengths` as for `metrics`."""
        return simulate(self.pricer(deployment), deployment, workload, self.rules(deployment, workload), lengths)

    def metrics_of(
        self,
        deployment: Deployment,
        workload: Workload,
        times: ServingTimes,
        quality: QualityEffect | None = None,
        *,
        equal_lengths: bool = True,
    ) -> Metrics:
        """Metrics from the times of simulated requests; quality loss only where it is given. Goodput needs limits: `metrics.goodput`.

        `equal_lengths` says that all requests are as long as the workload's. Ranges end where the data sheet rules more out.
        """
        ranges, capacity = self.ranges(deployment), self.memory.capacity(deployment, workload)
        memory, footprint = capacity.ledger, self.memory.footprint(deployment, workload)
        prefill_s = self.pricer(deployment).prompt_s(workload.prompt_tokens, self.prefill_budget(deployment, workload))
        metrics = Metrics(
            **serving_metrics(ranges, workload, times),
            prefill_tok_s=ranges.value("prefill", workload.prompt_tokens / prefill_s),
            peak_memory_gib=ranges.memory_gib(memory),
            weights_gib=ranges.weights_gib(memory),
            kv_cache_gib=ranges.cache_gib(memory.kv_bytes),
            max_concurrency=ranges.concurrency(footprint, self.memory.usable_bytes(footprint)),
            acceptance=_acceptance(deployment),
            prefix_hits=None if times.prefix_hits is None else Value.exact(times.prefix_hits),
            quality_loss_pct=_quality(quality) if quality is not None else None,
        )
        bounds = self.physical_bounds(deployment, workload, equal_lengths=equal_lengths)
        return bounds.applied(metrics) if bounds is not None else metrics

    def goodput(self, deployment: Deployment, workload: Workload, times: ServingTimes, limits: Limits) -> Value | None:
        """Requests per second that meet the limits on their own latency; `None` where none is limited."""
        rate, bounds = goodput(self.ranges(deployment), workload, times, limits), self.physical_bounds(deployment, workload)
        return at_most(rate, bounds.requests_per_s) if rate is not None and bounds is not None else rate

    def physical_bounds(self, deployment: Deployment, workload: Workload, *, equal_lengths: bool = True) -> PhysicalBounds | None:
        """What the device's data sheet rules out for a deployment; `None` for a machine that was measured."""
        sequences = self.memory.requested_sequences(deployment, workload)
        return physical_bounds(self.pricer(deployment), workload, sequences, equal_lengths=equal_lengths)

    def steady_state(self, deployment: Deployment, workload: Workload) -> SteadyState:
        """Steady state in closed form."""
        states = steady_state(
            Family([self.pricer(deployment)]),
            workload,
            policy=deployment.batching.policy,
            slots=self.memory.running_sequences(deployment, workload),
            token_budget=self.token_budget(deployment),
            chunked=deployment.batching.chunked,
            reused=self.memory.reused_tokens(deployment, workload),
        )
        return states.of(0)

    def prefill_rate(self, deployment: Deployment, workload: Workload) -> Value:
        """Prompt tokens per second while the prompts of all requests in flight are prefilled, in steps of the token budget."""
        budget = self.prefill_budget(deployment, workload)
        rate = self.pricer(deployment).prefill_rate(workload.prompt_tokens, workload.concurrency or 1, budget)
        predicted, bounds = self.ranges(deployment).value("prefill", rate), self.physical_bounds(deployment, workload)
        return at_most(predicted, bounds.prefill_tok_s) if bounds is not None else predicted

    def prefill_budget(self, deployment: Deployment, workload: Workload) -> int:
        """Most tokens of a step that prefills: the token budget, or a whole prompt where prompts are not chunked."""
        budget, batching = self.token_budget(deployment), deployment.batching
        whole = batching.policy == BatchPolicy.STATIC or not batching.chunked
        return max(budget, workload.prompt_tokens) if whole else budget

    def requested_memory(self, deployment: Deployment, workload: Workload) -> Value:
        """GiB on each device with all requested sequences, whether they fit or not."""
        return self.ranges(deployment).memory_gib(self.memory.requested_ledger(deployment, workload))

    def ranges(self, deployment: Deployment) -> Ranges:
        """The ranges of predictions for a deployment."""
        return ranges_of(self.machine, deployment)

    def rules(self, deployment: Deployment, workload: Workload) -> SchedulerRules:
        """How the engine schedules the deployment: by the blocks of a finite pool, or else by the sequences that fit."""
        pool, memory = cache_pool(self.memory, deployment, workload), self.memory
        unlimited = pool is UNLIMITED_POOL
        sequences = memory.running_sequences(deployment, workload) if unlimited else memory.requested_sequences(deployment, workload)
        return SchedulerRules(
            policy=deployment.batching.policy,
            max_sequences=sequences,
            token_budget=self.token_budget(deployment),
            request_s=self.machine.overheads.request_s,
            wait_steps=deployment.batching.wait_steps,
            chunked=deployment.batching.chunked,
            shared_tokens=shared_tokens(deployment, workload, self.engine),
            block_tokens=block_tokens(deployment, self.engine),
            pool=pool,
            retention=retention_of(deployment),
        )

    def token_budget(self, deployment: Deployment) -> int:
        """Most tokens of one step: the deployment's, or the engine's default where it states none."""
        return deployment.batching.token_budget or self.engine.token_budget

    def pricer(self, deployment: Deployment) -> StepPricer:
        """The pricer of a deployment's steps, shared by deployments that differ only in what no step time depends on."""
        key = replace(deployment, batching=ANY_BATCHING, attention=self.cost_equivalent_attention(deployment))
        pricer = self._pricers.get(key)
        if pricer is None:
            pricer = self._pricers[key] = StepPricer(key, self.machine, self._shared)
        return pricer

    def cost_equivalent_attention(self, deployment: Deployment) -> Attention:
        """The deployment's attention, its backend replaced by the representative of all backends with equal times on this machine."""
        attention = deployment.attention
        backend = self.machine.cost_equivalent(attention.backend)
        return attention if backend == attention.backend else replace(attention, backend=backend)


def _acceptance(deployment: Deployment) -> Value | None:
    """Share of draft positions that are accepted, on average."""
    decoding = deployment.decoding
    if not decoding.draft_tokens:
        return None
    shares = (decoding.acceptance, *decoding.acceptance_spread)
    value, low, high = (accepted_share(share, decoding.draft_tokens) for share in shares)
    return Value(value=value, low=min(low, value), high=max(high, value), basis=Basis.LITERATURE)


def _quality(effect: QualityEffect) -> Value:
    if not effect.sources:
        return Value.exact(0.0)
    return Value(value=effect.loss_pct, low=effect.low_pct, high=effect.high_pct, basis=Basis.LITERATURE)
