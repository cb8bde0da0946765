"""The report of a validation: errors by metric and group, targets, refusals."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from advisor.validation.errors import ComparedCase, ErrorRow, error_row, grouped
from advisor.validation.targets import AccuracyTarget, targets_of


@dataclass(frozen=True, slots=True)
class ValidationReport:
    """Errors by metric, and of each metric by engine, hardware, kind of model, basis and source."""

    cases: str
    targets: tuple[AccuracyTarget, ...]
    overall: tuple[ErrorRow, ...]
    groups: tuple[tuple[str, str, tuple[ErrorRow, ...]], ...]
    """Metric, what it is grouped by, and the groups."""
    unstated: tuple[ErrorRow, ...]
    """Rows that do not state the weights' precision; predicted with the checkpoint's own, and not part of the other tables."""
    refusals: tuple[tuple[str, int], ...]
    """Reasons without a prediction and the number of rows of each, most frequent first."""

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
    """The report of compared cases; `cases` names their table."""
    stated = [item for item in compared if item.case.precision_stated]
    unstated = [item for item in compared if not item.case.precision_stated]
    by_metric = grouped(stated, lambda item: item.case.metric)
    keys: tuple[tuple[str, Callable[[ComparedCase], str]], ...] = (
        ("engine", lambda item: item.case.engine),
        ("hardware", lambda item: item.case.hardware),
        ("model kind", lambda item: item.model_kind or "unknown"),
        ("basis", lambda item: item.predicted.basis.value if item.predicted else "refused"),
        ("source", lambda item: item.case.publication),
    )
    groups = tuple(
        (metric, by, tuple(error_row(name, members) for name, members in grouped(rows, key).items()))
        for metric, rows in by_metric.items()
        for by, key in keys
    )
    refusals = Counter(item.refused for item in compared if item.refused)
    return ValidationReport(
        cases,
        targets_of(compared),
        tuple(error_row(metric, rows) for metric, rows in by_metric.items()),
        groups,
        tuple(error_row(metric, rows) for metric, rows in grouped(unstated, lambda item: item.case.metric).items()),
        tuple(refusals.most_common()),
    )
