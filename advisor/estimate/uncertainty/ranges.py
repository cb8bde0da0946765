"""Errors of predictions: factors around a predicted value that contain 90 % of the measurements, by metric, tier and stratum.

`tools/calibrate.py` writes them to `profiles/evidence/ranges.csv`. A stratum is a kind of setting with errors of its own; a metric and
tier with few comparisons has one row for all strata. Factors of memory apply to its inexact part: a prediction may be 1/below − 1 times
that part too high, or above − 1 times too low.
"""

from functools import lru_cache

from advisor.backends.deployment import Deployment
from advisor.estimate.operators.structure import structure_of
from advisor.profiles.architectures.layers import LatentAttention, RecurrentMixer
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import load_engine
from advisor.profiles.evidence import table
from advisor.profiles.metrics import Basis
from advisor.profiles.request import Load, Workload

WIDEST = (0.4, 2.5)
"""Factors of a metric and basis that were never compared with measurements."""
SINGLE_STREAM = "one stream"
"""A single request at a time: no batching, no queueing."""
SPREAD_EXPERTS = "spread experts"
"""Replicas that share experts: each step waits for the most loaded device, and the imbalance depends on the requests."""
POOL = "pool"
"""Engines that measure a trial step and give the remaining memory to the cache: compared by published sizes of that pool."""
OUTSIDE = "outside"
"""Settings outside of those compared: each engine, kind of model and device has the same weight, however often it was compared."""

Factors = tuple[float, float]


def spread(metric: str, basis: Basis, stratum: str = "", *, extrapolated: bool = False) -> Factors:
    """Factors below and above a predicted value between which 90 % of the measurements lie.

    A tier without comparisons uses those of the next weaker one; with `extrapolated`, they are at least those of `OUTSIDE`.
    """
    factors = _calibrated(metric, basis, stratum)
    return wider(factors, _table().get((metric, "", OUTSIDE), WIDEST)) if extrapolated else factors


def contended_spread(metric: str, basis: Basis, stratum: str = "") -> Factors:
    """`spread` where other processes used the machine while it was measured: at least that of the next weaker tier."""
    tiers = list(Basis)
    weaker = tiers[min(basis.rank + 1, len(tiers) - 1)]
    return wider(_calibrated(metric, basis, stratum), _calibrated(metric, weaker, stratum))


def wider(first: Factors, second: Factors) -> Factors:
    """The narrowest range that contains both."""
    return min(first[0], second[0]), max(first[1], second[1])


def stratum_of(metric: str, deployment: Deployment, workload: Workload | None) -> str:
    """The stratum of a prediction of `metric`, a name of `ranges.csv`; empty where the metric has none."""
    if metric == "memory":
        return POOL if load_engine(deployment.engine).trial is not None else ""
    if metric == "prefill":
        return ""
    alone = workload is not None and workload.load in (Load.CLOSED, Load.BURST) and workload.concurrency == 1
    if alone and metric in ("ttft", "tpot"):
        return SINGLE_STREAM
    if deployment.parallel.data > 1 and deployment.parallel.expert > 1:
        return SPREAD_EXPERTS
    return model_kind(deployment.model)


@lru_cache(maxsize=256)
def model_kind(model: ModelSpec) -> str:
    """The kind of a model by its least certain part: `recurrent`, `latent` (MLA), `experts` or `dense`."""
    structure = structure_of(model)
    mixers = {type(mixer) for mixer, _ in structure.mixers}
    if RecurrentMixer in mixers:
        return "recurrent"
    if LatentAttention in mixers:
        return "latent"
    return "experts" if structure.expert_layers else "dense"


def _calibrated(metric: str, basis: Basis, stratum: str) -> Factors:
    """The factors of the strongest tier, from `basis` on, that has a row for the stratum or for all strata."""
    for tier in list(Basis)[basis.rank :]:
        for name in (stratum, ""):
            if (metric, tier.value, name) in _table():
                return _table()[(metric, tier.value, name)]
    return WIDEST


@lru_cache(maxsize=1)
def _table() -> dict[tuple[str, str, str], Factors]:
    return {
        (row["metric"], row["basis"], row.get("stratum", "")): (float(row["below"]), float(row["above"])) for row in table("ranges.csv")
    }
