"""Compares a run with its predictions: errors by rung and metric, each technique's contribution, median errors, limits met or missed."""

import math
import statistics
from dataclasses import dataclass
from enum import StrEnum

from advisor.feedback.speedup import Speedup, baseline_factors, conditioned, speedups
from advisor.profiles.errors import ExitCode
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Limits
from advisor.profiles.run import HeldWeights, Run, Rung, RungStatus
from advisor.quantities.formatting import three_digits
from advisor.quantities.metrics import METRICS, MetricInfo, satisfies

HEADLINES = ("ttft_ms_mean", "tpot_ms_mean", "throughput_tok_s", "peak_memory_gib", "weights_gib", "kv_cache_gib")
"""Metrics whose median error over the ladder is reported first, and whose change is attributed to each technique."""


class RangeVerdict(StrEnum):
    """Whether a measured value lies within its predicted range."""

    WITHIN = "within range"
    OUTSIDE = "outside range"
    NOT_MEASURED = "not measured"
    NOT_PREDICTED = "not predicted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMetric:
    """One metric of one rung: the key in `METRICS`, both values in that metric's unit, and their difference."""

    metric: str
    predicted: Value | None
    planned: Value | None
    """The prediction of the plan: `predicted` before it was scaled by the measured baseline."""
    measured: Value | None
    error: float | None
    """Predicted minus measured, in `error_unit`: percent of the measured value, or the metric's own unit where a ratio has no meaning."""
    error_unit: str
    verdict: RangeVerdict
    limit: float | None = None
    limit_met: bool | None = None
    """Whether the measured value meets the limit; `None` without a limit or without a measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRung:
    """One rung: how it ended, and every metric that was predicted or measured."""

    name: str
    techniques: tuple[str, ...]
    status: RungStatus
    problem: str | None
    metrics: tuple[ComparedMetric, ...]
    weights: HeldWeights | None = None
    conditioned: bool = False
    """Whether the predicted times and rates are those of the plan scaled by measured over predicted values of the baseline."""

    def metric(self, metric: str) -> ComparedMetric | None:
        """The metric of that name; `None` where it was neither predicted nor measured."""
        return next((compared for compared in self.metrics if compared.metric == metric), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """How one technique changed one metric, in percent of the value at the nearest earlier rung that was measured."""

    technique: str
    metric: str
    previous: str
    """Name of that earlier rung."""
    predicted_pct: float | None
    measured_pct: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class MedianError:
    """Median absolute error of one metric over the ladder, percent of the measured value."""

    metric: str
    error_pct: float
    rungs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """A run compared with what was predicted for it."""

    run_id: str
    plan_id: str
    title: str
    rungs: tuple[ComparedRung, ...]
    contributions: tuple[Contribution, ...]
    median_errors: tuple[MedianError, ...]
    within: int
    """Number of measured values inside their predicted range, over all rungs."""
    compared: int
    """Number of values both predicted and measured, over all rungs."""
    paces: tuple[float, ...] = ()
    """Speed of the processor in each rung, relative to its speed when it was profiled."""
    speedups: tuple[Speedup, ...] = ()
    """Ratios of the full stack to the baseline, throughput first; empty where their repeats did not alternate."""
    busy_share: float | None = None
    """Share of the processors that other processes used when the run began."""

    @property
    def full_stack(self) -> ComparedRung | None:
        """The last rung, which has every technique; the plan's limits apply to it."""
        return self.rungs[-1] if self.rungs else None

    @property
    def limits_missed(self) -> tuple[ComparedMetric, ...]:
        """Metrics of the full stack whose measured value misses its limit."""
        return tuple(metric for metric in self.full_stack.metrics if metric.limit_met is False) if self.full_stack else ()

    @property
    def faults(self) -> tuple[tuple[str, str], ...]:
        """Errors of this program that the run found: the rung's name, and the sentence."""
        return tuple((rung.name, rung.weights.fault) for rung in self.rungs if rung.weights is not None and rung.weights.fault)

    @property
    def largest_miss(self) -> tuple[ComparedRung, ComparedMetric] | None:
        """The rung and headline metric furthest outside its predicted range, as a ratio; another metric where no headline is outside."""
        outside = [(rung, metric) for rung in self.rungs for metric in rung.metrics if metric.verdict is RangeVerdict.OUTSIDE]
        relative = [miss for miss in outside if METRICS[miss[1].metric].relative_error]
        headlines = [miss for miss in relative if miss[1].metric in HEADLINES]
        return max(headlines or relative, key=lambda miss: _log_ratio(miss[1]), default=None)

    def exit_code(self, *, strict: bool = False) -> ExitCode:
        """`DIED` if the full stack did not finish, `LIMIT_MISSED` if it misses a limit or, with `strict`, leaves a predicted range."""
        if self.full_stack is None or self.full_stack.status is not RungStatus.DONE:
            return ExitCode.DIED
        left_range = any(metric.verdict is RangeVerdict.OUTSIDE for metric in self.full_stack.metrics)
        return ExitCode.LIMIT_MISSED if self.limits_missed or (strict and left_range) else ExitCode.OK


