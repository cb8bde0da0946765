"""How much faster the full stack is than the baseline: ratios of repeats that alternated, with their intervals."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from advisor.profiles.metrics import Metrics, Value
from advisor.profiles.run import Repeat, Run, RungStatus
from advisor.quantities.formatting import number
from advisor.quantities.metrics import METRICS

STUDENT_90 = {1: 6.314, 2: 2.920, 3: 2.353, 4: 2.132, 5: 2.015, 6: 1.943, 7: 1.895, 8: 1.860, 9: 1.833}
"""95 % quantile of Student's t by degrees of freedom: the half-width of a 90 % interval in standard errors."""
NORMAL_90 = 1.645
"""The 95 % quantile of the normal distribution, for more degrees of freedom than the table has."""
COMPARED = ("throughput_tok_s", "tpot_ms_mean", "ttft_ms_mean")
"""The metrics whose ratios are given, the headline's first."""


class SpeedupVerdict(StrEnum):
    """What the interval of a ratio shows."""

    FASTER = "faster"
    SLOWER = "slower"
    NO_DIFFERENCE = "no difference shown"


@dataclass(frozen=True, slots=True, kw_only=True)
class Speedup:
    """Ratio of a metric of the full stack to that of the baseline."""

    metric: str
    ratio: float
    """Geometric mean over the pairs."""
    low: float
    high: float
    """90 % interval of the mean, by Student's t on the logarithms."""
    predicted: float | None
    """The ratio of the predictions; `None` where one is missing."""
    pairs: int

    @property
    def verdict(self) -> SpeedupVerdict:
        """Whether the full stack is better, worse, or not shown to be either."""
        if self.low <= 1 <= self.high:
            return SpeedupVerdict.NO_DIFFERENCE
        return SpeedupVerdict.FASTER if (self.low > 1) is METRICS[self.metric].higher_is_better else SpeedupVerdict.SLOWER


def speedups(run: Run) -> tuple[Speedup, ...]:
    """Ratios of the metrics of a repeat, throughput first; empty where no repeats of the baseline alternated with the full stack's."""
    if len(run.rungs) < 2 or run.rungs[-1].status is not RungStatus.DONE:
        return ()
    full, baseline = run.rungs[-1], run.rungs[0]
    pairs = list(zip(full.baseline_repeats, full.repeats, strict=False))
    ratios = (_speedup(metric, pairs, baseline.predicted, full.predicted) for metric in COMPARED)
    return tuple(speedup for speedup in ratios if speedup is not None)


def _speedup(metric: str, pairs: Sequence[tuple[Repeat, Repeat]], baseline: Metrics, full: Metrics) -> Speedup | None:
    values = [(getattr(before, metric), getattr(after, metric)) for before, after in pairs]
    logs = [math.log(after / before) for before, after in values if before and after]
    if len(logs) < 2:
        return None
    mean, spread = statistics.fmean(logs), statistics.stdev(logs) / math.sqrt(len(logs))
    half = STUDENT_90.get(len(logs) - 1, NORMAL_90) * spread
    before, after = getattr(baseline, metric), getattr(full, metric)
    return Speedup(
        metric=metric,
        ratio=math.exp(mean),
        low=math.exp(mean - half),
        high=math.exp(mean + half),
        predicted=after.value / before.value if before and after and before.value else None,
        pairs=len(logs),
    )


def headline(speedup: Speedup) -> str:
    """The verdict on a run in one sentence: `1.9 times the baseline's throughput [1.7, 2.1]`, and what to do where that is no gain."""
    name = METRICS[speedup.metric].phrase
    ratio = f"{number(speedup.ratio)} times the baseline's {name} [{number(speedup.low)}, {number(speedup.high)}]"
    measured = f"{ratio}, over {speedup.pairs} pairs of repeats"
    if speedup.verdict is SpeedupVerdict.SLOWER:
        measured = f"slower than the baseline, keep the baseline: {measured}"
    elif speedup.verdict is SpeedupVerdict.NO_DIFFERENCE:
        measured = f"no difference to the baseline shown: {measured}"
    return measured + (f"; predicted {number(speedup.predicted)}" if speedup.predicted is not None else "")


def conditioned(predicted: Metrics, factors: dict[str, float]) -> Metrics:
    """Predictions scaled by measured over predicted values of the baseline, by prefix of the metrics' names."""
    scaled = {}
    for name, value in predicted.present().items():
        factor = next((factor for prefix, factor in factors.items() if name.startswith(prefix)), None)
        if factor is not None:
            scaled[name] = _scaled(value, factor)
    return predicted.model_copy(update=scaled)


def _scaled(value: Value, factor: float) -> Value:
    return value.model_copy(update={"value": value.value * factor, "low": value.low * factor, "high": value.high * factor})


def baseline_factors(run: Run, index: int) -> dict[str, float]:
    """Measured over predicted values of the baseline, by prefix of the metrics' names, for the rung at `index`.

    The baseline's repeats that alternated with the rung's are taken where there are any, else the baseline's own rung.
    Empty for the baseline itself, where the baseline was not measured, and for runs whose repeats do not alternate: between two
    processes, one after the other, the speed of the machine may change.
    """
    baseline, rung = run.rungs[0], run.rungs[index]
    if index == 0 or baseline.measured is None or not run.recipe.interleaved:
        return {}
    factors: dict[str, float] = {}
    for metric, prefixes in _SCALED_BY.items():
        predicted, measured = getattr(baseline.predicted, metric), getattr(baseline.measured, metric)
        together = [value for repeat in rung.baseline_repeats if (value := getattr(repeat, metric, None))]
        level = statistics.fmean(together) if together else measured.value if measured is not None else None
        if predicted is not None and predicted.value and level:
            factors |= dict.fromkeys(prefixes, level / predicted.value)
    return factors


_SCALED_BY = {
    "ttft_ms_mean": ("ttft_ms",),
    "tpot_ms_mean": ("tpot_ms", "e2e_ms"),
    "throughput_tok_s": ("throughput_tok_s",),
    "decode_tok_s": ("decode_tok_s",),
    "prefill_tok_s": ("prefill_tok_s",),
}
"""The metric of the baseline that scales the predictions whose names begin so."""
