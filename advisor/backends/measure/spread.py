"""Measured values with a 90 % confidence interval: Student's t for a mean of independent samples, else the bootstrap."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from math import nan
from statistics import fmean, stdev

from advisor.profiles.metrics import Basis, Value

RESAMPLES = 500
Z_95 = 1.6448536269514722
"""95 % quantile of the normal distribution."""


def mean_value(samples: Sequence[float], *, least: float | None = None, most: float | None = None) -> Value:
    """The mean of independent samples with its 90 % interval (Student's t), clipped to [`least`, `most`].

    A single sample is returned without a range.
    """
    mean = fmean(samples)
    if len(samples) < 2:
        return Value.exact(mean, Basis.MEASURED)
    half_width = t_95(len(samples) - 1) * stdev(samples) / len(samples) ** 0.5
    low, high = mean - half_width, mean + half_width
    return Value(
        value=mean,
        low=min(mean, low if least is None else max(least, low)),
        high=max(mean, high if most is None else min(most, high)),
        basis=Basis.MEASURED,
    )


def t_95(degrees: int) -> float:
    """95 % quantile of Student's t. Source: Abramowitz and Stegun 26.7.5, good to 3 % from two degrees on; exact for one."""
    if degrees == 1:
        return 6.313751514675043
    z, v = Z_95, degrees
    return (
        z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2) + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def bootstrap_value(values: Sequence[float], statistic: Callable[[Sequence[float]], float], *, seed: int) -> Value:
    """`statistic` of the values, with its 90 % percentile interval over `RESAMPLES` bootstrap resamples seeded by `seed`."""
    point, draw = statistic(values), random.Random(seed)
    resampled = sorted(statistic(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low, high = quantile(resampled, 0.05), quantile(resampled, 0.95)
    return Value(value=point, low=min(low, point), high=max(high, point), basis=Basis.MEASURED)


def quantile(values: Sequence[float], share: float) -> float:
    """The `share` quantile of the values by linear interpolation (Hyndman and Fan type 7); NaN of none."""
    if not values:
        return nan
    ordered = sorted(values)
    position = share * (len(ordered) - 1)
    index = min(int(position), max(len(ordered) - 2, 0))
    right = ordered[min(index + 1, len(ordered) - 1)]
    return ordered[index] + (position - index) * (right - ordered[index])


STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": fmean,
    "p50": partial(quantile, share=0.5),
    "p95": partial(quantile, share=0.95),
    "p99": partial(quantile, share=0.99),
}
"""Statistics that are reported of request latencies, by the suffix of the metric."""
