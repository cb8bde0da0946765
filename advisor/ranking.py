"""Limits, frontier and preference: which candidates pass, which are worth a look, which comes first."""

import math
from collections.abc import Sequence

from advisor.advice import Candidate, Miss, Status
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Limits, Prefer, Request
from advisor.shown_metrics import BY_LIMIT, keeps, limit_of, worse_end

WEIGHTS: dict[Prefer, dict[str, float]] = {
    Prefer.LATENCY: {"tpot_ms_mean": 0.65, "ttft_ms_mean": 0.3, "peak_memory_gib": 0.05},
    Prefer.THROUGHPUT: {"throughput_tok_s": -0.9, "peak_memory_gib": 0.1},
    Prefer.MEMORY: {"peak_memory_gib": 0.9, "tpot_ms_mean": 0.1},
    Prefer.BALANCED: {"tpot_ms_mean": 0.35, "ttft_ms_mean": 0.2, "throughput_tok_s": -0.3, "peak_memory_gib": 0.15},
}
"""Exponents of each metric in what is minimised."""
QUALITY_WEIGHT = 0.05
"""A percent of perplexity weighs as much as 5 % of speed."""
TECHNIQUE_WEIGHT = 0.005
"""Each technique must earn half a percent: of two equal stacks the simpler one is better."""
SAME = 1.03
"""Plans within 3 % of each other are one point of the frontier."""
_OBJECTIVES = (("tpot_ms_mean", 1), ("ttft_ms_mean", 1), ("throughput_tok_s", -1), ("peak_memory_gib", 1))


def misses(metrics: Metrics, limits: Limits) -> tuple[Miss, ...]:
    """Every limit that the predicted value does not keep."""
    found = []
    for limit, shown in BY_LIMIT.items():
        asked, value = limit_of(shown, limits), getattr(metrics, shown.name)
        if asked is not None and value is not None and not keeps(shown, value.value, asked):
            found.append(Miss(limit, asked, value))
    return tuple(found)


def status(metrics: Metrics, limits: Limits, missed: tuple[Miss, ...]) -> Status:
    """Whether the limits are kept, and whether the ranges keep them too."""
    if missed:
        return Status.MISSES
    for shown in BY_LIMIT.values():
        asked, value = limit_of(shown, limits), getattr(metrics, shown.name)
        if asked is not None and value is not None and not keeps(shown, worse_end(shown, value), asked):
            return Status.AT_RISK
    return Status.MEETS


def score(metrics: Metrics, prefer: Prefer, techniques: int) -> float:
    """What is minimised: the logarithm of a weighted product of metrics, quality and simplicity added."""
    total = TECHNIQUE_WEIGHT * techniques
    for metric, weight in WEIGHTS[prefer].items():
        value: Value | None = getattr(metrics, metric)
        if value is not None:
            total += weight * math.log(max(value.value, 1e-9))
    quality = metrics.quality_loss_pct.value if metrics.quality_loss_pct else 0.0
    return total + QUALITY_WEIGHT * quality


def distance(candidate: Candidate) -> float:
    """How far a candidate is from keeping its limits: the sum of the logarithms of what it misses by."""
    return sum(math.log(min(miss.ratio, 1e6)) for miss in candidate.misses)


def order(candidates: Sequence[Candidate], request: Request) -> list[Candidate]:
    """Best first: what meets before what is at risk before what misses, then by preference or distance."""
    rank = {Status.MEETS: 0, Status.AT_RISK: 1, Status.MISSES: 2}

    def key(candidate: Candidate) -> tuple[float, float, float]:
        return rank[candidate.status], distance(candidate), score(candidate.metrics, request.prefer, len(candidate.techniques))

    return sorted(candidates, key=key)


def frontier(ordered: Sequence[Candidate]) -> list[Candidate]:
    """Candidates that no earlier one beats or equals, within a few percent, in every objective."""
    kept: list[Candidate] = []
    for candidate in ordered:
        if not any(_dominates(other, candidate) for other in kept):
            kept.append(candidate)
    return kept


def _dominates(one: Candidate, other: Candidate) -> bool:
    for metric, sign in _OBJECTIVES:
        mine, theirs = getattr(one.metrics, metric), getattr(other.metrics, metric)
        if mine is None or theirs is None:
            continue
        ratio = (mine.value / theirs.value) ** sign if theirs.value > 0 and mine.value > 0 else 1.0
        if ratio > SAME:
            return False
    return _quality(one) <= _quality(other) + 0.1


def _quality(candidate: Candidate) -> float:
    loss = candidate.metrics.quality_loss_pct
    return loss.value if loss is not None else 0.0
