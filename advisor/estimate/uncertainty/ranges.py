"""Errors of predictions: factors around a predicted value that contain 90 % of the measurements, by metric and tier.

`tools/calibrate.py` writes them to `profiles/evidence/ranges.csv`. Those of times are of sources that no constant was fitted on: 90 %
of what the next laboratory publishes. All tiers but `profiled` share them, since laboratories differ more than tiers do. Factors of
memory apply to its inexact part: a prediction may be 1/below − 1 times that part too high, or above − 1 times too low.
"""

from functools import lru_cache

from advisor.backends.deployment import Deployment
from advisor.profiles.engines import load_engine
from advisor.profiles.evidence import table
from advisor.profiles.metrics import Basis

WIDEST = (0.25, 5.0)
"""Factors of a metric that was never compared with measurements: no narrower than those of any time that was."""
POOL = "pool"
"""Engines that measure a trial step and give the remaining memory to the cache: compared by published sizes of that pool."""

Factors = tuple[float, float]


def spread(metric: str, basis: Basis, stratum: str = "") -> Factors:
    """Factors below and above a predicted value between which 90 % of the measurements lie.

    A tier without comparisons uses those of the next weaker one.
    """
    for tier in list(Basis)[basis.rank :]:
        for name in (stratum, ""):
            if (metric, tier.value, name) in _table():
                return _table()[(metric, tier.value, name)]
    return WIDEST


def contended_spread(metric: str, basis: Basis, stratum: str = "") -> Factors:
    """`spread` where other processes used the machine while it was measured: at least that of the next weaker tier."""
    tiers = list(Basis)
    weaker = tiers[min(basis.rank + 1, len(tiers) - 1)]
    return wider(spread(metric, basis, stratum), spread(metric, weaker, stratum))


def wider(first: Factors, second: Factors) -> Factors:
    """The narrowest range that contains both."""
    return min(first[0], second[0]), max(first[1], second[1])


def stratum_of(metric: str, deployment: Deployment) -> str:
    """The stratum of a prediction of `metric`, a name of `ranges.csv`: `POOL` for memory of engines that size a pool, else empty."""
    return POOL if metric == "memory" and load_engine(deployment.engine).trial is not None else ""


@lru_cache(maxsize=1)
def _table() -> dict[tuple[str, str, str], Factors]:
    return {
        (row["metric"], row["basis"], row.get("stratum", "")): (float(row["below"]), float(row["above"])) for row in table("ranges.csv")
    }
