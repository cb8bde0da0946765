"""Set the 90 % ranges of predictions from published measurements; writes ranges.csv and domain.csv of profiles/evidence.

usage: python -m tools.calibrate FITTED.CSV FITTED_ROWS.CSV HELD_OUT.CSV EXTERNAL.CSV EXTERNAL_ROWS.CSV [--out FOLDER]
       [--left-out LEFT_OUT.CSV]

FITTED.CSV holds the cases that constants were fitted on, EXTERNAL.CSV those that no constant has seen; the tables of rows are what
`advisor validate CASES.CSV --rows ROWS.CSV` writes of both. HELD_OUT.CSV, of `tools/cross_validate.py`, has rows of FITTED.CSV predicted by
constants that were fitted without their source.

Ranges of times hold 90 % of the next source (`tools/source_ranges.py`): of HELD_OUT.CSV and of EXTERNAL.CSV, whose predictions are written
to LEFT_OUT.CSV. Every tier but `profiled` has the same: no metric has eight sources in each tier, and with fewer the difference between
tiers cannot be told from that between laboratories. Memory's range is of `tools/memory_ranges.py`, on FITTED.CSV and on cache pools.
Lines of the tier `profiled` stay as they are: they describe the machine that is planned for and no other.
"""

import argparse
import csv
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from pathlib import Path

from advisor.backends.deployment import Deployment
from advisor.estimate.uncertainty.domain import names_of, sizes_of
from advisor.estimate.uncertainty.ranges import POOL
from advisor.profiles.engines import load_engine
from advisor.profiles.errors import AdvisorError
from advisor.profiles.evidence import FOLDER
from advisor.profiles.files import write_csv
from advisor.profiles.metrics import Basis
from advisor.profiles.model_store import find_model
from advisor.profiles.request import Workload
from advisor.validation.cases import CaseConfiguration, PublishedCase, UnpredictableCaseError, read_cases
from advisor.validation.predict import deployment_of, workload_of
from tools import memory_ranges, source_ranges
from tools.source_ranges import EXTERNAL, FITTED, LEFT_OUT, TIMES

WEAKEST = Basis.DATASHEET.value
"""The tier whose ranges serve where no other has any."""
RANGE_COLUMNS = ("metric", "basis", "stratum", "below", "above", "comparisons", "sources")
DOMAIN_COLUMNS = ("dimension", "name", "least", "most", "comparisons")

RangeLine = tuple[str, str, str, str, str, int | str, int | str]
Setting = tuple[PublishedCase, Deployment, Workload]
Predicted = dict[tuple[str, str], float]
"""Predictions by case and metric."""


