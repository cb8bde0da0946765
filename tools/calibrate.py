"""Set the 90 % ranges of predictions from published measurements; writes ranges.csv and domain.csv of profiles/evidence.

usage: python tools/calibrate.py CASES.CSV ROWS.CSV [HELD_OUT.CSV] [--out FOLDER]

ROWS.CSV is what `advisor validate CASES.CSV --rows ROWS.CSV` writes. HELD_OUT.CSV has case_id, metric, measured, predicted and basis
of rows predicted with constants that were fitted without their source or without their model: they take the place of the same rows.

Split-conformal, per metric and tier, and per stratum where there are enough rows of enough clusters: of the score, which is the
logarithm of measured over predicted, the finite-sample quantiles that leave 5 % on each side, or 10 % on both where there are too few
for that. A cluster is one model in one source; each weighs as the square root of its rows, so that one large table does not rule.
Rows of a cluster err together, so the range is tested on clusters left out and stretched around 1, within bounds, until 90 % of their
rows fall inside. Memory's score is linear, in units of the part that shapes do not give, and of all tiers together, since kernels do
not matter to it.
Lines of the tier `profiled` stay as they are.
"""

import argparse
import csv
import math
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from advisor.backends.deployment import Batching, BatchPolicy, Deployment, KvCache, KvLayout, Parallel, Weights
from advisor.estimate.memory.cache import device_kv_bytes
from advisor.estimate.memory.ledger import device_weight_bytes, ledger
from advisor.estimate.uncertainty.domain import names_of, sizes_of
from advisor.estimate.uncertainty.ranges import OUTSIDE, POOL, model_kind, stratum_of
from advisor.profiles.engines import load_engine
from advisor.profiles.errors import AdvisorError
from advisor.profiles.evidence import FOLDER
from advisor.profiles.files import write_csv
from advisor.profiles.formats import GIB
from advisor.profiles.metrics import Basis
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Load, Workload
from advisor.validation.cases import CaseConfiguration, PublishedCase, UnpredictableCaseError, read_cases
from advisor.validation.errors import grouped
from advisor.validation.predict import GB, deployment_of, estimator_for, workload_of

MEMORY_BASIS = Basis.DATASHEET.value
"""The tier whose ranges serve where no other has any."""
METRICS = {
    "ttft_ms": "ttft",
    "tpot_ms": "tpot",
    "decode_tok_s_single_stream": "tpot",
    "output_tok_s_total": "throughput",
    "output_tok_s_per_gpu": "throughput",
    "prefill_tok_s": "prefill",
    "peak_memory_gb": "memory",
}
RANGE_COLUMNS = ("metric", "basis", "stratum", "below", "above", "comparisons")
DOMAIN_COLUMNS = ("dimension", "name", "least", "most", "comparisons")
COVERAGE = 0.9
FEWEST = 20
"""Comparisons below which a line is not written: the next weaker tier's range serves."""
FEWEST_OF_A_STRATUM, FEWEST_CLUSTERS = 40, 3
"""Below these, a stratum has no line of its own, and no metric a line for unknown clusters."""
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


@dataclass(frozen=True, slots=True)
class Row:
    """One comparison with everything it is grouped by."""

    metric: str
    basis: str
    stratum: str
    score: float
    cluster: str
    """Source and model: rows that err together."""
    relatives: str
    """Engine, kind of model and hardware: what a setting outside of the domain differs in."""
    deployment: Deployment
    workload: Workload


