"""Predicted against measured: per rung and metric, the technique's own share, medians of the error, and the limits."""

import math
import statistics
from dataclasses import dataclass
from enum import StrEnum

from advisor.profiles.errors import ExitCode
from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.request import Limits
from advisor.profiles.run import Run, Rung, RungStatus
from advisor.quantities.formatting import three_digits
from advisor.quantities.metrics import METRICS, MetricInfo, satisfies

HEADLINES = ("ttft_ms_mean", "tpot_ms_mean", "throughput_tok_s", "peak_memory_gib", "weights_gib", "kv_cache_gib")
"""Metrics whose median error over the ladder is stated first, and whose change each technique is credited with."""


class RangeVerdict(StrEnum):
    """Where a measured value lies against its predicted range."""

    WITHIN = "within range"
    OUTSIDE = "outside range"
    NOT_MEASURED = "not measured"
    NOT_PREDICTED = "not predicted"


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedMetric:
    """One metric of one rung."""

    metric: str
    predicted: Value | None
    measured: Value | None
    error: float | None
    """Predicted less measured, so that + is predicted too high: in percent of the measured value, or in `error_unit`."""
    error_unit: str
    verdict: RangeVerdict
    limit: float | None = None
    limit_met: bool | None = None
    """Whether the measured value keeps the limit; `None` where none was asked or nothing was measured."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ComparedRung:
    """One rung: how it ended, and a line for every metric that was predicted or measured."""

    name: str
    techniques: tuple[str, ...]
    status: RungStatus
    problem: str | None
    metrics: tuple[ComparedMetric, ...]

    def metric(self, metric: str) -> ComparedMetric | None:
        """The line of `metric`, if it was predicted or measured."""
        return next((line for line in self.metrics if line.metric == metric), None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Contribution:
    """What one technique changed, against the last measured rung before it, in percent of that rung's value."""

    technique: str
    metric: str
    previous: str
    """Name of the rung that it is compared with."""
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
    """A run, judged."""

    run_id: str
    plan_id: str
    title: str
    rungs: tuple[ComparedRung, ...]
    contributions: tuple[Contribution, ...]
    median_errors: tuple[MedianError, ...]
    within: int
    """Values inside their predicted range, over the whole ladder."""
    compared: int
    """Values both predicted and measured, over the whole ladder."""
    paces: tuple[float, ...] = ()
    """How fast the processor ran in each rung, relative to when it was profiled."""

    @property
    def full_stack(self) -> ComparedRung | None:
        """The full stack: the rung that the plan's limits are for."""
        return self.rungs[-1] if self.rungs else None

    @property
    def limits_missed(self) -> tuple[ComparedMetric, ...]:
        """Lines of the full stack whose measured value misses its limit."""
        return tuple(line for line in self.full_stack.metrics if line.limit_met is False) if self.full_stack else ()

    @property
    def largest_miss(self) -> tuple[ComparedRung, ComparedMetric] | None:
        """The headline value furthest outside its range, as a factor; another one only where every headline is within."""
        outside = [(step, line) for step in self.rungs for line in step.metrics if line.verdict is RangeVerdict.OUTSIDE]
        relative = [found for found in outside if METRICS[found[1].metric].relative_error]
        headlines = [found for found in relative if found[1].metric in HEADLINES]
        return max(headlines or relative, key=lambda found: _factor(found[1]), default=None)

    def exit_code(self, *, strict: bool = False) -> ExitCode:
        """`LIMIT_MISSED` when the full stack misses a limit (or, `strict`, leaves a range); `DIED` when it did not finish."""
        if self.full_stack is None or self.full_stack.status is not RungStatus.DONE:
            return ExitCode.DIED
        left_range = any(line.verdict is RangeVerdict.OUTSIDE for line in self.full_stack.metrics)
        return ExitCode.LIMIT_MISSED if self.limits_missed or (strict and left_range) else ExitCode.OK


def compare(run: Run) -> Comparison:
    """Judge every rung of a run against its prediction."""
    steps = tuple(_step(rung, run.request.limits) for rung in run.rungs)
    judged = [line.verdict for step in steps for line in step.metrics if line.verdict in (RangeVerdict.WITHIN, RangeVerdict.OUTSIDE)]
    return Comparison(
        run_id=run.id,
        plan_id=run.plan_id,
        title=run.title,
        rungs=steps,
        contributions=tuple(share for here in range(1, len(steps)) for share in _shares(steps[: here + 1])),
        median_errors=tuple(median for metric in METRICS if (median := _median(metric, steps)) is not None),
        within=judged.count(RangeVerdict.WITHIN),
        compared=len(judged),
        paces=run.paces,
    )


