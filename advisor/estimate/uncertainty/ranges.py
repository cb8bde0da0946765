"""How far predictions have been off: factors around a predicted value that hold 90 % of the measurements, by metric, tier and stratum.

`profiles/evidence/ranges.csv` holds them, written by `tools/calibrate.py`. A stratum is what physics makes less certain; a metric and
tier too rarely compared to be split has one line for all. Memory's factors say how many times the part that shapes do not give exactly
a prediction may be off: 1/below − 1 times too high, above − 1 times too low.
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
"""For a metric and a basis that were never compared with measurements."""
SINGLE_STREAM = "one stream"
"""Nothing waits for anything else: latency of weights and launches alone."""
SPREAD_EXPERTS = "spread experts"
"""Replicas that share experts wait for the slowest of them, and how uneven they are depends on the requests."""
POOL = "pool"
"""The engine measures a trial step and gives the rest to its cache: published pools say how right the ledger's rest is."""
OUTSIDE = "outside"
"""Of a setting unlike all that was compared: every engine, kind of model and device weighs the same, however often it was compared."""

Factors = tuple[float, float]


def spread(metric: str, basis: Basis, stratum: str = "", *, outside: bool = False) -> Factors:
    """Factors below and above a predicted value that hold 90 % of the measurements it was compared with.

    A tier without comparisons takes the next weaker one's; `outside` of what was compared, the range is at least that of a stranger.
    """
    factors = _known(metric, basis, stratum)
    return wider(factors, _table().get((metric, "", OUTSIDE), WIDEST)) if outside else factors


def contended_spread(metric: str, basis: Basis, stratum: str = "") -> Factors:
    """The factors where other load ran while the machine was measured: at least those of the next weaker tier."""
    tiers = list(Basis)
    weaker = tiers[min(basis.rank + 1, len(tiers) - 1)]
    return wider(_known(metric, basis, stratum), _known(metric, weaker, stratum))


def wider(one: Factors, other: Factors) -> Factors:
    """A range that holds both."""
    return min(one[0], other[0]), max(one[1], other[1])


def stratum_of(metric: str, deployment: Deployment, workload: Workload | None) -> str:
    """What a prediction of `metric` is grouped with."""
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
    """The least certain of a model's parts: `recurrent` states, `latent` caches, routed `experts`, or `dense`."""
    structure = structure_of(model)
    mixers = {type(mixer) for mixer, _ in structure.mixers}
    if RecurrentMixer in mixers:
        return "recurrent"
    if LatentAttention in mixers:
        return "latent"
    return "experts" if structure.expert_layers else "dense"


def _known(metric: str, basis: Basis, stratum: str) -> Factors:
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
