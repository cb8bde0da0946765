"""The groups of published measurements that are predicted worst, and likely causes, for docs/accuracy.md."""

from collections import Counter
from collections.abc import Iterator, Sequence

from advisor.profiles.engines import load_engine
from advisor.rendering.text.validation import percent_words
from advisor.validation.errors import ComparedCase, ErrorRow, error_row, grouped

FEWEST, WORST = 10, 20
"""Rows of a group that is listed among the worst, and how many of these are."""
ONE_SIDED = 0.8
"""Share of the median error from which its sign says more than its scatter."""


def worst_groups(answered: Sequence[ComparedCase]) -> Iterator[tuple[str, ...]]:
    """Rows of the table: metric; engine, hardware and kind of model; number of rows; median error; bias; likely causes."""
    groups = [
        (metric, name, rows, error_row(name, rows))
        for metric, cases in grouped(answered, lambda case: case.case.metric).items()
        for name, rows in grouped(cases, lambda case: f"{case.case.engine}, {case.case.hardware}, {case.model_kind}").items()
        if len(rows) >= FEWEST
    ]
    for metric, name, rows, row in sorted(groups, key=lambda group: -(group[3].median_abs_pct or 0.0))[:WORST]:
        error, bias = percent_words(row.median_abs_pct), percent_words(row.median_bias_pct, signed=True)
        yield metric, name, str(len(rows)), error, bias, "; ".join(_causes(row, rows))


def _causes(row: ErrorRow, rows: Sequence[ComparedCase]) -> Iterator[str]:
    """Likely causes of a group's errors, from what its predictions rest on."""
    bases = Counter(case.predicted.basis.value for case in rows if case.predicted is not None)
    basis = bases.most_common(1)[0][0]
    if basis in ("architecture", "datasheet"):
        yield f"kernels never measured on this device (basis {basis})"
    if "fitted" not in load_engine(rows[0].case.engine).gpu.source:
        yield "constants of this engine are not fitted"
    if len({case.case.source for case in rows}) == 1:
        yield "one source"
    if row.median_bias_pct is not None and row.median_abs_pct and abs(row.median_bias_pct) >= ONE_SIDED * row.median_abs_pct:
        yield f"one-sided: predicted too {'high' if row.median_bias_pct > 0 else 'low'}"
    else:
        yield "scattered"
