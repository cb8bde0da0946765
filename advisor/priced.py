"""Every stack of a search with its closed-form metrics, in columns. Stacks that differ in nothing that a price rests on share it."""

import gc
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from advisor.backends.deployment import Deployment
from advisor.backends.technique import QualityEffect
from advisor.estimate.closed_form import Steady, steady_state
from advisor.estimate.estimator import Estimator
from advisor.estimate.memory import GIB
from advisor.estimate.steps import StepPricer
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.request import Workload
from advisor.ranking import Column, Columns
from advisor.search import Stack

if TYPE_CHECKING:
    from collections.abc import Callable

    from advisor.ranking import Numbers

RANGES = ("ttft", "tpot", "throughput", "memory")
"""Names of `ranges.csv`, in the order of the factors below."""
Factors = tuple[tuple[float, float], ...]


@dataclass(frozen=True, slots=True)
class Priced:
    """Stacks and their columns, in the same order."""

    stacks: tuple[Stack, ...]
    columns: Columns
    closed_forms: int
    """Closed forms computed for them: fewer than stacks, as those that a price cannot tell apart share it."""

    def metrics(self, place: int) -> Metrics:
        """What is known of one stack without a simulation."""
        found = {}
        for name, column in self.columns.metrics.items():
            low, value, high = (float(numbers[place]) for numbers in (column.low, column.value, column.high))
            basis = Basis.LITERATURE if name == "quality_loss_pct" else Basis.DATASHEET
            found[name] = Value.model_construct(value=value, low=low, high=high, basis=basis)
        return Metrics.model_construct(None, **found)


@dataclass(slots=True)
class Pricing:
    """Prices stacks of one workload. What was already asked is remembered."""

    estimator: Estimator
    workload: Workload
    quality: "Callable[[Stack], QualityEffect]"
    _groups: dict[object, "_Group"] = field(default_factory=dict)
    _held: dict[object, dict[tuple[int, int], "_Held"]] = field(default_factory=dict)
    _factors: dict[object, Factors] = field(default_factory=dict)
    _closed_forms: int = 0

    def price(self, stacks: Iterable[Stack]) -> Priced:
        """Price every stack."""
        with _no_collection():
            return self._all(tuple(stacks))

    def _all(self, priced: tuple[Stack, ...]) -> Priced:
        rows: list[_Row] = []
        before: Deployment | None = None
        for stack in priced:
            deployment = stack.deployment
            if before is None or not _alike(before, deployment):
                group, held, factors = self._group(deployment), self._held_by(deployment), self._ranges(deployment)
            before = deployment
            memory = self._memory(held, deployment)
            rows.append((self._steady(group, deployment, memory.slots), memory, factors, self.quality(stack), len(stack.techniques)))
        return Priced(priced, _columns(rows, self.workload), self._closed_forms)

    def _group(self, deployment: Deployment) -> "_Group":
        """Steps cost the same whatever the size of a block."""
        kv = deployment.kv
        key = (deployment.weights, deployment.attention, kv.layout, kv.format, deployment.decoding, deployment.parallel)
        if key not in self._groups:
            self._groups[key] = _Group(self.estimator.pricer(deployment))
        return self._groups[key]

    def _ranges(self, deployment: Deployment) -> Factors:
        """How sure predictions are rests on the weights, the decoding and the devices."""
        key = (deployment.weights, deployment.decoding, deployment.parallel)
        if key not in self._factors:
            self._factors[key] = tuple(self.estimator.range_factors(metric, deployment, self.workload) for metric in RANGES)
        return self._factors[key]

    def _held_by(self, deployment: Deployment) -> dict[tuple[int, int], "_Held"]:
        return self._held.setdefault((deployment.weights, deployment.kv, deployment.decoding, deployment.parallel), {})

    def _memory(self, held: dict[tuple[int, int], "_Held"], deployment: Deployment) -> "_Held":
        """Only prompts up to the token budget are in flight, or all of a trial step's: longer budgets hold the same."""
        batching, engine = deployment.batching, self.estimator.engine
        budget = batching.token_budget or engine.token_budget
        key = (batching.max_sequences, budget if engine.trial is not None else min(budget, self.workload.prompt_tokens))
        known = held.get(key)
        if known is None:
            shape, wanted = self.estimator.footprint(deployment, self.workload), batching.max_sequences
            slots = self.estimator.slots(deployment, self.workload)
            known = held[key] = _Held(slots, shape.total_bytes(wanted) / GIB, shape.rest_bytes(wanted) / GIB)
        return known

    def _steady(self, group: "_Group", deployment: Deployment, slots: int) -> Steady:
        """A budget that holds the prompts of all slots at once is as good as any larger one."""
        batching = deployment.batching
        whole = slots * (self.workload.prompt_tokens + deployment.decoding.draft_tokens + 1)
        budget = min(batching.token_budget or self.estimator.engine.token_budget, whole)
        key = (batching.policy, slots, budget)
        known = group.steady.get(key)
        if known is None:
            self._closed_forms += 1
            request_s = self.estimator.machine.overheads.request_s
            known = steady_state(group.pricer, deployment, self.workload, slots=slots, token_budget=budget, request_s=request_s)
            group.steady[key] = known
        return known


