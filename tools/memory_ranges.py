"""The 90 % range of predicted memory: split-conformal quantiles of its errors, tested on clusters left out.

A score is linear, in units of the part of memory that shapes do not give: weights and cache are exact, the rest is estimated. A
cluster is one model in one source; each weighs as the square root of its rows, so that one large table does not rule. Rows of a cluster
err together, so the range is tested on clusters left out and stretched around 0, within bounds, until 90 % of their rows fall inside.
"""

import csv
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from advisor.backends.deployment import Batching, BatchPolicy, Deployment, KvCache, KvLayout, Parallel, Weights
from advisor.estimate.memory.cache import device_kv_bytes
from advisor.estimate.memory.ledger import device_weight_bytes, ledger
from advisor.profiles.engines import load_engine
from advisor.profiles.formats import GIB
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load, Workload
from advisor.validation.cases import PublishedCase
from advisor.validation.predict import GB, estimator_for

COVERAGE = 0.9
POOLS = Path(__file__).parents[1] / "benchmarks" / "published" / "kv_pools.csv"
POOL_TOKENS = 8192
"""Length that bytes of a pool are turned into tokens at: long enough for windows to be full."""
FEWEST_PER_SIDE = 39
"""Comparisons from which the quantiles of both sides leave at least one out."""
STRETCHES = tuple(step / 20 for step in range(16, 27))
"""0.8 to 1.3: with a handful of clusters, the odd one out would widen every range without bound."""


@dataclass(frozen=True, slots=True)
class Score:
    """Error of one prediction, 0 for none."""

    value: float
    cluster: str


def memory_scores(
    settings: Iterable[tuple[PublishedCase, Deployment, Workload]], predicted: Mapping[tuple[str, str], float]
) -> Iterator[Score]:
    """Scores of peak memory in a table of cases. `predicted` is in 10^9 bytes, by case and metric."""
    for case, deployment, workload in settings:
        total = predicted.get((case.case_id, case.metric))
        if case.metric == "peak_memory_gb" and total is not None:
            memory = ledger(deployment, workload, load_engine(deployment.engine), workload.concurrency or 1)
            yield Score((case.measured - total) / (total - memory.exact_bytes / GB), f"{case.source} {case.model}")


def pool_scores(path: Path) -> list[Score]:
    """Scores of memory that is neither weights nor cache, from the cache sizes that engines reported.

    Versions before those of the engine's profile sized their caches in other ways.
    """
    with path.open(encoding="utf-8", newline="") as file:
        return [_pool_score(row) for row in csv.DictReader(file) if not _before_its_profile(row)]


def _before_its_profile(row: dict[str, str]) -> bool:
    first = load_engine(row["engine"]).versions.partition("-")[0]
    return bool(row["version"]) and _release(row["version"]) < _release(first)


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2])


def _pool_score(row: dict[str, str]) -> Score:
    engine, estimator = load_engine(row["engine"]), estimator_for(row["hardware"], row["engine"], float(row["memory_share"]))
    slots, budget = int(row["max_sequences"] or estimator.engine.max_sequences), int(row["token_budget"] or 0)
    deployment = Deployment(
        model=find_model(row["model"]),
        weights=Weights(row["weights"]),
        kv=KvCache(KvLayout.PAGED, engine.block_tokens, row["kv"]),
        batching=Batching(BatchPolicy.CONTINUOUS, slots, budget),
        parallel=Parallel(tensor=int(row["tp"]), pipeline=int(row["pp"])),
        engine=engine.name,
    )
    footprint = estimator.memory.footprint(deployment, Workload(prompt_tokens=POOL_TOKENS, output_tokens=1, load=Load.OFFLINE))
    rest, pool = footprint.fixed_bytes - device_weight_bytes(deployment), estimator.memory.budget_bytes - footprint.fixed_bytes
    published = float(row["kv_tokens"] or 0) / POOL_TOKENS * device_kv_bytes(deployment, POOL_TOKENS) or float(row["kv_gib"]) * GIB
    return Score((pool - published) / rest, f"{row['source']} {row['model']}")


def factors_of(scores: Sequence[Score]) -> tuple[float, float]:
    """Factors of `ranges.csv` for memory: the inverse of one plus what a prediction may be too high, and one plus what too low."""
    (low, high), (stretch, _) = conformal_bounds(scores), stretched(scores)
    return 1 / (1 - stretch * low), 1 + stretch * high


def conformal_bounds(scores: Sequence[Score]) -> tuple[float, float]:
    """Bounds around 0 that contain 90 % of new scores; a cluster weighs as the square root of its rows."""
    rows = Counter(score.cluster for score in scores)
    weights = [rows[score.cluster] ** -0.5 for score in scores]
    values = [score.value for score in scores]
    if effective_size(weights) < FEWEST_PER_SIDE:
        both = conformal_quantile([abs(value) for value in values], weights, 1 - COVERAGE)
        return -both, both
    tail = (1 - COVERAGE) / 2
    low, high = -conformal_quantile([-value for value in values], weights, tail), conformal_quantile(values, weights, tail)
    return min(low, 0.0), max(high, 0.0)


def conformal_quantile(values: Sequence[float], weights: Sequence[float], tail: float) -> float:
    """The smallest value with at least ceil((n + 1)(1 − tail))/n of the weight at or below it; the largest where there is none.

    n is the effective number of weighted values: n itself when all weigh the same.
    """
    total, effective = sum(weights), effective_size(weights)
    level = min(math.ceil(round((effective + 1) * (1 - tail), 9)) / effective, 1.0)
    passed = 0.0
    for value, weight in sorted(zip(values, weights, strict=True)):
        passed += weight
        if passed >= level * total * (1 - 1e-12):
            return value
    return max(values)


def effective_size(weights: Sequence[float]) -> float:
    """Effective sample size of weighted values (Kish): (Σw)²/Σw²."""
    return sum(weights) ** 2 / sum(weight**2 for weight in weights)


def stretched(scores: Sequence[Score]) -> tuple[float, float]:
    """The least stretch with which 90 % of the rows of a cluster left out fall inside what the others say, and that share."""
    clusters: dict[str, list[float]] = {}
    for score in scores:
        clusters.setdefault(score.cluster, []).append(score.value)
    bounds = {name: conformal_bounds([score for score in scores if score.cluster != name] or scores) for name in clusters}
    share = 0.0
    for stretch in STRETCHES:
        inside = weight = 0.0
        for name, values in clusters.items():
            low, high = bounds[name]
            # As one large table does not rule the range, it does not rule its test.
            scale = len(values) ** -0.5
            inside += scale * sum(stretch * low <= value <= stretch * high for value in values)
            weight += scale * len(values)
        share = inside / weight
        if share >= COVERAGE:
            return stretch, share
    return STRETCHES[-1], share
