"""Cross-validate the engines' constants: predict every published time by constants fitted without its source, and without its model.

usage: python -m tools.cross_validate CASES.CSV [--out CROSS.JSON] [--rows HELD_OUT.CSV] [--fast]

Two partitions. A source is everything published on one day by one publication, since neighbouring cells of one table, and tables
measured twice in a day, leak into each other. A model is an architecture: DeepSeek-R1 and V3 are one. For each part the
constants of every engine in it are fitted again without it. The order of events in the simulations is the one that the shipped
constants lead to; it hardly depends on them. Only engines whose constants `tools/fit_engines.py` fitted take part: those of the
others were chosen on all of their rows.
`--fast` cuts to a tenth of the settings and the largest parts: what continuous integration runs.
"""

import argparse
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from advisor.estimate.machines.catalogue import catalogue_machine
from advisor.estimate.operators.structure import structure_of
from advisor.profiles.engines import load_engine
from advisor.profiles.files import write_csv, write_whole
from advisor.profiles.hardware import load_hardware
from advisor.profiles.metrics import Basis
from advisor.profiles.model_store import find_model
from advisor.validation.cases import PublishedCase, read_cases
from tools.engine_terms import Row, rows_of
from tools.fit_engines import FITTED, LONGEST_TTFT_S, TYPICAL, engine_of, fit_all, usable

FAST_SHARE = 10
FAST_PARTS = 4
HELD_OUT_COLUMNS = ("case_id", "metric", "measured", "predicted", "basis", "fold")
_DAY = re.compile(r"\d{4}-\d\d-\d\d")


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A row, and its prediction by constants that were fitted without its part."""

    row: Row
    predicted_s: float

    @property
    def error(self) -> float:
        """(predicted − measured)/measured of the metric itself."""
        ratio = self.predicted_s / self.row.measured_s
        return (1 / ratio if self.row.rate else ratio) - 1


def source_of(case: PublishedCase) -> str:
    """The publication and the day."""
    day = _DAY.search(case.source)
    return f"{case.publication} {day.group() if day else ''}".strip()


def model_of(case: PublishedCase) -> str:
    """The architecture: every distinct matrix and mixer with its count."""
    structure = structure_of(find_model(case.model))
    return str(zlib.crc32(repr((structure.matrices, structure.mixers)).encode()))


def held_out(rows: Sequence[Row], part_of: Callable[[PublishedCase], str], most_parts: int | None = None) -> list[HeldOut]:
    """Every row predicted without its part, or those of the largest parts."""
    parts = [part_of(row.case) for row in rows]
    predictions = []
    for left_out, _ in Counter(parts).most_common(most_parts):
        constants = fit_all(usable(row for row, part in zip(rows, parts, strict=True) if part != left_out))
        inside = [row for row, part in zip(rows, parts, strict=True) if part == left_out]
        # Typical constants stand in where nothing else is published of an engine.
        predictions += [HeldOut(row, float(row.terms @ constants.get(engine_of(row), TYPICAL))) for row in inside]
    return predictions


def was_fitted(engine: str) -> bool:
    """Whether `tools/fit_engines.py` found the engine's constants."""
    return load_engine(engine).gpu.source.startswith(FITTED)


def summary(predictions: Sequence[HeldOut], fold: str) -> list[dict[str, object]]:
    """Errors by metric, in percent; a TTFT beyond 8 s is a queue and not compared."""
    compared = [item for item in predictions if not (item.row.case.metric == "ttft_ms" and item.row.measured_s > LONGEST_TTFT_S)]
    lines: list[dict[str, object]] = []
    for metric, count in Counter(item.row.case.metric for item in compared).most_common():
        errors = 100 * np.array([item.error for item in compared if item.row.case.metric == metric])
        lines.append(
            {
                "metric": metric,
                "fold": fold,
                "rows": count,
                "median_abs_pct": round(float(np.median(abs(errors))), 2),
                "mean_abs_pct": round(float(np.mean(abs(errors))), 2),
                "median_bias_pct": round(float(np.median(errors)), 2),
            }
        )
    return lines


def write_rows(path: Path, predictions: Sequence[HeldOut]) -> None:
    """The held-out predictions, for the calibration of ranges."""
    lines = []
    for item in predictions:
        case = item.row.case
        basis = _basis(case.hardware, engine_of(item.row))
        lines.append((case.case_id, case.metric, f"{case.measured:.6g}", f"{case.measured * (1 + item.error):.6g}", basis, "source"))
    write_csv(path, HELD_OUT_COLUMNS, lines)


@cache
def _basis(hardware: str, engine: str) -> Basis:
    return catalogue_machine(load_hardware(hardware), load_engine(engine)).basis


def main() -> None:
    """Read, simulate, fit again and again, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", type=Path)
    parser.add_argument("--out", type=Path, help="write the errors as JSON")
    parser.add_argument("--rows", type=Path, help="write the predictions without the row's source as CSV")
    parser.add_argument("--fast", action="store_true", help="a tenth of the settings, the largest parts")
    options = parser.parse_args()
    cases = [case for case in read_cases(options.cases) if case.configuration is not None and was_fitted(case.configuration.engine)]
    if options.fast:
        cases = [case for case in cases if zlib.crc32(repr(case.configuration).encode()) % FAST_SHARE == 0]
    rows = rows_of(cases)
    most = FAST_PARTS if options.fast else None
    lines = []
    for fold, part_of in (("source", source_of), ("model", model_of)):
        predictions = held_out(rows, part_of, most)
        lines += summary(predictions, fold)
        if fold == "source" and options.rows is not None:
            write_rows(options.rows, predictions)
    for line in lines:
        print("  ".join(f"{name} {value}" for name, value in line.items()))
    if options.out is not None:
        write_whole(options.out, json.dumps({"metrics": lines}, indent=1) + "\n")


if __name__ == "__main__":
    main()
