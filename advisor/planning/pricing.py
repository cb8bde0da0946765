"""Every stack of a search with its closed-form metrics, in columns. Stacks that differ in nothing that a price rests on share it."""

import gc
from collections.abc import Hashable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

from advisor.backends.deployment import Batching, BatchPolicy, Deployment
from advisor.backends.technique import QualityEffect
from advisor.estimate.cancellation import checkpoint
from advisor.estimate.estimator import Estimator
from advisor.estimate.memory.ledger import footprint
from advisor.estimate.serving.closed_form import SteadyStates, steady_state
from advisor.estimate.steps.batched import Family
from advisor.estimate.steps.pricer import StepPricer
from advisor.planning.ranking import Columns, MetricColumn
from advisor.planning.search import Stack
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Basis, Metrics, Value
from advisor.profiles.request import Workload

if TYPE_CHECKING:
    from collections.abc import Callable

    from advisor.estimate.steps.batched import Places
    from advisor.planning.ranking import Numbers

Kept = TypeVar("Kept", bound=Hashable)
RANGES = ("ttft", "tpot", "throughput", "memory")
"""Names of `ranges.csv`, in the order of the factors below."""
KIND = 0.03
"""Stacks whose numbers all lie in the same step of 3 % are of one kind."""
STATIC, WHOLE, CHUNKED = range(3)
TIMES = tuple(time.name for time in fields(SteadyStates))


@dataclass(frozen=True)
class PricedStacks:
    """Stacks and their columns, in the same order."""

    stacks: tuple[Stack, ...]
    columns: Columns
    closed_forms: int
    """Closed forms computed for them: fewer than stacks, as those that a price cannot tell apart share it."""

    @cached_property
    def kinds(self) -> "Places":
        """The same number for stacks whose numbers all lie in the same step of `KIND`."""
        # Deferred: numpy takes a tenth of a second to import.
        import numpy as np

        logs = [np.log(np.maximum(np.nan_to_num(column.value), 1e-9)) / KIND for column in self.columns.metrics.values()]
        found: Places = np.unique(np.round(np.array(logs)), axis=1, return_inverse=True)[1].reshape(-1)
        return found

    @cached_property
    def rows(self) -> dict[int, tuple[str, Metrics]]:
        """Id and metrics of the stacks that were shown, by place: limits change nothing of them."""
        return {}

    def metrics(self, place: int) -> Metrics:
        """What is known of one stack without a simulation."""
        found = {}
        for name, column in self.columns.metrics.items():
            low, value, high = (float(numbers[place]) for numbers in (column.low, column.value, column.high))
            basis = Basis.LITERATURE if name == "quality_loss_pct" else Basis.DATASHEET
            found[name] = Value.model_construct(value=value, low=low, high=high, basis=basis)
        return Metrics.model_construct(None, **found)


