"""Measured values with their 90 % range: by Student's t where the mean of independent parts is asked, else by bootstrap."""

import random
from collections.abc import Callable, Sequence
from functools import partial
from math import nan
from statistics import fmean, stdev

from advisor.profiles.metrics import Basis, Value

RESAMPLES = 500
Z_95 = 1.6448536269514722
"""The normal distribution's 95 % point: a two-sided 90 % range lies between its negative and itself."""


def mean_value(parts: Sequence[float], *, least: float | None = None, most: float | None = None) -> Value:
    """The mean of independent parts; its range is cut to [`least`, `most`]. One part alone has no range."""
    mean = fmean(parts)
    if len(parts) < 2:
        return Value.exact(mean, Basis.MEASURED)
    reach = t_95(len(parts) - 1) * stdev(parts) / len(parts) ** 0.5
    low, high = mean - reach, mean + reach
    return Value(
        value=mean,
        low=min(mean, low if least is None else max(least, low)),
        high=max(mean, high if most is None else min(most, high)),
        basis=Basis.MEASURED,
    )


def t_95(degrees: int) -> float:
    """95 % point of Student's t. Source: Abramowitz and Stegun 26.7.5, good to 3 % from two degrees on; exact for one."""
    if degrees == 1:
        return 6.313751514675043
    z, v = Z_95, degrees
    return (
        z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2) + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )


def bootstrap_value(values: Sequence[float], statistic: Callable[[Sequence[float]], float], *, seed: int) -> Value:
    """`statistic` of the values; its range from the same statistic over seeded resamples."""
    found, draw = statistic(values), random.Random(seed)
    resampled = sorted(statistic(draw.choices(values, k=len(values))) for _ in range(RESAMPLES))
    low, high = quantile(resampled, 0.05), quantile(resampled, 0.95)
    return Value(value=found, low=min(low, found), high=max(high, found), basis=Basis.MEASURED)


def quantile(values: Sequence[float], share: float) -> float:
    """The value below which `share` of the values lie, linear between neighbours; not-a-number where there are none."""
    if not values:
        return nan
    ordered = sorted(values)
    place = share * (len(ordered) - 1)
    index = min(int(place), max(len(ordered) - 2, 0))
    right = ordered[min(index + 1, len(ordered) - 1)]
    return ordered[index] + (place - index) * (right - ordered[index])


STATISTICS: dict[str, Callable[[Sequence[float]], float]] = {
    "mean": fmean,
    "p50": partial(quantile, share=0.5),
    "p95": partial(quantile, share=0.95),
    "p99": partial(quantile, share=0.99),
}
"""What is told of the latencies of requests, by the ending of the metric."""