@dataclass(frozen=True, slots=True)
class _Held:
    """Requests that run at once, and GiB of each device with all that are wanted: the total, and what of it is not exact."""

    slots: int
    gib: float
    rest_gib: float


@dataclass(frozen=True, slots=True)
class _Group:
    """Deployments whose steps cost the same."""

    pricer: StepPricer
    steady: dict[tuple[str, int, int], Steady] = field(default_factory=dict)


_Row = tuple[Steady, _Held, Factors, QualityEffect, int]
"""What is known of a stack; the last is how many techniques it has."""


@contextmanager
def _no_collection() -> Iterator[None]:
    """Keep the collector from walking all that is built here again and again: nothing of it is garbage."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def _alike(one: Deployment, other: Deployment) -> bool:
    """Whether both are the same but for their batching: neighbours in a search share what they did not choose themselves."""
    return (
        one.decoding is other.decoding
        and one.kv is other.kv
        and one.weights is other.weights
        and one.attention is other.attention
        and one.parallel is other.parallel
    )


def _columns(rows: list[_Row], workload: Workload) -> Columns:
    # Deferred: numpy takes a tenth of a second to import.
    import numpy as np

    times = np.array(
        [(one.ttft_ms_p95, one.tpot_ms, one.tpot_ms_p95, one.throughput_tok_s, one.capacity_tok_s) for one, *_ in rows]
    ).reshape(-1, 5)
    memory = np.array([(held.gib, held.rest_gib) for _, held, *_ in rows]).reshape(-1, 2)
    spread = np.array([factors for _, _, factors, *_ in rows]).reshape(-1, len(RANGES), 2)  # [stacks, ranges, 2]
    loss = np.array([(effect.low_pct, effect.loss_pct, effect.high_pct) for *_, effect, _ in rows]).reshape(-1, 3)

    def ranged(numbers: "Numbers", which: int) -> Column:
        return Column(numbers * spread[:, which, 0], numbers, numbers * spread[:, which, 1])

    ttft, tpot, tpot_p95, throughput = (ranged(times[:, place], which) for place, which in enumerate((0, 1, 1, 2)))
    below, above = 1 / spread[:, 3, 0] - 1, spread[:, 3, 1] - 1
    total, rest = memory[:, 0], memory[:, 1]
    found = {
        "ttft_ms_mean": ttft,
        "ttft_ms_p95": ttft,
        "tpot_ms_mean": tpot,
        "tpot_ms_p95": tpot_p95,
        "throughput_tok_s": throughput,
        "request_rate_per_s": ranged(times[:, 4] / workload.output_tokens, 2),
        "peak_memory_gib": Column(np.maximum(total - below * rest, 0.0), total, total + above * rest),
        "quality_loss_pct": Column(loss[:, 0], loss[:, 1], loss[:, 2]),
    }
    return Columns(count=len(rows), techniques=np.array([count for *_, count in rows], float), metrics=found)