def main() -> None:
    """Read, calibrate, write, and print what sources that were left out say of each line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("rows", type=Path)
    parser.add_argument("held_out", type=Path, nargs="?")
    parser.add_argument("--out", type=Path, default=FOLDER)
    arguments = parser.parse_args()
    rows = list(scored(read_cases(arguments.cases), predictions(arguments.rows, arguments.held_out)))
    lines = [*_profiled(arguments.out / "ranges.csv"), *range_lines(rows), _line("memory", MEMORY_BASIS, POOL, pool_scores(POOLS))]
    write_csv(arguments.out / "ranges.csv", RANGE_COLUMNS, lines)
    write_csv(arguments.out / "domain.csv", DOMAIN_COLUMNS, domain_lines(rows))


def predictions(rows: Path, held_out: Path | None) -> Iterator[dict[str, str]]:
    """The predicted rows, those held out first and instead."""
    replaced: set[tuple[str, str]] = set()
    for path in (held_out, rows):
        if path is not None:
            with path.open(encoding="utf-8", newline="") as file:
                selected = [row for row in csv.DictReader(file) if row["predicted"] and (row["case_id"], row["metric"]) not in replaced]
            yield from selected
            replaced |= {(row["case_id"], row["metric"]) for row in selected}


def scored(cases: Iterable[PublishedCase], predicted: Iterable[dict[str, str]]) -> Iterator[Row]:
    """Predictions of stated precision with their scores and strata."""
    by_key = {(case.case_id, case.metric): case for case in cases if case.precision_stated and case.metric in METRICS}
    for row in predicted:
        case = by_key.get((row["case_id"], row["metric"]))
        if case is None or case.configuration is None or (setting := _deployment_and_workload(case.configuration)) is None:
            continue
        deployment, workload = setting
        metric = METRICS[case.metric]
        yield Row(
            metric,
            MEMORY_BASIS if metric == "memory" else row["basis"],
            stratum_of(metric, deployment, workload),
            _score(case, float(row["predicted"]), deployment, workload),
            f"{case.source} {case.model}",
            f"{case.engine} {model_kind(deployment.model)} {case.hardware}",
            deployment,
            workload,
        )


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


@lru_cache(maxsize=8192)
def _deployment_and_workload(setting: CaseConfiguration) -> tuple[Deployment, Workload] | None:
    try:
        model, engine = find_model(setting.model), load_engine(setting.engine)
        return deployment_of(setting, model, engine), workload_of(setting)
    except (AdvisorError, UnpredictableCaseError):
        return None


def _score(case: PublishedCase, predicted: float, deployment: Deployment, workload: Workload) -> float:
    if case.metric == "decode_tok_s_single_stream":
        return math.log(predicted / case.measured)
    if case.metric != "peak_memory_gb":
        return math.log(case.measured / predicted)
    memory = ledger(deployment, workload, load_engine(deployment.engine), workload.concurrency or 1)
    return (case.measured - predicted) / (predicted - memory.exact_bytes / GB)


def range_lines(rows: Sequence[Row]) -> Iterator[tuple[object, ...]]:
    """A line per metric and tier, one per stratum of it that is compared often enough, and one per metric for strangers."""
    for (metric, basis), group in sorted(grouped(rows, lambda row: (row.metric, row.basis)).items()):
        if len(group) >= FEWEST:
            yield _line(metric, basis, "", [Score(row.score, row.cluster) for row in group])
        for stratum, some in sorted(grouped(group, lambda row: row.stratum).items()):
            clusters = {row.cluster for row in some}
            if stratum and len(some) >= FEWEST_OF_A_STRATUM and len(clusters) >= FEWEST_CLUSTERS:
                yield _line(metric, basis, stratum, [Score(row.score, row.cluster) for row in some])
    for metric, group in sorted(grouped(rows, lambda row: row.metric).items()):
        if len({row.relatives for row in group}) >= FEWEST_CLUSTERS:
            yield _line(metric, "", OUTSIDE, [Score(row.score, row.relatives) for row in group], power=1.0)


def _line(metric: str, basis: str, stratum: str, scores: list[Score], *, power: float = 0.5) -> tuple[object, ...]:
    low, high = conformal_bounds(scores, power)
    stretch, inside = stretched(scores, power)
    ends = (stretch * low, stretch * high)
    below, above = (1 / (1 - ends[0]), 1 + ends[1]) if metric == "memory" else (math.exp(end) for end in ends)
    said = f"stretched {stretch:.2f}, of clusters left out {100 * inside:.1f} % inside"
    print(f"{metric:11s} {basis:13s} {stratum:15s} {len(scores):5d} rows, {said}: {below:.3f} to {above:.3f}", file=sys.stderr)
    return metric, basis, stratum, f"{below:.3f}", f"{above:.3f}", len(scores)


def conformal_bounds(scores: Sequence[Score], power: float = 0.5) -> tuple[float, float]:
    """Bounds around 0 that contain 90 % of new scores; a cluster weighs as its rows to the power of 1 − `power`."""
    rows = Counter(score.cluster for score in scores)
    weights = [rows[score.cluster] ** -power for score in scores]
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


def stretched(scores: Sequence[Score], power: float = 0.5) -> tuple[float, float]:
    """The least stretch with which 90 % of the rows of a cluster left out fall inside what the others say, and that share."""
    clusters: dict[str, list[float]] = {}
    for score in scores:
        clusters.setdefault(score.cluster, []).append(score.value)
    bounds = {name: conformal_bounds([score for score in scores if score.cluster != name] or scores, power) for name in clusters}
    share = 0.0
    for stretch in STRETCHES:
        inside = weight = 0.0
        for name, values in clusters.items():
            low, high = bounds[name]
            # As one large table does not rule the range, it does not rule its test.
            scale = len(values) ** -power
            inside += scale * sum(stretch * low <= value <= stretch * high for value in values)
            weight += scale * len(values)
        share = inside / weight
        if share >= COVERAGE:
            return stretch, share
    return STRETCHES[-1], share


def domain_lines(rows: Sequence[Row]) -> Iterator[tuple[object, ...]]:
    """The calibration domain: every name, and the smallest and largest value of every size."""
    names = Counter(pair for row in rows for pair in names_of(row.deployment))
    for (dimension, name), count in sorted(names.items()):
        yield dimension, name, "", "", count
    sizes: dict[str, list[int]] = {}
    for row in rows:
        for dimension, size in sizes_of(row.deployment, row.workload):
            sizes.setdefault(dimension, []).append(size)
    for dimension, values in sizes.items():
        yield dimension, "", min(values), max(values), len(values)


def _profiled(path: Path) -> list[tuple[object, ...]]:
    """The lines of the tier `profiled`, as they are in the file."""
    if not path.exists():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [tuple(row.get(name, "") for name in RANGE_COLUMNS) for row in csv.DictReader(file) if row["basis"] == "profiled"]


if __name__ == "__main__":
    main()
