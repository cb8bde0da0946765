"""How often ranges of times held on sources that were left out: tables of docs/accuracy.md."""

import csv
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from statistics import fmean

from advisor.rendering.text.validation import percent_words
from advisor.validation.errors import ComparedCase
from advisor.validation.targets import COVERED_PCT
from tools.markdown import table
from tools.source_ranges import (
    EXTERNAL,
    FITTED,
    LEFT_OUT,
    LeftOutCoverage,
    LeftOutError,
    by_source,
    left_out_coverages,
    stretch_of,
    weighted_quantile,
)

NOT_MEASURED = "not measured"
MOVED = 0.01
"""Relative change of a prediction from which its stored error is of an earlier estimator."""


def coverage_words(coverages: Iterable[LeftOutCoverage], metric: str, table_name: str) -> str:
    """Share of a metric's rows inside, each source of the table with the same weight, and how many sources."""
    shares = [item.share for item in coverages if (item.metric, item.table) == (metric, table_name)]
    return f"{percent_words(100 * fmean(shares))} of {len(shares)}" if shares else NOT_MEASURED


def external_median_error(errors: Iterable[LeftOutError], metric: str) -> str:
    """Median |predicted − measured|/measured of a metric on sources that no constant has seen, each with the same weight."""
    sources = by_source(error for error in errors if (error.metric, error.table) == (metric, EXTERNAL))
    weighted = sorted((error.relative, 1 / len(members)) for members in sources.values() for error in members)
    return percent_words(100 * weighted_quantile(weighted, 0.5)) if weighted else NOT_MEASURED


def coverage_section(errors: Sequence[LeftOutError]) -> Iterator[str]:
    """Tables of coverage by metric and by source, with what they mean."""
    stretch = stretch_of(errors)
    coverages, fully = left_out_coverages(errors, stretch), left_out_coverages(errors)
    low, high = COVERED_PCT
    yield (
        "A range promises to hold 90 % of what the next laboratory publishes. So each source is left out, and its rows are compared with "
        f"ranges of the other sources' errors alone, stretched by {stretch:.2f} as all shipped ranges are. A row of the table averages "
        "over sources, each with the same weight, however many rows it has. *Fitted* are publications that constants were fitted on, "
        "predicted here by constants fitted without them; *external* are those of `benchmarks/published/field.csv`, which nothing was ever "
        f"fitted to. The target is {low:.0f} to {high:.0f} % over both. In the last column the stretch, too, is of the other sources alone."
    )
    rows = []
    for metric in sorted({item.metric for item in coverages}):
        shares = [100 * item.share for item in coverages if item.metric == metric]
        strictly = [100 * item.share for item in fully if item.metric == metric]
        words = "reached" if low <= fmean(shares) <= high else "**missed**"
        covered = (coverage_words(coverages, metric, name) for name in (FITTED, EXTERNAL))
        rows.append((metric, *covered, f"{percent_words(fmean(shares))} of {len(shares)}", words, percent_words(fmean(strictly))))
    yield table(("metric", "held, of fitted sources", "of external sources", "of both", "", "of both, stretch of the others"), rows)
    yield "Every external source:"
    external = [item for item in coverages if item.table == EXTERNAL]
    lines = [(item.source, item.metric, str(item.rows), percent_words(100 * item.share)) for item in sorted(external, key=_by_source)]
    yield table(("source", "metric", "rows", "held"), lines)


def stale_words(external: Iterable[ComparedCase], path: Path = LEFT_OUT) -> Iterator[str]:
    """A sentence where the estimator has changed since the errors in `path` were stored; `external` are its predictions of today."""
    today = {(item.case.case_id, item.case.metric): item.predicted.value for item in external if item.predicted is not None}
    with path.open(encoding="utf-8", newline="") as file:
        stored = {(row["case_id"], row["metric"]): float(row["predicted"]) for row in csv.DictReader(file) if row["table"] == EXTERNAL}
    moved = sum(key not in today or abs(today[key] / value - 1) > MOVED for key, value in stored.items())
    if moved:
        yield (
            f"The estimator has changed since: {moved} of {len(stored)} predictions of external sources moved by more than "
            f"{100 * MOVED:.0f} %. `make calibrate` makes the ranges anew."
        )


def _by_source(item: LeftOutCoverage) -> tuple[str, str]:
    return item.source, item.metric