def _step(rung: Rung, limits: Limits) -> ComparedRung:
    lines = (_line(shown, rung.predicted, rung.measured or Metrics(), limits) for shown in METRICS.values())
    known = tuple(line for line in lines if line.predicted or line.measured)
    return ComparedRung(name=rung.name, techniques=rung.techniques, status=rung.status, problem=rung.error, metrics=known)


def _line(shown: MetricInfo, predicted_all: Metrics, measured_all: Metrics, limits: Limits) -> ComparedMetric:
    predicted: Value | None = getattr(predicted_all, shown.name)
    measured: Value | None = getattr(measured_all, shown.name)
    limit = limits.on(shown.name)
    return ComparedMetric(
        metric=shown.name,
        predicted=predicted,
        measured=measured,
        error=_error(shown, predicted, measured),
        error_unit="%" if shown.relative_error else "points" if shown.unit == "%" else shown.unit,
        verdict=_verdict(shown, predicted, measured),
        limit=limit,
        limit_met=satisfies(shown, measured.value, limit) if measured and limit is not None else None,
    )


def _verdict(shown: MetricInfo, predicted: Value | None, measured: Value | None) -> RangeVerdict:
    if measured is None:
        return RangeVerdict.NOT_MEASURED
    if predicted is None:
        return RangeVerdict.NOT_PREDICTED
    # A difference that is predicted as exactly 0 is never measured as that: there the measured range has to reach the predicted one.
    least, most = (measured.value, measured.value) if shown.relative_error else (measured.low, measured.high)
    # Judged on the three digits that are shown: an exact prediction has no spread, and shown equal must read as within.
    low, high, least, most = (three_digits(number) for number in (predicted.low, predicted.high, least, most))
    return RangeVerdict.WITHIN if least <= high and most >= low else RangeVerdict.OUTSIDE


def _error(shown: MetricInfo, predicted: Value | None, measured: Value | None) -> float | None:
    if predicted is None or measured is None:
        return None
    difference = predicted.value - measured.value
    if not shown.relative_error:
        return _finite(difference)
    return _finite(difference / measured.value * 100) if measured.value else None


def _factor(line: ComparedMetric) -> float:
    """How far measured lies from predicted, as a logarithm of their ratio; endless where one of them is zero."""
    assert line.predicted is not None
    assert line.measured is not None
    predicted, measured = line.predicted.value, line.measured.value
    return abs(math.log(measured) - math.log(predicted)) if predicted > 0 and measured > 0 else math.inf


def _shares(steps: tuple[ComparedRung, ...]) -> list[Contribution]:
    """What the last of `steps` changed against the nearest rung below it that was measured."""
    here = steps[-1]
    before = next((step for step in reversed(steps[:-1]) if step.status is RungStatus.DONE), steps[-2])
    shares = (_share(metric, here, before) for metric in HEADLINES)
    return [share for share in shares if share.predicted_pct is not None or share.measured_pct is not None]


def _share(metric: str, here: ComparedRung, before: ComparedRung) -> Contribution:
    now, then = here.metric(metric), before.metric(metric)
    return Contribution(
        technique=here.name,
        metric=metric,
        previous=before.name,
        predicted_pct=_change(then.predicted, now.predicted) if then and now else None,
        measured_pct=_change(then.measured, now.measured) if then and now else None,
    )


def _change(then: Value | None, now: Value | None) -> float | None:
    """From `then` to `now` in percent; `None` where a percentage has no meaning."""
    if then is None or now is None or not then.value:
        return None
    return _finite((now.value / then.value - 1) * 100)


def _finite(number: float) -> float | None:
    return number if math.isfinite(number) else None


def _median(metric: str, steps: tuple[ComparedRung, ...]) -> MedianError | None:
    errors = [abs(line.error) for step in steps if (line := step.metric(metric)) and line.error is not None and line.error_unit == "%"]
    return MedianError(metric=metric, error_pct=statistics.median(errors), rungs=len(errors)) if errors else None
