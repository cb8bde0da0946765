"""The one estimator: metrics of a deployment under a workload on a machine, each with its range and basis."""

from collections.abc import Sequence
from copy import copy
from dataclasses import dataclass, replace

from advisor.backends.deployment import Attention, Batching, Deployment, KvLayout
from advisor.backends.technique import QualityEffect
from advisor.estimate.machines.machine import Machine
from advisor.estimate.memory.ledger import (
    Footprint,
    Ledger,
    block_tokens,
    footprint,
    kv_bytes_of_sequence,
    ledger,
    recent_bytes,
    reused_tokens,
    shared_bytes,
    shared_tokens,
)
from advisor.estimate.memory.retention import retention_of
from advisor.estimate.serving.closed_form import SteadyState, steady_state
from advisor.estimate.serving.metrics import goodput, serving_metrics
from advisor.estimate.serving.requests import UNLIMITED_POOL, SimPool
from advisor.estimate.serving.scheduler import SchedulerRules
from advisor.estimate.serving.simulate import simulate
from advisor.estimate.serving.times import ServingTimes
from advisor.estimate.steps.batched import Family
from advisor.estimate.steps.pricer import SharedPrices, StepPricer
from advisor.estimate.uncertainty.domain import extrapolation_warning
from advisor.estimate.uncertainty.values import Ranges, ranges_of
from advisor.profiles.engines import EngineProfile
from advisor.profiles.evidence import expected_tokens
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.request import Limits, Load, Workload

ANY_BATCHING = Batching()
"""Steps cost the same whichever policy puts them together."""


@dataclass(frozen=True, slots=True)
class Capacity:
    """What fits in memory: the ledger at work and the most requests at once."""

    ledger: Ledger
    max_sequences: int
    """Requests of the workload that one replica holds at once; 0 when not even one fits."""
    running_sequences: int
    """Requests that one replica really runs at once."""


