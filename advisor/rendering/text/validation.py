"""The accuracy of predictions against published measurements, as text."""

from collections.abc import Sequence

from advisor.quantities.formatting import ABSENT, number
from advisor.rendering.text.style import Look
from advisor.rendering.text.table import Column, Group, table
from advisor.validation.errors import ErrorRow
from advisor.validation.report import ValidationReport
from advisor.validation.targets import AccuracyTarget

ERROR_HEADS = ("rows", "refused", "median |error|", "mean |error|", "bias", "in 90 % range", "Spearman", "same hardware")


def validation_text(report: ValidationReport, look: Look) -> str:
    """Errors by metric, the targets, errors of each metric by group, then the rows that were refused."""
    lines = [look.paint(f"Predicted against {report.cases}", "title"), "", *_errors("metric", report.overall, look)]
    if report.targets:
        lines += ["", look.paint("Targets, on rows whose precision is stated", "title"), *_targets(report.targets, look)]
    for metric, by, rows in report.groups:
        lines += ["", look.paint(f"{metric} by {by}", "title"), *_errors(by, rows, look)]
    if report.unstated:
        lines += ["", look.paint("Precision not stated, the checkpoint's own assumed", "title"), *_errors("metric", report.unstated, look)]
    if report.refusals:
        lines += ["", look.paint("Refused", "title"), *(f"{count:6d}  {reason}" for reason, count in report.refusals)]
    return look.finish(lines)


def _errors(head: str, rows: Sequence[ErrorRow], look: Look) -> list[str]:
    names, *words = zip(*map(error_words, rows), strict=True) if rows else [()] * (len(ERROR_HEADS) + 1)
    columns = [Column(title, tuple(column)) for title, column in zip(ERROR_HEADS, words, strict=True)]
    groups = (Group(tuple(columns[:2])), Group(tuple(columns[2:5])), Group(tuple(columns[5:])))
    return table(Column(head, tuple(names), left=True), groups, look)


def error_words(row: ErrorRow) -> tuple[str, ...]:
    """The name of a row and its figures, in the order of `ERROR_HEADS`."""
    return (
        row.name,
        str(row.answered),
        str(row.refused),
        percent_words(row.median_abs_pct),
        percent_words(row.mean_abs_pct),
        percent_words(row.median_bias_pct, signed=True),
        percent_words(row.coverage_pct),
        rank_words(row.ranking),
        rank_words(row.ranking_same_hardware),
    )


def _targets(targets: Sequence[AccuracyTarget], look: Look) -> list[str]:
    """A row per target: what is aimed at, the value reached, and whether it meets the target."""
    words = tuple({True: "reached", False: "missed", None: ""}[target.met] for target in targets)
    tones = tuple({"reached": "good", "missed": "bad"}.get(word, "") for word in words)
    figures = Group(
        (
            Column("target", tuple(target_words(target) for target in targets), left=True),
            Column("reached", tuple(reached_words(target) for target in targets)),
            Column("rows", tuple(str(target.rows) for target in targets)),
            Column("", words, tones, left=True),
        )
    )
    return table(Column("metric", tuple(target.metric for target in targets), left=True), (figures,), look)


def target_words(target: AccuracyTarget) -> str:
    """The target, as in `median |error| at most 9 %`."""
    unit = f" {target.unit}".rstrip()
    if target.low is not None and target.high is not None:
        return f"{target.measure} {target.low:g} to {target.high:g}{unit}"
    if target.high is not None:
        return f"{target.measure} at most {target.high:g}{unit}"
    return f"{target.measure} at least {target.low:g}{unit}"


def reached_words(target: AccuracyTarget) -> str:
    """The value reached, in the target's unit."""
    if target.reached is None:
        return ABSENT
    return rank_words(target.reached) if not target.unit else percent_words(target.reached, signed=target.measure == "bias")


def rank_words(value: float | None) -> str:
    """A rank correlation."""
    return ABSENT if value is None else f"{value:.3f}"


def percent_words(value: float | None, *, signed: bool = False) -> str:
    """A percentage, a dash where there is none."""
    return ABSENT if value is None else f"{number(round(value, 1), signed=signed)} %"