@dataclass(frozen=True, slots=True)
class StackPricer:
    """Prices stacks of one workload: numbers what they rest on, prices every distinct one once, and spreads the prices."""

    estimator: Estimator
    workload: Workload
    quality: "Callable[[Stack], QualityEffect]"

    def price(self, stacks: Iterable[Stack]) -> PricedStacks:
        """Price every stack."""
        with _no_collection():
            return self._all(tuple(stacks))

    def _all(self, stacks: tuple[Stack, ...]) -> PricedStacks:
        # Deferred: numpy takes a tenth of a second to import.
        import numpy as np

        search = _group_ids([stack.deployment for stack in stacks], self.estimator)
        memory = self._memory(search)
        times, closed_forms = self._times(search, memory[:, 0].astype(int))
        effects, losses = _unique_values([self.quality(stack) for stack in stacks])
        loss = np.array([(effect.low_pct, effect.loss_pct, effect.high_pct) for effect in effects]).reshape(-1, 3)[losses]
        counts = np.array([len(stack.techniques) for stack in stacks], float)
        metrics = self._metrics(times, memory, self._factors(search), loss)
        columns = Columns(count=len(stacks), techniques=counts, metrics=metrics)
        return PricedStacks(stacks, columns, closed_forms)

    def _memory(self, search: "_GroupIds") -> "Numbers":
        """Requests that run at once, and GiB of each device with all that are wanted: the total, what of it is not exact, and weights.

        Only prompts up to the token budget are in flight, or all of a trial step's: longer budgets hold the same.
        """
        # Deferred: see above.
        import numpy as np

        budgets = np.where(search.policies == WHOLE, np.maximum(search.budgets, self.workload.longest_tokens), search.budgets)
        in_step = budgets if self.estimator.engine.trial is not None else np.minimum(budgets, self.workload.prompt_tokens)
        first, which = _unique_rows(search.memory_group, search.sequences, in_step)
        usual = self.estimator.average_workload(self.workload)
        held = [self._held(search.deployments[place], usual) for place in first]
        return np.array(held).reshape(-1, 4)[which]

    def _held(self, deployment: Deployment, usual: Workload) -> tuple[float, float, float, float]:
        engine, wanted = self.estimator.engine, deployment.batching.max_sequences
        held = footprint(deployment, self.workload, engine)
        usually = held if usual is self.workload else footprint(deployment, usual, engine)
        slots = self.estimator.running_sequences_within(usually, deployment, self.workload)
        return slots, held.total_bytes(wanted) / GIB, held.rest_bytes(wanted) / GIB, held.weights_bytes / GIB

    def _times(self, search: "_GroupIds", slots: "Places") -> "tuple[Numbers, int]":
        """Closed forms by row of `TIMES`, and how many there were to compute.

        A budget that holds the prompts of all slots at once is as good as any larger one.
        """
        # Deferred: see above.
        import numpy as np

        budgets = np.minimum(search.budgets, slots * (self.workload.prompt_tokens + search.positions))
        reused = self._reused(search)
        first, which = _unique_rows(search.groups, search.policies, slots, budgets, reused)
        pricers = [self.estimator.pricer(search.deployments[place]) for place in np.unique(search.groups, return_index=True)[1]]
        calls, call_of = _unique_rows(search.families[first], search.policies[first], slots[first], budgets[first], reused[first])
        found, families = np.empty((len(TIMES), len(first))), _Families(pricers)
        for call, place in enumerate(first[calls]):
            checkpoint()
            members = np.flatnonzero(call_of == call)
            steadies = steady_state(
                families.of(search.groups[first[members]]),
                self.workload,
                policy=search.deployments[place].batching.policy,
                slots=int(slots[place]),
                token_budget=int(budgets[place]),
                chunked=search.deployments[place].batching.chunked,
                reused=int(reused[place]),
            )
            found[:, members] = [getattr(steadies, name) for name in TIMES]
        return found[:, which], len(first)

    def _reused(self, search: "_GroupIds") -> "Places":
        """Tokens of a prompt that are in the cache when it comes."""
        # Deferred: see above.
        import numpy as np

        if self.workload.shared_prefix_tokens is None:
            return np.zeros(len(search.deployments), int)
        first, which = _unique_rows(search.memory_group)
        each = [self.estimator.reused_tokens(search.deployments[place], self.workload) for place in first]
        found: Places = np.array(each, int)[which]
        return found

    def _factors(self, search: "_GroupIds") -> "Numbers":
        """How sure predictions are rests on the weights, the decoding and the devices: [stacks, ranges, 2]."""
        # Deferred: see above.
        import numpy as np

        first, which = _unique_rows(search.uncertainty_group)
        ranges = [self.estimator.ranges(search.deployments[place], self.workload) for place in first]
        factors = [[known.factors(metric) for metric in RANGES] for known in ranges]
        return np.array(factors).reshape(-1, len(RANGES), 2)[which]

    def _metrics(self, times: "Numbers", memory: "Numbers", spread: "Numbers", loss: "Numbers") -> dict[str, MetricColumn]:
        # Deferred: see above.
        import numpy as np

        def ranged(numbers: "Numbers", metric: str) -> MetricColumn:
            low, high = spread[:, RANGES.index(metric)].T
            return MetricColumn(numbers * low, numbers, numbers * high)

        ttft, tpot, tpot_p95, throughput, capacity = times
        below, above = 1 / spread[:, 3, 0] - 1, spread[:, 3, 1] - 1
        total, rest, weights = memory[:, 1:].T
        first_token = ranged(ttft, "ttft")
        return {
            "ttft_ms_mean": first_token,
            "ttft_ms_p95": first_token,
            "tpot_ms_mean": ranged(tpot, "tpot"),
            "tpot_ms_p95": ranged(tpot_p95, "tpot"),
            "throughput_tok_s": ranged(throughput, "throughput"),
            "request_rate_per_s": ranged(capacity / self.workload.output_tokens, "throughput"),
            "peak_memory_gib": MetricColumn(np.maximum(total - below * rest, np.minimum(weights, total)), total, total + above * rest),
            "quality_loss_pct": MetricColumn(loss[:, 0], loss[:, 1], loss[:, 2]),
        }