class Estimator:
    """Prices deployments on one machine with one engine. Holds prices of steps already asked for."""

    def __init__(self, machine: Machine, engine: EngineProfile, *, memory_budget_bytes: float | None = None) -> None:
        self.machine = machine
        self.engine = engine = engine.on(machine.working_memory_bytes)
        self.memory_share = engine.share_on(machine.working_memory_bytes)
        usable = machine.working_memory_bytes * (self.memory_share if engine.memory_share_of == "total" else 1.0)
        self.budget_bytes = min(usable, memory_budget_bytes) if memory_budget_bytes else usable
        self._pricers: dict[Deployment, StepPricer] = {}
        self._shared = SharedPrices()
        self._footprints: dict[tuple[Deployment, Workload], Footprint] = {}

    def with_memory(self, extra_bytes: float) -> "Estimator":
        """The same machine with so many bytes more of each device for use. Both share what they price: no time depends on it."""
        wider = copy(self)
        wider.budget_bytes += extra_bytes
        return wider

    def pricer(self, deployment: Deployment) -> StepPricer:
        """The step prices of a deployment."""
        key = replace(deployment, batching=ANY_BATCHING, attention=self.cost_equivalent_attention(deployment))
        known = self._pricers.get(key)
        if known is None:
            known = self._pricers[key] = StepPricer(key, self.machine, self._shared)
        return known

    def cost_equivalent_attention(self, deployment: Deployment) -> Attention:
        """The attention whose times this deployment's takes: the same for those that no price tells apart."""
        asked = deployment.attention
        name = self.machine.cost_equivalent(asked.backend)
        return asked if name == asked.backend else replace(asked, backend=name)

    def steady_state(self, deployment: Deployment, workload: Workload) -> SteadyState:
        """Steady state in closed form: cheap enough for every stack of a search."""
        steadies = steady_state(
            Family([self.pricer(deployment)]),
            workload,
            policy=deployment.batching.policy,
            slots=self.running_sequences(deployment, workload),
            token_budget=self.token_budget(deployment),
            chunked=deployment.batching.chunked,
            reused=self.reused_tokens(deployment, workload),
        )
        return steadies.of(0)

    def token_budget(self, deployment: Deployment) -> int:
        """Most tokens of one step: the engine's own where the deployment does not say."""
        return deployment.batching.token_budget or self.engine.token_budget

    def requested_bytes(self, deployment: Deployment, workload: Workload) -> float:
        """Bytes per device with every wanted request in flight, whether they fit or not."""
        return self.footprint(deployment, workload).total_bytes(self._requested(deployment, workload))

    def footprint(self, deployment: Deployment, workload: Workload) -> Footprint:
        """Bytes per device over the requests in flight."""
        key = (deployment, workload)
        known = self._footprints.get(key)
        if known is None:
            known = self._footprints[key] = footprint(deployment, workload, self.engine)
        return known

    def running_sequences(self, deployment: Deployment, workload: Workload) -> int:
        """Requests that one replica usually runs at once: what is wanted, or what fits, half written where the engine preempts."""
        return self.running_sequences_within(self.footprint(deployment, self.average_workload(workload)), deployment, workload)

    def running_sequences_within(self, held: Footprint, deployment: Deployment, workload: Workload) -> int:
        """The same where the footprint of the usual workload is known."""
        return max(min(self._requested(deployment, workload), held.max_sequences(self._usable_bytes(held))), 1)

    def average_workload(self, workload: Workload) -> Workload:
        """The workload by whose memory requests are let in: half written where the engine preempts."""
        return _half_way(workload) if self.engine.preempts else workload

    def max_sequences(self, deployment: Deployment, workload: Workload) -> int:
        """Requests that one replica can hold at once; 0 when not even one fits."""
        held = self.footprint(deployment, workload)
        return held.max_sequences(self._usable_bytes(held))

    def _usable_bytes(self, held: Footprint) -> float:
        """Bytes of each device that the engine gives out in all."""
        if self.engine.memory_share_of == "total":
            return self.budget_bytes
        return held.fixed_bytes + self.memory_share * (self.budget_bytes - held.fixed_bytes)

    def _requested(self, deployment: Deployment, workload: Workload) -> int:
        wanted = deployment.batching.max_sequences
        if workload.load in (Load.CLOSED, Load.BURST) and workload.concurrency is not None:
            wanted = min(wanted, -(-workload.concurrency // deployment.parallel.data))
        return wanted

    def capacity(self, deployment: Deployment, workload: Workload) -> Capacity:
        """How many requests fit and run."""
        fitting = self.max_sequences(deployment, workload)
        slots = self.running_sequences(deployment, workload)
        whole = min(slots, max(fitting, 1)) if self.engine.preempts else slots  # half-written ones share what whole ones would take
        return Capacity(ledger(deployment, workload, self.engine, whole), fitting, slots)

    def simulate(self, deployment: Deployment, workload: Workload, lengths: Sequence[tuple[int, int]] | None = None) -> ServingTimes:
        """Simulate the workload."""
        return simulate(self.pricer(deployment), deployment, workload, self.rules(deployment, workload), lengths)

    def rules(self, deployment: Deployment, workload: Workload) -> SchedulerRules:
        """How the engine schedules the deployment: a finite pool of blocks where it has one, else as many slots as fit."""
        pool = self.pool(deployment, workload)
        return SchedulerRules(
            policy=deployment.batching.policy,
            max_sequences=self._requested(deployment, workload)
            if pool is not UNLIMITED_POOL
            else self.running_sequences(deployment, workload),
            token_budget=self.token_budget(deployment),
            request_s=self.machine.overheads.request_s,
            wait_steps=deployment.batching.wait_steps,
            chunked=deployment.batching.chunked,
            shared_tokens=self.shared_tokens(deployment, workload),
            block_tokens=block_tokens(deployment, self.engine),
            pool=pool,
            retention=retention_of(deployment),
        )

    def pool(self, deployment: Deployment, workload: Workload) -> SimPool:
        """The blocks that one replica has for caches; endless where slots already say how many requests fit.

        What a sequence takes is a straight line over its length between the workload's shortest and longest: exact for plain
        attention, a chord where windows fill up on the way. Its start is what states and full windows take.
        """
        held, block = self.footprint(deployment, workload), block_tokens(deployment, self.engine)
        endless = not self.engine.preempts and workload.load is not Load.TRACE
        if endless or deployment.kv.layout == KvLayout.CONTIGUOUS or self.max_sequences(deployment, workload) == 0:
            return UNLIMITED_POOL
        shortest, longest = (-(-tokens // block) for tokens in (workload.prompt_tokens, workload.longest_tokens))
        longest, shared = max(longest, shortest + 1), self.shared_tokens(deployment, workload)
        least, most = (self._cache_bytes(deployment, workload, blocks * block) for blocks in (shortest, longest))
        per_block = (most - least) / (longest - shortest)
        if per_block <= 0:
            return UNLIMITED_POOL
        running, once = self.running_sequences(deployment, workload), shared_bytes(deployment, workload, self.engine)
        each = held.sequence_bytes + once - self._cache_bytes(deployment, workload, workload.longest_tokens)
        return SimPool(
            blocks=max(self._usable_bytes(held) - held.fixed_bytes - running * each, 0.0) / per_block,
            block_tokens=block,
            fixed_blocks=max(least / per_block - shortest, 0.0) - shared // block,
            reserves=not self.engine.preempts,
        )

    def shared_tokens(self, deployment: Deployment, workload: Workload) -> int:
        """Tokens of a shared prefix that are computed and held once."""
        return shared_tokens(deployment, workload, self.engine)

    def reused_tokens(self, deployment: Deployment, workload: Workload) -> int:
        """Tokens of a usual prompt that need no prefill."""
        shared = self.shared_tokens(deployment, workload)
        return reused_tokens(shared, workload.prompt_tokens, block_tokens(deployment, self.engine)) if shared else 0

    def _cache_bytes(self, deployment: Deployment, workload: Workload, tokens: int) -> float:
        """Bytes per device of one request's cache when it holds so many tokens."""
        one = workload.model_copy(update={"prompt_tokens": tokens, "output_tokens": 0, "context_limit_tokens": None})
        held = ledger(deployment, one, self.engine, 1)
        return held.kv_bytes - held.transient_bytes

    def metrics(
        self,
        deployment: Deployment,
        workload: Workload,
        *,
        quality: QualityEffect | None = None,
        lengths: Sequence[tuple[int, int]] | None = None,
    ) -> Metrics:
        """Everything that is predicted of a deployment. `lengths` are the requests of a concrete run."""
        served = self.simulate(deployment, workload, lengths)
        metrics = self.metrics_of(deployment, workload, served, quality)
        if lengths is None or deployment.kv.layout == KvLayout.CONTIGUOUS:
            return metrics
        cache = kv_bytes_of_sequence(deployment, served.peak_cache_tokens)
        cache += self.running_sequences(deployment, workload) * recent_bytes(deployment)
        return metrics.model_copy(update={"kv_cache_gib": Value.exact(cache / GIB)})

    def ranges(self, deployment: Deployment, workload: Workload | None = None) -> Ranges:
        """How sure predictions of a deployment are."""
        return ranges_of(self.machine, deployment, workload)

    def domain(self, deployment: Deployment, workload: Workload) -> str | None:
        """A sentence when the setting is unlike what was compared with measurements: its ranges are wider."""
        return extrapolation_warning(self.machine.basis, deployment, workload)

    def requested_memory(self, deployment: Deployment, workload: Workload) -> Value:
        """GiB per device with every wanted request in flight, whether they fit or not."""
        held = ledger(deployment, workload, self.engine, self._requested(deployment, workload))
        return self.ranges(deployment, workload).memory_gib(held)

    def prefill_rate(self, deployment: Deployment, workload: Workload) -> Value:
        """Prompt tokens per second while all prompts in flight are prefilled at once, in steps of the token budget."""
        budget, prompt = self.token_budget(deployment), workload.prompt_tokens
        budget = budget if deployment.batching.chunked else max(budget, prompt)
        rate = self.pricer(deployment).prefill_rate(prompt, workload.concurrency or 1, budget)
        return self.ranges(deployment, workload).value("prefill", rate)

    def metrics_of(self, deployment: Deployment, workload: Workload, served: ServingTimes, quality: QualityEffect | None = None) -> Metrics:
        """Metrics from times that were already simulated."""
        ranges, capacity = self.ranges(deployment, workload), self.capacity(deployment, workload)
        held = capacity.ledger
        prefill_s = self.pricer(deployment).prefill_s(workload.prompt_tokens, workload.prompt_tokens)
        return Metrics(
            **serving_metrics(ranges, workload, served),
            prefill_tok_s=ranges.value("prefill", workload.prompt_tokens / prefill_s),
            peak_memory_gib=ranges.memory_gib(held),
            weights_gib=Value.exact((held.weights_bytes + held.draft_bytes) / GIB),
            kv_cache_gib=Value.exact(held.kv_bytes / GIB),
            max_concurrency=ranges.concurrency(capacity.max_sequences, self.footprint(deployment, workload)),
            acceptance=_acceptance(deployment),
            prefix_hits=None if served.prefix_hits is None else Value.exact(served.prefix_hits),
            quality_loss_pct=_quality(quality) if quality is not None else None,
        )

    def goodput(self, deployment: Deployment, workload: Workload, served: ServingTimes, limits: Limits) -> Value | None:
        """Requests per second whose own TTFT and TPOT keep the limits; `None` where neither is limited."""
        return goodput(self.ranges(deployment, workload), workload, served, limits)


def _half_way(workload: Workload) -> Workload:
    """The workload with half of its answer written: how long sequences are on average once they started at different times."""
    return workload.model_copy(update={"output_tokens": max(workload.output_tokens // 2, 1), "context_limit_tokens": None})


def _acceptance(deployment: Deployment) -> Value | None:
    """Tokens gained per draft position: the expected tokens of a step less the one that is always there."""
    decoding = deployment.decoding
    if not decoding.draft_tokens:
        return None
    shares = (decoding.acceptance, *decoding.acceptance_spread)
    value, low, high = ((expected_tokens(share, decoding.draft_tokens) - 1) / decoding.draft_tokens for share in shares)
    return Value(value=value, low=min(low, value), high=max(high, value), basis=Basis.LITERATURE)


def _quality(effect: QualityEffect) -> Value:
    if not effect.sources:
        return Value.exact(0.0)
    return Value(value=effect.loss_pct, low=effect.low_pct, high=effect.high_pct, basis=Basis.LITERATURE)
