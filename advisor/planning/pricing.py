"""Metrics of every stack of a search in closed form, as columns: what `ranking` ranks before finalists are simulated."""

import gc
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property

import numpy as np

from advisor.backends.deployment import Deployment
from advisor.backends.technique import QualityEffect
from advisor.estimate.arrays import Indices, Numbers
from advisor.estimate.cancellation import checkpoint
from advisor.estimate.estimator import Estimator
from advisor.estimate.memory.ledger import footprint
from advisor.estimate.serving.closed_form import SteadyStates, steady_state
from advisor.estimate.steps.batched import Family
from advisor.estimate.steps.pricer import StepPricer
from advisor.planning.price_groups import CHUNKED, WHOLE, PriceGroups, price_groups, unique_rows, unique_values
from advisor.planning.ranking import Columns, MetricColumn
from advisor.planning.search import Stack
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.request import Workload

RANGE_METRICS = ("ttft", "tpot", "throughput", "memory")
"""Metrics of `ranges.csv`, in the order of the second axis of `StackPricer._factors`."""
SIMILARITY_STEP = 0.03
"""Stacks are similar where every metric, rounded to steps of 3 %, is equal."""
TIMES = tuple(time.name for time in fields(SteadyStates))


@dataclass(frozen=True)
class PricedStacks:
    """Stacks and their columns, in the same order."""

    stacks: tuple[Stack, ...]
    columns: Columns
    closed_forms: int
    """Closed forms that were computed: fewer than stacks, as stacks whose prices are equal share one."""

    @cached_property
    def similarity_groups(self) -> Indices:
        """A number for each stack: equal where every metric, rounded to steps of `SIMILARITY_STEP`, is equal."""
        logs = [np.log(np.maximum(np.nan_to_num(column.value), 1e-9)) / SIMILARITY_STEP for column in self.columns.metrics.values()]
        groups: Indices = np.unique(np.round(np.array(logs)), axis=1, return_inverse=True)[1].reshape(-1)
        return groups

    @cached_property
    def rows(self) -> dict[int, tuple[str, Metrics]]:
        """Cache of candidate id and metrics by index of a stack: they do not depend on limits."""
        return {}

    def metrics(self, index: int) -> Metrics:
        """Metrics of one stack in closed form."""
        values = {}
        for name, column in self.columns.metrics.items():
            low, value, high = (float(numbers[index]) for numbers in (column.low, column.value, column.high))
            basis = Basis.LITERATURE if name == "quality_loss_pct" else Basis.DATASHEET
            values[name] = Value.model_construct(value=value, low=low, high=high, basis=basis)
        return Metrics.model_construct(None, **values)


