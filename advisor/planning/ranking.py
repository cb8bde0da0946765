"""Rank stacks against the limits and the preference of one request, in columns: an entry for each of tens of thousands of stacks.

Feasible stacks come first, by the logarithm of a weighted product of metrics; the others follow by how far they violate limits.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy import bool_
from numpy.typing import NDArray

from advisor.estimate.arrays import Indices, Numbers
from advisor.estimate.uncertainty.probability_columns import joint_probabilities, probabilities_of_meeting
from advisor.planning.advice import Candidate
from advisor.planning.violations import bounds
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Prefer, Request
from advisor.quantities.limits import METRIC_OF

WEIGHTS: dict[Prefer, dict[str, float]] = {
    Prefer.LATENCY: {"tpot_ms_mean": 0.68, "ttft_ms_mean": 0.3, "peak_memory_gib": 0.02},
    Prefer.THROUGHPUT: {"throughput_tok_s": -0.98, "peak_memory_gib": 0.02},
    Prefer.MEMORY: {"peak_memory_gib": 0.9, "tpot_ms_mean": 0.1},
    Prefer.BALANCED: {"tpot_ms_mean": 0.4, "ttft_ms_mean": 0.23, "throughput_tok_s": -0.35, "peak_memory_gib": 0.02},
}
"""Exponents of the metrics in the product that is minimised. Memory that fits counts only where it is preferred, else among equals."""
RISK_WEIGHT = 3.0
"""Weight of the logarithm of the probability: a plan half as likely to meet the limits must be eight times better otherwise."""
LEAST_PROBABILITY = 1e-6
"""Lower probabilities count as this one: below it, the size of the violation decides."""
QUALITY_WEIGHT = 0.05
"""Weight of one percent of perplexity under a limit on it: as much as 5 % of speed."""
UNLIMITED_QUALITY_WEIGHT = 0.2
"""The same without a limit: no loss was agreed to, so that a technique must gain 20 % of speed for each percent."""
QUALITY_GUARD = 3.0
"""Largest penalty of a quality loss without a limit: as much as for meeting the limits with a probability of 0.37."""
GUARDED_LOSS_PCT = (1.0, 5.0)
"""Losses, in percent, at which the penalty starts and from which it is added in full."""
TECHNIQUE_WEIGHT = 0.005
"""Weight of one technique: it must gain half a percent, so that of two equal stacks the one with fewer techniques ranks first."""
FINALISTS = 12
"""Fewest stacks that are simulated, where there are as many; those close to the best in closed form are added."""
MOST_FINALISTS = 20
CLOSED_FORM_ERROR = 0.05
"""Median difference between the objective in closed form and as simulated."""
SAME_RANK_TOLERANCE = 0.02
"""Stacks whose metrics in closed form all agree within 2 % are represented by the first of them."""
FRONTIER_TOLERANCE = 1.03
"""Plans within 3 % of each other in every objective are one point of the frontier."""
OBJECTIVES = {"tpot_ms_mean": 1, "ttft_ms_mean": 1, "peak_memory_gib": 1, "throughput_tok_s": -1}
"""Metrics of the Pareto frontier: 1 where less is better, -1 where more is."""
_FARTHEST = math.log(1e6)


@dataclass(frozen=True, slots=True)
class MetricColumn:
    """One metric of many stacks, with the ends of its range; `nan` for a stack without it."""

    low: Numbers
    value: Numbers
    high: Numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class Columns:
    """Metrics of many stacks, by name."""

    count: int
    techniques: Numbers
    """Number of techniques of each stack."""
    metrics: dict[str, MetricColumn]


@dataclass(frozen=True, slots=True)
class Verdicts:
    """Stacks compared with the limits and the preference of one request, an entry for each stack."""

    probabilities: dict[str, Numbers]
    """Probability of meeting each limit, by field of `Limits`."""
    probability: Numbers
    """Probability of meeting all of them."""
    missed: dict[str, NDArray[bool_]]
    """Whether the predicted value violates each limit."""
    violation: Numbers
    """Sum of the absolute logarithms of predicted over limit, over the violated limits."""
    cost: Numbers
    """The objective that is minimised among feasible stacks."""

    @property
    def infeasible(self) -> NDArray[bool_]:
        """Whether some limit is violated."""
        return self.violation > 0

    def misses_only(self, limit: str) -> int | None:
        """Index of the stack that violates only this limit, and by least; `None` where there is none."""
        others = [missed for name, missed in self.missed.items() if name != limit]
        only = self.missed[limit] & ~np.logical_or.reduce(others) if others else self.missed[limit]
        return int(np.where(only, self.violation, np.inf).argmin()) if only.any() else None

    @property
    def order(self) -> Indices:
        """Indices of the stacks, best first: feasible ones by cost, then the others by violation."""
        return np.lexsort((self.cost, self.violation))


def evaluate(columns: Columns, request: Request, budget_gib: float) -> Verdicts:
    """Compare every stack with the limits of a request and with the memory budget of a device."""
    probabilities, missed, violation = {}, {}, np.zeros(columns.count)
    for limit, bound in bounds(request.limits, budget_gib).items():
        metric = METRIC_OF[limit]
        column = columns.metrics.get(metric.name)
        if column is None:
            continue
        predicted = ~np.isnan(column.value)
        met = probabilities_of_meeting(column.low, column.value, column.high, bound, higher_is_better=metric.higher_is_better)
        probabilities[limit] = np.where(predicted, met, 1.0)
        excess = bound - column.value if metric.higher_is_better else column.value - bound
        missed[limit] = predicted & (excess > 0)
        violation += np.where(missed[limit], _log_distance(column.value, bound), 0.0)
    probability = joint_probabilities(probabilities, columns.count)
    return Verdicts(probabilities, probability, missed, violation, objective(columns, probability, request))


def _log_distance(value: Numbers, bound: float) -> Numbers:
    """Absolute logarithm of value over bound, above zero and at most that of a million."""
    with np.errstate(divide="ignore", invalid="ignore"):
        distance: Numbers = np.abs(np.log(value) - (math.log(bound) if bound > 0 else -math.inf))
    return np.clip(np.nan_to_num(distance, nan=_FARTHEST, posinf=_FARTHEST), 1e-12, _FARTHEST)


def objective(columns: Columns, probability: Numbers, request: Request) -> Numbers:
    """The objective that is minimised: the logarithm of a weighted product of metrics, plus terms for quality, risk and techniques."""
    terms = objective_terms(columns, probability, request)
    return terms.metrics + terms.quality + terms.risk + terms.techniques


@dataclass(frozen=True, slots=True)
class ObjectiveTerms:
    """The summands of the objective, an entry for each stack; less is better."""

    metrics: Numbers
    """Logarithm of the weighted product of the preferred metrics."""
    quality: Numbers
    """Penalty of a quality loss."""
    risk: Numbers
    """Penalty of a probability below 1 of meeting the limits."""
    techniques: Numbers
    """Penalty of each technique."""


def objective_terms(columns: Columns, probability: Numbers, request: Request) -> ObjectiveTerms:
    """The summands of the objective of each stack, which meets all limits with `probability`."""
    metrics, quality = np.zeros(columns.count), np.zeros(columns.count)
    for metric, weight in WEIGHTS[request.prefer].items():
        if metric in columns.metrics:
            metrics = metrics + weight * np.nan_to_num(np.log(np.maximum(columns.metrics[metric].value, 1e-9)))
    if "quality_loss_pct" in columns.metrics:
        quality = _quality_penalty(np.nan_to_num(columns.metrics["quality_loss_pct"].value), request)
    risk = -RISK_WEIGHT * np.log(np.maximum(probability, LEAST_PROBABILITY))
    return ObjectiveTerms(metrics, quality, risk, TECHNIQUE_WEIGHT * columns.techniques)


def _quality_penalty(loss_pct: Numbers, request: Request) -> Numbers:
    if request.limits.bound("quality_loss_pct") is not None:
        return QUALITY_WEIGHT * loss_pct
    first, last = GUARDED_LOSS_PCT
    return UNLIMITED_QUALITY_WEIGHT * loss_pct + QUALITY_GUARD * np.clip((loss_pct - first) / (last - first), 0.0, 1.0)


def representatives(columns: Columns, ordered: Indices, costs: Numbers | None) -> list[int]:
    """The first indices of an order, one for each group of stacks that agree within `SAME_RANK_TOLERANCE`.

    At most `FINALISTS`, or `MOST_FINALISTS` while `costs`, given in that order, stay within `CLOSED_FORM_ERROR` of the first.
    """
    near = ordered[: 50 * MOST_FINALISTS]
    logs = [np.log(np.maximum(column.value[near], 1e-9)) / SAME_RANK_TOLERANCE for column in columns.metrics.values()]
    first_of: dict[tuple[float, ...], int] = {}
    for rank, (key, index) in enumerate(zip(map(tuple, np.round(np.array(logs).T)), near, strict=True)):
        close = costs is not None and costs[rank] < costs[0] + CLOSED_FORM_ERROR
        if len(first_of) >= (MOST_FINALISTS if close else FINALISTS):
            break
        first_of.setdefault(key, int(index))
    return list(first_of.values())


def columns_of(metrics: Sequence[Metrics], techniques: Sequence[int]) -> Columns:
    """Columns of stacks from the metrics and the number of techniques of each."""
    columns = {}
    for name in {metric.name for metric in METRIC_OF.values()} | {name for weights in WEIGHTS.values() for name in weights}:
        values: list[Value | None] = [getattr(record, name) for record in metrics]
        if any(value is not None for value in values):
            ends = ([getattr(value, end) if value else math.nan for value in values] for end in ("low", "value", "high"))
            columns[name] = MetricColumn(*(np.array(numbers) for numbers in ends))
    return Columns(count=len(metrics), techniques=np.array(techniques, float), metrics=columns)


def order(candidates: Sequence[Candidate], request: Request, budget_gib: float) -> list[Candidate]:
    """The candidates, best first."""
    columns = columns_of([c.metrics for c in candidates], [len(c.techniques) for c in candidates])
    return [candidates[index] for index in evaluate(columns, request, budget_gib).order]


def frontier(ordered: Sequence[Candidate]) -> list[Candidate]:
    """The candidates that no earlier one dominates, within `FRONTIER_TOLERANCE`."""
    retained: list[Candidate] = []
    for candidate in ordered:
        if not any(_dominates(other, candidate) for other in retained):
            retained.append(candidate)
    return retained


def _dominates(candidate: Candidate, other: Candidate) -> bool:
    """Whether the first is as good or better in every objective, with at most 0.1 % more quality loss."""
    for metric, sign in OBJECTIVES.items():
        own, others = getattr(candidate.metrics, metric), getattr(other.metrics, metric)
        if own is None or others is None:
            continue
        ratio = (own.value / others.value) ** sign if others.value > 0 and own.value > 0 else 1.0
        if ratio > FRONTIER_TOLERANCE:
            return False
    return _quality_loss(candidate) <= _quality_loss(other) + 0.1


def _quality_loss(candidate: Candidate) -> float:
    loss = candidate.metrics.quality_loss_pct
    return loss.value if loss is not None else 0.0
