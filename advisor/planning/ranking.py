"""Limits, frontier and preference: how likely each stack keeps the limits, which are worth a look, which comes first.

Works on columns, a number per stack, so that tens of thousands are ranked at once.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from advisor.estimate.uncertainty.probability import all_kept_each, keeps_probabilities
from advisor.planning.advice import LIKELY, Candidate, Status, Violation
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Limits, Prefer, Request
from advisor.quantities.metrics import BY_LIMIT, keeps, limit_of

if TYPE_CHECKING:  # numpy takes a tenth of a second to import; the functions that need it do
    from numpy import bool_, float64, intp
    from numpy.typing import NDArray

    Numbers = NDArray[float64]

WEIGHTS: dict[Prefer, dict[str, float]] = {
    Prefer.LATENCY: {"tpot_ms_mean": 0.65, "ttft_ms_mean": 0.3, "peak_memory_gib": 0.05},
    Prefer.THROUGHPUT: {"throughput_tok_s": -0.9, "peak_memory_gib": 0.1},
    Prefer.MEMORY: {"peak_memory_gib": 0.9, "tpot_ms_mean": 0.1},
    Prefer.BALANCED: {"tpot_ms_mean": 0.35, "ttft_ms_mean": 0.2, "throughput_tok_s": -0.3, "peak_memory_gib": 0.15},
}
"""Exponents of each metric in what is minimised."""
RISK_WEIGHT = 3.0
"""A plan that keeps the limits half as likely must be eight times better by preference to come first."""
LEAST_PROBABILITY = 1e-6
"""Below it, chances are all alike; how far a limit is missed then tells more."""
QUALITY_WEIGHT = 0.05
"""A percent of perplexity weighs as much as 5 % of speed."""
QUALITY_GUARD = 3.0
"""What a loss that nobody agreed to weighs at the most: as much as limits that are kept with a probability of 0.37."""
GUARDED_LOSS_PCT = (1.0, 5.0)
"""Where the guard begins and where it is complete."""
TECHNIQUE_WEIGHT = 0.005
"""Each technique must earn half a percent: of two equal stacks the simpler one is better."""
FINALISTS = 12
"""Stacks that are simulated: at least so many, and all that the closed form cannot tell from the first."""
MOST_FINALISTS = 20
CLOSED_FORM_ERROR = 0.05
"""How far the closed form moves what is minimised, half of the time."""
SAME_RANK_TOLERANCE = 0.02
"""Stacks whose closed forms all agree within 2 % stand for one another."""
FRONTIER_TOLERANCE = 1.03
"""Plans within 3 % of each other are one point of the frontier."""
MEMORY = "memory_gib_per_device"
OBJECTIVES = {"tpot_ms_mean": 1, "ttft_ms_mean": 1, "peak_memory_gib": 1, "throughput_tok_s": -1}
"""Each with 1 where less is better, -1 where more is."""
_FARTHEST = math.log(1e6)


@dataclass(frozen=True, slots=True)
class MetricColumn:
    """One metric of many stacks with its ranges; `nan` where a stack has none."""

    low: "Numbers"
    value: "Numbers"
    high: "Numbers"


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """What is known of many stacks, by metric."""

    count: int
    techniques: "Numbers"
    """How many each one has."""
    metrics: dict[str, MetricColumn]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """How many stacks stand against the limits of one request."""

    probabilities: dict[str, "Numbers"]
    probability: "Numbers"
    missed: dict[str, "NDArray[bool_]"]
    violation: "Numbers"
    """Sum of the logarithms of what is missed by."""
    cost: "Numbers"
    """What is minimised among those that miss nothing."""

    @property
    def infeasible(self) -> "NDArray[bool_]":
        """Whether some limit is missed."""
        return self.violation > 0

    def misses_only(self, limit: str) -> int | None:
        """The stack that misses this limit and no other, and by least."""
        # Deferred: see above.
        import numpy as np

        others = [missed for name, missed in self.missed.items() if name != limit]
        only = self.missed[limit] & ~np.logical_or.reduce(others) if others else self.missed[limit]
        return int(np.where(only, self.violation, np.inf).argmin()) if only.any() else None

    @property
    def order(self) -> "NDArray[intp]":
        """Best first: what misses nothing by cost, then what misses least."""
        # Deferred: see above.
        import numpy as np

        return np.lexsort((self.cost, self.violation))


def evaluate(columns: Columns, request: Request, budget_gib: float) -> Verdicts:
    """Hold every stack against the limits, of which the memory that there is always is one."""
    # Deferred: see above.
    import numpy as np

    chances, missed, distance = {}, {}, np.zeros(columns.count)
    for limit, asked in bounds(request.limits, budget_gib).items():
        shown = BY_LIMIT[limit]
        column = columns.metrics.get(shown.name)
        if column is None:
            continue
        known = ~np.isnan(column.value)
        chance = keeps_probabilities(column.low, column.value, column.high, asked, higher_is_better=shown.higher_is_better)
        chances[limit] = np.where(known, chance, 1.0)
        off = asked - column.value if shown.higher_is_better else column.value - asked
        missed[limit] = known & (off > 0)
        distance += np.where(missed[limit], _missed_by(column.value, asked), 0.0)
    probability = all_kept_each(chances, columns.count)
    return Verdicts(chances, probability, missed, distance, objective(columns, probability, request))


def representatives(columns: Columns, ordered: "NDArray[intp]", costs: "Numbers | None") -> list[int]:
    """The first places of an order, of stacks that are alike only the first; more where `costs` in that order lie close together."""
    # Deferred: see above.
    import numpy as np

    near = ordered[: 50 * MOST_FINALISTS]
    logs = [np.log(np.maximum(column.value[near], 1e-9)) / SAME_RANK_TOLERANCE for column in columns.metrics.values()]
    seen: dict[tuple[float, ...], int] = {}
    for place, (key, stack) in enumerate(zip(map(tuple, np.round(np.array(logs).T)), near, strict=True)):
        close = costs is not None and costs[place] < costs[0] + CLOSED_FORM_ERROR
        if len(seen) >= (MOST_FINALISTS if close else FINALISTS):
            break
        seen.setdefault(key, int(stack))
    return list(seen.values())


def bounds(limits: Limits, budget_gib: float) -> dict[str, float]:
    """Every limit that holds, by field name."""
    asked = {limit: bound for limit, shown in BY_LIMIT.items() if (bound := limit_of(shown, limits)) is not None}
    return asked | {MEMORY: budget_gib}


def objective(columns: Columns, probability: "Numbers", request: Request) -> "Numbers":
    """What is minimised: the logarithm of a weighted product of metrics; quality, risk and complication added."""
    # Deferred: see above.
    import numpy as np

    total: Numbers = TECHNIQUE_WEIGHT * columns.techniques - RISK_WEIGHT * np.log(np.maximum(probability, LEAST_PROBABILITY))
    for metric, weight in WEIGHTS[request.prefer].items():
        if metric in columns.metrics:
            total = total + weight * np.nan_to_num(np.log(np.maximum(columns.metrics[metric].value, 1e-9)))
    if "quality_loss_pct" in columns.metrics:
        loss = np.nan_to_num(columns.metrics["quality_loss_pct"].value)
        total = total + QUALITY_WEIGHT * loss
        if request.limits.quality_loss_pct is None:
            first, last = GUARDED_LOSS_PCT
            total = total + QUALITY_GUARD * np.clip((loss - first) / (last - first), 0.0, 1.0)
    return total


def _missed_by(value: "Numbers", asked: float) -> "Numbers":
    # Deferred: see above.
    import numpy as np

    with np.errstate(divide="ignore", invalid="ignore"):
        ratio: Numbers = np.abs(np.log(value) - (math.log(asked) if asked > 0 else -math.inf))
    return np.clip(np.nan_to_num(ratio, nan=_FARTHEST, posinf=_FARTHEST), 1e-12, _FARTHEST)


def misses(metrics: Metrics, limits: Limits, budget_gib: float) -> tuple[Violation, ...]:
    """Every limit that the predicted value does not keep."""
    found = []
    for limit, asked in bounds(limits, budget_gib).items():
        shown = BY_LIMIT[limit]
        value = getattr(metrics, shown.name)
        if value is not None and not keeps(shown, value.value, asked):
            found.append(Violation(limit, asked, value))
    return tuple(found)


def status(probability: float, missed: Sequence[Violation]) -> Status:
    """In a word, how the limits are kept."""
    if missed:
        return Status.INFEASIBLE
    return Status.MEETS if probability >= LIKELY else Status.AT_RISK


def columns_of(metrics: Sequence[Metrics], techniques: Sequence[int]) -> Columns:
    """The columns of stacks whose metrics are known one by one."""
    # Deferred: see above.
    import numpy as np

    found = {}
    for name in {shown.name for shown in BY_LIMIT.values()} | {name for weights in WEIGHTS.values() for name in weights}:
        values: list[Value | None] = [getattr(known, name) for known in metrics]
        if any(value is not None for value in values):
            ends = ([getattr(value, end) if value else math.nan for value in values] for end in ("low", "value", "high"))
            found[name] = MetricColumn(*(np.array(numbers) for numbers in ends))
    return Columns(count=len(metrics), techniques=np.array(techniques, float), metrics=found)


def order(candidates: Sequence[Candidate], request: Request, budget_gib: float) -> list[Candidate]:
    """Best first."""
    columns = columns_of([c.metrics for c in candidates], [len(c.techniques) for c in candidates])
    return [candidates[place] for place in evaluate(columns, request, budget_gib).order]


def frontier(ordered: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that no earlier one beats or equals, within a few percent, in every objective."""
    kept: list[Candidate] = []
    for candidate in ordered:
        if not any(_dominates(other, candidate) for other in kept):
            kept.append(candidate)
    return kept


def _dominates(one: Candidate, other: Candidate) -> bool:
    for metric, sign in OBJECTIVES.items():
        mine, theirs = getattr(one.metrics, metric), getattr(other.metrics, metric)
        if mine is None or theirs is None:
            continue
        ratio = (mine.value / theirs.value) ** sign if theirs.value > 0 and mine.value > 0 else 1.0
        if ratio > FRONTIER_TOLERANCE:
            return False
    return _quality(one) <= _quality(other) + 0.1


def _quality(candidate: Candidate) -> float:
    loss = candidate.metrics.quality_loss_pct
    return loss.value if loss is not None else 0.0