@dataclass(frozen=True, slots=True)
class StackPricer:
    """Prices the stacks of one workload."""

    estimator: Estimator
    workload: Workload
    quality: Callable[[Stack], QualityEffect]

    def price(self, stacks: Iterable[Stack]) -> PricedStacks:
        """Price every stack."""
        with _garbage_collection_paused():
            return self._price(tuple(stacks))

    def _price(self, stacks: tuple[Stack, ...]) -> PricedStacks:
        groups = price_groups([stack.deployment for stack in stacks], self.estimator)
        memory = self._memory(groups)
        times, closed_forms = self._times(groups, memory[:, 0].astype(int))
        effects, effect_of = unique_values([self.quality(stack) for stack in stacks])
        loss = np.array([(effect.low_pct, effect.loss_pct, effect.high_pct) for effect in effects]).reshape(-1, 3)[effect_of]
        techniques = np.array([len(stack.techniques) for stack in stacks], float)
        metrics = self._metrics(times, memory, self._factors(groups), loss)
        return PricedStacks(stacks, Columns(count=len(stacks), techniques=techniques, metrics=metrics), closed_forms)

    def _memory(self, groups: PriceGroups) -> Numbers:
        """Sequences that run at once, then GiB of a device with all requested ones: total, inexact part, weights, and how much less
        and more the weights may be padded. [stacks, 6]

        Activations grow with the token budget up to the prompt, or without end where the engine reserves memory by a trial step.
        """
        budgets = np.where(groups.policies == WHOLE, np.maximum(groups.budgets, self.workload.longest_tokens), groups.budgets)
        in_step = budgets if self.estimator.engine.trial is not None else np.minimum(budgets, self.workload.prompt_tokens)
        whole_prompts = groups.evicts * (groups.policies != CHUNKED)
        first, inverse = unique_rows(groups.memory_group, groups.sequences, in_step, whole_prompts)
        average = self.estimator.memory.average_workload(self.workload)
        memory = [self._memory_of(groups.deployments[index], average) for index in first]
        return np.array(memory).reshape(-1, 6)[inverse]

    def _memory_of(self, deployment: Deployment, average: Workload) -> tuple[float, ...]:
        engine, requested = self.estimator.engine, deployment.batching.max_sequences
        longest = footprint(deployment, self.workload, engine)
        usual = longest if average is self.workload else footprint(deployment, average, engine)
        running = self.estimator.memory.running_sequences_within(usual, deployment, self.workload)
        sizes = (longest.total_bytes(requested), longest.inexact_bytes(requested), longest.weights_bytes, *longest.padding_bytes)
        return running, *(size / GIB for size in sizes)

    def _times(self, groups: PriceGroups, slots: Indices) -> tuple[Numbers, int]:
        """Closed forms, [times, stacks] in the order of `TIMES`, and how many were computed.

        A token budget above what all slots can put into one step makes no difference.
        """
        budgets = np.minimum(groups.budgets, slots * (self.workload.prompt_tokens + groups.positions))
        reused = self._reused(groups)
        first, inverse = unique_rows(groups.step_group, groups.policies, slots, budgets, reused)
        pricers = [self.estimator.pricer(groups.deployments[index]) for index in np.unique(groups.step_group, return_index=True)[1]]
        calls, call_of = unique_rows(groups.family_group[first], groups.policies[first], slots[first], budgets[first], reused[first])
        times, families = np.empty((len(TIMES), len(first))), _Families(pricers)
        for call, index in enumerate(first[calls]):
            checkpoint()
            members = np.flatnonzero(call_of == call)
            states = steady_state(
                families.of(groups.step_group[first[members]]),
                self.workload,
                policy=groups.deployments[index].batching.policy,
                slots=int(slots[index]),
                token_budget=int(budgets[index]),
                chunked=groups.deployments[index].batching.chunked,
                reused=int(reused[index]),
            )
            times[:, members] = [getattr(states, name) for name in TIMES]
        return times[:, inverse], len(first)

    def _reused(self, groups: PriceGroups) -> Indices:
        """Tokens of a prompt that prefix caching finds in the cache. [stacks]"""
        if self.workload.shared_prefix_tokens is None:
            return np.zeros(len(groups.deployments), int)
        first, inverse = unique_rows(groups.memory_group)
        reused: Indices = np.array([self.estimator.memory.reused_tokens(groups.deployments[index], self.workload) for index in first], int)
        return reused[inverse]

    def _factors(self, groups: PriceGroups) -> Numbers:
        """Factors below and above a value, [stacks, metrics, 2] in the order of `RANGE_METRICS`."""
        first, inverse = unique_rows(groups.uncertainty_group)
        ranges = [self.estimator.ranges(groups.deployments[index]) for index in first]
        factors = [[of_group.factors(metric) for metric in RANGE_METRICS] for of_group in ranges]
        return np.array(factors).reshape(-1, len(RANGE_METRICS), 2)[inverse]

    def _metrics(self, times: Numbers, memory: Numbers, factors: Numbers, loss: Numbers) -> dict[str, MetricColumn]:
        def ranged(numbers: Numbers, metric: str) -> MetricColumn:
            low, high = factors[:, RANGE_METRICS.index(metric)].T
            return MetricColumn(numbers * low, numbers, numbers * high)

        ttft, tpot, tpot_p95, throughput, capacity = times
        below, above = 1 / factors[:, 3, 0] - 1, factors[:, 3, 1] - 1
        total, rest, weights, less, more = memory[:, 1:].T
        least = np.maximum(total - below * rest, np.minimum(weights, total)) - less
        first_token = ranged(ttft, "ttft")
        return {
            "ttft_ms_mean": first_token,
            "ttft_ms_p95": first_token,
            "tpot_ms_mean": ranged(tpot, "tpot"),
            "tpot_ms_p95": ranged(tpot_p95, "tpot"),
            "throughput_tok_s": ranged(throughput, "throughput"),
            "request_rate_per_s": ranged(capacity / self.workload.output_tokens, "throughput"),
            "peak_memory_gib": MetricColumn(least, total, total + above * rest + more),
            "quality_loss_pct": MetricColumn(loss[:, 0], loss[:, 1], loss[:, 2]),
        }


@dataclass(frozen=True, slots=True)
class _Families:
    """Families by their step groups, each built once, as a family caches the steps it has priced."""

    pricers: Sequence[StepPricer]
    """By step group."""
    _cached: dict[bytes, Family] = field(default_factory=dict)

    def of(self, groups: Indices) -> Family:
        key = groups.tobytes()
        if key not in self._cached:
            self._cached[key] = Family([self.pricers[group] for group in groups])
        return self._cached[key]


@contextmanager
def _garbage_collection_paused() -> Iterator[None]:
    """Context without garbage collection, which would traverse hundreds of thousands of new objects that are all in use."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()