def compare(run: Run) -> Comparison:
    """Compare every rung of a run with its prediction."""
    rungs = tuple(_compare_rung(rung, run.request.limits, baseline_factors(run, index)) for index, rung in enumerate(run.rungs))
    verdicts = [metric.verdict for rung in rungs for metric in rung.metrics]
    within, outside = verdicts.count(RangeVerdict.WITHIN), verdicts.count(RangeVerdict.OUTSIDE)
    return Comparison(
        run_id=run.id,
        plan_id=run.plan_id,
        title=run.title,
        rungs=rungs,
        contributions=tuple(change for end in range(2, len(rungs) + 1) for change in _contributions(rungs[:end])),
        median_errors=tuple(median for metric in METRICS if (median := _median_error(metric, rungs)) is not None),
        within=within,
        compared=within + outside,
        paces=run.paces,
        speedups=speedups(run),
        busy_share=run.environment.busy_share,
    )


def _compare_rung(rung: Rung, limits: Limits, factors: dict[str, float]) -> ComparedRung:
    predicted = conditioned(rung.predicted, factors)
    compared = (_compare_metric(info, rung.predicted, predicted, rung.measured or Metrics(), limits) for info in METRICS.values())
    metrics = tuple(metric for metric in compared if metric.predicted or metric.measured)
    return ComparedRung(
        name=rung.name,
        techniques=rung.techniques,
        status=rung.status,
        problem=rung.error,
        metrics=metrics,
        weights=rung.weights,
        conditioned=bool(factors),
    )


def _compare_metric(info: MetricInfo, plan: Metrics, predictions: Metrics, measurements: Metrics, limits: Limits) -> ComparedMetric:
    predicted: Value | None = getattr(predictions, info.name)
    measured: Value | None = getattr(measurements, info.name)
    limit = limits.on(info.name)
    return ComparedMetric(
        metric=info.name,
        predicted=predicted,
        planned=getattr(plan, info.name),
        measured=measured,
        error=_error(info, predicted, measured),
        error_unit="%" if info.relative_error else "points" if info.unit == "%" else info.unit,
        verdict=_verdict(info, predicted, measured),
        limit=limit,
        limit_met=satisfies(info, measured.value, limit) if measured and limit is not None else None,
    )


def _verdict(info: MetricInfo, predicted: Value | None, measured: Value | None) -> RangeVerdict:
    if measured is None:
        return RangeVerdict.NOT_MEASURED
    if predicted is None:
        return RangeVerdict.NOT_PREDICTED
    # A difference predicted as exactly 0 is never measured as 0: for those metrics the two ranges have to overlap.
    least, most = (measured.value, measured.value) if info.relative_error else (measured.low, measured.high)
    # Compared at the three digits that are printed: an exact prediction has no range, and numbers printed as equal are within it.
    low, high, least, most = (three_digits(number) for number in (predicted.low, predicted.high, least, most))
    return RangeVerdict.WITHIN if least <= high and most >= low else RangeVerdict.OUTSIDE


def _error(info: MetricInfo, predicted: Value | None, measured: Value | None) -> float | None:
    if predicted is None or measured is None:
        return None
    difference = predicted.value - measured.value
    if not info.relative_error:
        return _finite(difference)
    return _finite(difference / measured.value * 100) if measured.value else None


def _log_ratio(metric: ComparedMetric) -> float:
    """Absolute logarithm of predicted over measured; infinite where either is zero or negative."""
    assert metric.predicted is not None
    assert metric.measured is not None
    predicted, measured = metric.predicted.value, metric.measured.value
    return abs(math.log(measured) - math.log(predicted)) if predicted > 0 and measured > 0 else math.inf


def _contributions(rungs: tuple[ComparedRung, ...]) -> list[Contribution]:
    """What the last of `rungs` changed against the nearest earlier rung that was measured."""
    previous = next((rung for rung in reversed(rungs[:-1]) if rung.status is RungStatus.DONE), rungs[-2])
    changes = (_contribution(metric, previous, rungs[-1]) for metric in HEADLINES)
    return [change for change in changes if change.predicted_pct is not None or change.measured_pct is not None]


def _contribution(metric: str, previous: ComparedRung, rung: ComparedRung) -> Contribution:
    before, after = previous.metric(metric), rung.metric(metric)
    return Contribution(
        technique=rung.name,
        metric=metric,
        previous=previous.name,
        predicted_pct=_change_pct(before.planned, after.planned) if before and after else None,
        measured_pct=_change_pct(before.measured, after.measured) if before and after else None,
    )


def _change_pct(before: Value | None, after: Value | None) -> float | None:
    """Relative change from `before` to `after` in percent; `None` where one is missing or `before` is zero."""
    if before is None or after is None or not before.value:
        return None
    return _finite((after.value / before.value - 1) * 100)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _median_error(metric: str, rungs: tuple[ComparedRung, ...]) -> MedianError | None:
    compared = (rung.metric(metric) for rung in rungs)
    errors = [abs(value.error) for value in compared if value and value.error is not None and value.error_unit == "%"]
    return MedianError(metric=metric, error_pct=statistics.median(errors), rungs=len(errors)) if errors else None