@dataclass(frozen=True, slots=True)
class _Families:
    """Families of groups, each made once: their steps are remembered."""

    pricers: Sequence[StepPricer]
    """By group."""
    _known: dict[bytes, Family] = field(default_factory=dict)

    def of(self, groups: "Places") -> Family:
        key = groups.tobytes()
        if key not in self._known:
            self._known[key] = Family([self.pricers[group] for group in groups])
        return self._known[key]


@dataclass(frozen=True, slots=True, kw_only=True)
class _GroupIds:
    """Deployments of a search, and for each what its prices rest on: equal numbers where that is equal."""

    deployments: Sequence[Deployment]
    groups: "Places"
    """Steps cost the same, whatever the batching and the size of a block."""
    families: "Places"
    """Groups that decode and are spread over devices alike."""
    memory_group: "Places"
    """Memory is the same but for the batching."""
    uncertainty_group: "Places"
    positions: "Places"
    """Positions of a sequence in a decoding step."""
    policies: "Places"
    """Static, continuous with whole prompts, or with chunks of them."""
    sequences: "Places"
    budgets: "Places"


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


def _group_ids(deployments: Sequence[Deployment], estimator: Estimator) -> _GroupIds:
    # Deferred: see above.
    import numpy as np

    stems, stem_of = _batching_groups(deployments)
    numbers = [_unique_values(parts)[1] for parts in zip(*(_parts(stem, estimator) for stem in stems), strict=True)]
    weights, attention, layout, decoding, parallel, kv = numbers or [np.empty(0, int)] * 6
    batchings = [
        (_policy(one), one.max_sequences, one.token_budget or estimator.engine.token_budget) for one in (d.batching for d in deployments)
    ]
    known, batching_of = _unique_values(batchings)
    policies, sequences, budgets = np.array(known, int).reshape(-1, 3)[batching_of].T
    return _GroupIds(
        deployments=deployments,
        groups=_unique_rows(weights, attention, layout, decoding, parallel)[1][stem_of],
        families=_unique_rows(decoding, parallel)[1][stem_of],
        memory_group=_unique_rows(weights, kv, decoding, parallel)[1][stem_of],
        uncertainty_group=_unique_rows(weights, decoding, parallel)[1][stem_of],
        positions=np.array([stem.decoding.draft_tokens + 1 for stem in stems], int)[stem_of],
        policies=policies,
        sequences=sequences,
        budgets=budgets,
    )


def _policy(batching: Batching) -> int:
    if batching.policy != BatchPolicy.CONTINUOUS:
        return STATIC
    return CHUNKED if batching.chunked else WHOLE


def _parts(deployment: Deployment, estimator: Estimator) -> tuple[Hashable, ...]:
    kv = deployment.kv
    read = (kv.layout, kv.format, kv.window, kv.sink_tokens)
    return deployment.weights, estimator.priced_attention(deployment), read, deployment.decoding, deployment.parallel, kv


def _batching_groups(deployments: Sequence[Deployment]) -> "tuple[list[Deployment], Places]":
    """One of each run of neighbours that are the same but for their batching, and the run of each.

    Neighbours in a search share what they did not choose themselves.
    """
    # Deferred: see above.
    import numpy as np

    stems: list[Deployment] = []
    runs = []
    for one in deployments:
        if not stems or not _differ_only_in_batching(stems[-1], one):
            stems.append(one)
        runs.append(len(stems) - 1)
    return stems, np.array(runs, int)


def _differ_only_in_batching(one: Deployment, other: Deployment) -> bool:
    """Whether both are the same but for their batching."""
    return (
        one.decoding is other.decoding
        and one.kv is other.kv
        and one.weights is other.weights
        and one.attention is other.attention
        and one.parallel is other.parallel
    )


def _unique_values(values: "Iterable[Kept]") -> "tuple[list[Kept], Places]":
    """The distinct values in order of appearance, and the place of each among them."""
    # Deferred: see above.
    import numpy as np

    known: dict[Kept, int] = {}
    places = [known.setdefault(value, len(known)) for value in values]
    return list(known), np.array(places, int)


def _unique_rows(*columns: "Places") -> "tuple[Places, Places]":
    """Where each distinct row of the columns comes first, and which of them each row is."""
    # Deferred: see above.
    import numpy as np

    keys = columns[0]
    for column in columns[1:]:
        keys = keys * (column.max(initial=0) + 1) + column
    _, first, which = np.unique(keys, return_index=True, return_inverse=True)
    return first, which
