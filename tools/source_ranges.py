"""Ranges that hold 90 % of what the next laboratory publishes: quantiles of errors over whole sources, tested on sources left out.

Errors within a source resemble each other, so a source is one cluster, and each has the same weight, however many rows it has
(Dunn, Wasserman and Ramdas, "Distribution-free prediction sets for two-layer hierarchical models", JASA 2022: pooled weighted CDF).
With a dozen sources the quantiles of the others are too narrow for the next one. How much is measured: each source is left out, and
each of its rows needs some factor by which the range of the other sources has to be stretched around 1 (on a scale of logarithms) to
contain it. The 90 % quantile of those factors, every metric and every source of a metric with the same weight, is the stretch of all
ranges. One number for all metrics, since no metric alone has sources enough to tell it.
"""

import csv
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

LEFT_OUT = Path(__file__).parents[1] / "benchmarks" / "results" / "left-out.csv"
"""Every row predicted by constants that were fitted without its source; `make calibrate` writes it."""
COLUMNS = ("case_id", "metric", "table", "source", "measured", "predicted")
FITTED, EXTERNAL = "fitted", "external"
"""Tables: sources that constants were fitted on, here without the source itself; and sources that nothing was fitted to."""
COVERAGE = 0.9
TIMES = {
    "ttft_ms": "ttft",
    "tpot_ms": "tpot",
    "decode_tok_s_single_stream": "tpot",
    "output_tok_s_total": "throughput",
    "output_tok_s_per_gpu": "throughput",
    "prefill_tok_s": "prefill",
}
"""Metric of `ranges.csv` by published metric. Decoding one sequence is the inverse of TPOT and shares its range."""
SAME_METRIC = {"output_tok_s_per_gpu": "output_tok_s_total"}
"""Published metrics that are one number in two units."""
INVERTED = frozenset({"decode_tok_s_single_stream"})
"""Rates whose range is that of a time."""
LEAST_BOUND = 0.05
"""Least distance of a bound from 0: the stretch multiplies it."""


@dataclass(frozen=True, slots=True)
class LeftOutError:
    """One measurement and its prediction without its source."""

    metric: str
    """As published."""
    table: str
    source: str
    value: float
    """Logarithm of measured over predicted, of the quantity that the range is of: 0 for no error."""

    @property
    def ranged(self) -> str:
        """The metric of `ranges.csv`."""
        return TIMES[self.metric]

    @property
    def relative(self) -> float:
        """|predicted − measured|/measured of the published metric."""
        return abs(math.exp(self.value if self.metric in INVERTED else -self.value) - 1)


@dataclass(frozen=True, slots=True)
class LeftOutCoverage:
    """How much of a source that was left out fell inside the ranges of the others."""

    metric: str
    table: str
    source: str
    rows: int
    share: float
    """0 to 1."""


Bounds = tuple[float, float]


def read_errors(path: Path = LEFT_OUT) -> list[LeftOutError]:
    """The errors in a table with `COLUMNS`."""
    with path.open(encoding="utf-8", newline="") as file:
        return [error_of(row) for row in csv.DictReader(file)]


def error_of(row: Mapping[str, str]) -> LeftOutError:
    """The error in a row with `COLUMNS`."""
    value = math.log(float(row["measured"]) / float(row["predicted"]))
    metric = SAME_METRIC.get(row["metric"], row["metric"])
    return LeftOutError(metric, row["table"], row["source"], -value if metric in INVERTED else value)


def bounds_of(errors: Iterable[LeftOutError]) -> Bounds:
    """Quantiles that leave 5 % on each side of errors in which every source weighs the same; 0 lies between them."""
    sources = by_source(errors)
    weighted = sorted((error.value, 1 / len(members)) for members in sources.values() for error in members)
    tail = (1 - COVERAGE) / 2
    low, high = (weighted_quantile(weighted, share) for share in (tail, 1 - tail))
    return min(low, -LEAST_BOUND), max(high, LEAST_BOUND)


def weighted_quantile(weighted: Sequence[tuple[float, float]], share: float) -> float:
    """The smallest of sorted values, each with its weight, with at least `share` of the weight at or below it."""
    needed, passed = share * sum(weight for _, weight in weighted), 0.0
    for value, weight in weighted:
        passed += weight
        if passed >= needed * (1 - 1e-9):
            return value
    return weighted[-1][0]


def stretch_of(errors: Sequence[LeftOutError]) -> float:
    """The factor by which ranges of the other sources contain 90 % of a source left out, over sources and metrics."""
    needed = needed_stretches(errors)
    metrics = {metric for metric, _ in needed}
    sources_of = {metric: sum(other == metric for other, _ in needed) for metric in metrics}
    weighted = sorted(
        (value, 1 / len(values) / sources_of[metric] / len(metrics)) for (metric, _), values in needed.items() for value in values
    )
    return weighted_quantile(weighted, COVERAGE)


def needed_stretches(errors: Sequence[LeftOutError]) -> dict[tuple[str, tuple[str, str]], list[float]]:
    """By metric, table and source: the factor for each row by which bounds of the other sources must be stretched to contain it."""
    needed: dict[tuple[str, tuple[str, str]], list[float]] = {}
    for ranged in sorted({error.ranged for error in errors}):
        sources = by_source(error for error in errors if error.ranged == ranged)
        for name, members in sources.items():
            others = [error for other, group in sources.items() if other != name for error in group]
            if others:
                low, high = bounds_of(others)
                for error in members:
                    stretch = error.value / (high if error.value > 0 else low)
                    needed.setdefault((error.metric, (error.table, error.source)), []).append(stretch)
    return needed


def left_out_coverages(errors: Sequence[LeftOutError], stretch: float | None = None) -> list[LeftOutCoverage]:
    """For every metric and source, the share inside the range of the other sources.

    Stretched by `stretch`, or, where that is `None`, by what the other sources alone say that it is.
    """
    own = dict.fromkeys(by_source(errors), stretch) if stretch is not None else _stretches_without_each(errors)
    return [
        LeftOutCoverage(metric, *name, len(values), sum(value <= own[name] for value in values) / len(values))
        for (metric, name), values in sorted(needed_stretches(errors).items())
    ]


def _stretches_without_each(errors: Sequence[LeftOutError]) -> dict[tuple[str, str], float]:
    sources = by_source(errors)
    return {name: stretch_of([error for error in errors if (error.table, error.source) != name]) for name in sources}


def factors_of(errors: Sequence[LeftOutError], stretch: float) -> dict[str, Bounds]:
    """By metric of `ranges.csv`, the factors around a prediction that contain 90 % of the next source."""
    factors = {}
    for ranged in sorted({error.ranged for error in errors}):
        low, high = bounds_of(error for error in errors if error.ranged == ranged)
        factors[ranged] = (math.exp(stretch * low), math.exp(stretch * high))
    return factors


def by_source(errors: Iterable[LeftOutError]) -> dict[tuple[str, str], list[LeftOutError]]:
    """Errors by table and source."""
    sources: dict[tuple[str, str], list[LeftOutError]] = {}
    for error in errors:
        sources.setdefault((error.table, error.source), []).append(error)
    return sources
