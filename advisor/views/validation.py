"""The report of predicted against measured, as text."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from advisor.numbers import ABSENT, number
from advisor.views.style import Look
from advisor.views.table import Column, Group, table

if TYPE_CHECKING:
    from advisor.accuracy import ErrorRow, ValidationReport


def validation_text(report: "ValidationReport", look: Look) -> str:
    """Errors by metric first, then what each metric's errors come from, then what was not answered."""
    lines = [look.paint(f"Predicted against {report.cases}", "title"), "", *_errors("metric", report.overall, look)]
    for metric, by, rows in report.groups:
        lines += ["", look.paint(f"{metric} by {by}", "title"), *_errors(by, rows, look)]
    if report.unstated:
        lines += ["", look.paint("Precision not stated, the checkpoint's own assumed", "title"), *_errors("metric", report.unstated, look)]
    if report.refusals:
        lines += ["", look.paint("Refused", "title"), *(f"{count:6d}  {reason}" for reason, count in report.refusals)]
    return look.finish(lines)


def _errors(head: str, rows: Sequence["ErrorRow"], look: Look) -> list[str]:
    names = Column(head, tuple(row.name for row in rows), left=True)
    counts = Group((Column("rows", tuple(str(row.answered) for row in rows)), Column("refused", tuple(str(row.refused) for row in rows))))
    errors = Group(
        (
            Column("median |error|", tuple(_percent(row.median_abs_pct) for row in rows)),
            Column("mean |error|", tuple(_percent(row.mean_abs_pct) for row in rows)),
            Column("bias", tuple(_percent(row.median_bias_pct, signed=True) for row in rows)),
        )
    )
    rest = Group(
        (
            Column("in 90 % range", tuple(_percent(row.coverage_pct) for row in rows)),
            Column("Spearman", tuple(ABSENT if row.ranking is None else f"{row.ranking:.3f}" for row in rows)),
        )
    )
    return table(names, (counts, errors, rest), look)


def _percent(value: float | None, *, signed: bool = False) -> str:
    return ABSENT if value is None else f"{number(round(value, 1), signed=signed)} %"