def main() -> None:
    """Read, calibrate, write, and print what sources that were left out say of each metric."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("fitted", "fitted_rows", "held_out", "external", "external_rows"):
        parser.add_argument(name, type=Path)
    parser.add_argument("--out", type=Path, default=FOLDER)
    parser.add_argument("--left-out", type=Path, default=LEFT_OUT)
    paths = parser.parse_args()
    fitted, external = (list(settings_of(read_cases(path))) for path in (paths.fitted, paths.external))
    fitted_rows, held_out, external_rows = (predictions(path) for path in (paths.fitted_rows, paths.held_out, paths.external_rows))
    write_csv(
        paths.left_out, source_ranges.COLUMNS, [*left_out_rows(FITTED, fitted, held_out), *left_out_rows(EXTERNAL, external, external_rows)]
    )
    errors = source_ranges.read_errors(paths.left_out)
    pools = memory_ranges.pool_scores(memory_ranges.POOLS)
    memory = [memory_line("", list(memory_ranges.memory_scores(fitted, fitted_rows))), memory_line(POOL, pools)]
    write_csv(paths.out / "ranges.csv", RANGE_COLUMNS, [*profiled_lines(paths.out / "ranges.csv"), *time_lines(errors), *memory])
    compared = [item for items, rows in ((fitted, fitted_rows), (external, external_rows)) for item in items if _key(item[0]) in rows]
    write_csv(paths.out / "domain.csv", DOMAIN_COLUMNS, domain_lines(compared))
    for line in coverage_lines(errors):
        print(line, file=sys.stderr)


def predictions(path: Path) -> Predicted:
    """The predicted rows of a table with case_id, metric and predicted."""
    with path.open(encoding="utf-8", newline="") as file:
        return {(row["case_id"], row["metric"]): float(row["predicted"]) for row in csv.DictReader(file) if row["predicted"]}


def settings_of(cases: Iterable[PublishedCase]) -> Iterator[Setting]:
    """Cases of stated precision that a range is of, with what they ran."""
    for case in cases:
        if case.precision_stated and case.configuration is not None and (case.metric in TIMES or case.metric == "peak_memory_gb"):
            setting = _deployment_and_workload(case.configuration)
            if setting is not None:
                yield case, *setting


@lru_cache(maxsize=8192)
def _deployment_and_workload(setting: CaseConfiguration) -> tuple[Deployment, Workload] | None:
    try:
        model, engine = find_model(setting.model), load_engine(setting.engine)
        return deployment_of(setting, model, engine), workload_of(setting)
    except (AdvisorError, UnpredictableCaseError):
        return None


def left_out_rows(table: str, settings: Iterable[Setting], predicted: Predicted) -> Iterator[tuple[str, ...]]:
    """Lines of LEFT_OUT.CSV: the times among the cases that were predicted."""
    for case, _, _ in settings:
        if case.metric in TIMES and _key(case) in predicted:
            numbers = (f"{case.measured:.4g}", f"{predicted[_key(case)]:.4g}")
            yield case.case_id, case.metric, table, case.publisher, *numbers


def _key(case: PublishedCase) -> tuple[str, str]:
    return case.case_id, case.metric


def time_lines(errors: Sequence[source_ranges.LeftOutError]) -> Iterator[RangeLine]:
    """The lines of `ranges.csv` for times, by errors of sources left out."""
    stretch = source_ranges.stretch_of(errors)
    for metric, (below, above) in source_ranges.factors_of(errors, stretch).items():
        members = [error for error in errors if error.ranged == metric]
        yield metric, WEAKEST, "", f"{below:.3f}", f"{above:.3f}", len(members), len(source_ranges.by_source(members))


def memory_line(stratum: str, scores: Sequence[memory_ranges.Score]) -> RangeLine:
    """A line of `ranges.csv` for memory."""
    below, above = memory_ranges.factors_of(scores)
    return "memory", WEAKEST, stratum, f"{below:.3f}", f"{above:.3f}", len(scores), ""


def profiled_lines(path: Path) -> list[RangeLine]:
    """The lines of the tier `profiled`, as they are in the file."""
    with path.open(encoding="utf-8", newline="") as file:
        rows = [row for row in csv.DictReader(file) if row["basis"] == Basis.PROFILED.value]
    return [
        (row["metric"], row["basis"], row["stratum"], row["below"], row["above"], row["comparisons"], row.get("sources") or "")
        for row in rows
    ]


def domain_lines(compared: Sequence[Setting]) -> Iterator[tuple[object, ...]]:
    """The calibration domain: every name, and the smallest and largest value of every size."""
    names = Counter(pair for _, deployment, _ in compared for pair in names_of(deployment))
    for (dimension, name), count in sorted(names.items()):
        yield dimension, name, "", "", count
    sizes: dict[str, list[int]] = {}
    for _, deployment, workload in compared:
        for dimension, size in sizes_of(deployment, workload):
            sizes.setdefault(dimension, []).append(size)
    for dimension, values in sizes.items():
        yield dimension, "", min(values), max(values), len(values)


def coverage_lines(errors: Sequence[source_ranges.LeftOutError]) -> Iterator[str]:
    """A sentence for each metric: what fell inside the ranges of the other sources."""
    stretch = source_ranges.stretch_of(errors)
    coverages = source_ranges.left_out_coverages(errors, stretch)
    yield f"ranges of the other sources, stretched {stretch:.3f}, hold of a source left out:"
    for metric in sorted({item.metric for item in coverages}):
        members = [item for item in coverages if item.metric == metric]
        mean = sum(item.share for item in members) / len(members)
        yield f"{metric:28s} {100 * mean:.1f} % ({len(members)} sources; least {100 * min(item.share for item in members):.0f} %)"


if __name__ == "__main__":
    main()
