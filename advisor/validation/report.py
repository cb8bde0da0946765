"""Errors of all published rows as one report."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from advisor.validation.errors import ComparedCase, ErrorRow, error_row, grouped
from advisor.validation.targets import AccuracyTarget, targets_of


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """Errors by metric, and of each metric by engine, hardware, kind of model, basis and publication."""

    cases: str
    targets: tuple[AccuracyTarget, ...]
    overall: tuple[ErrorRow, ...]
    groups: tuple[tuple[str, str, tuple[ErrorRow, ...]], ...]
    """Metric, what it is grouped by, and the groups."""
    unstated: tuple[ErrorRow, ...]
    """Rows that do not state the weights' precision: predicted with the checkpoint's own, and in no other table."""
    refusals: tuple[tuple[str, int], ...]

    def as_dict(self) -> dict[str, object]:
        """The published form."""
        return {
            "kind": "ValidationReport",
            "cases": self.cases,
            "targets": [target.as_dict() for target in self.targets],
            "metrics": [row.as_dict() for row in self.overall],
            "groups": [{"metric": metric, "by": by, "rows": [row.as_dict() for row in rows]} for metric, by, rows in self.groups],
            "precision_not_stated": [row.as_dict() for row in self.unstated],
            "refusals": [{"reason": reason, "rows": count} for reason, count in self.refusals],
        }


def report_of(cases: str, compared: Sequence[ComparedCase]) -> ValidationReport:
    """Put comparisons into groups."""
    stated = [one for one in compared if one.case.precision_stated]
    unstated = [one for one in compared if not one.case.precision_stated]
    by_metric = grouped(stated, lambda one: one.case.metric)
    keys: tuple[tuple[str, Callable[[ComparedCase], str]], ...] = (
        ("engine", lambda one: one.case.engine),
        ("hardware", lambda one: one.case.hardware),
        ("model kind", lambda one: one.model_kind or "unknown"),
        ("basis", lambda one: one.predicted.basis.value if one.predicted else "refused"),
        ("source", lambda one: one.case.publication),
    )
    groups = tuple(
        (metric, by, tuple(error_row(name, rows) for name, rows in grouped(found, key).items()))
        for metric, found in by_metric.items()
        for by, key in keys
    )
    refusals = Counter(one.refused for one in compared if one.refused)
    return ValidationReport(
        cases,
        targets_of(compared),
        tuple(error_row(metric, found) for metric, found in by_metric.items()),
        groups,
        tuple(error_row(metric, found) for metric, found in grouped(unstated, lambda one: one.case.metric).items()),
        tuple(refusals.most_common()),
    )
