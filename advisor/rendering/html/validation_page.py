"""The accuracy of predictions as one self-contained HTML page: scatter plots with filters, targets, and every table."""

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from string import Template

from advisor.profiles.files import write_whole
from advisor.quantities.formatting import ABSENT
from advisor.rendering.html.elements import Markup, joined, tag
from advisor.rendering.html.run_page import STYLE
from advisor.rendering.html.tables import table
from advisor.rendering.text.validation import ERROR_HEADS, error_words, percent_words, reached_words, target_words
from advisor.validation.errors import ComparedCase, ErrorRow, grouped
from advisor.validation.report import ValidationReport

_TEMPLATE = Path(__file__).with_name("validation_page.html")
_SCRIPT = Path(__file__).with_name("validation_page.js")
_UNITS = {
    "ttft_ms": "ms",
    "tpot_ms": "ms",
    "output_tok_s_total": "tok/s",
    "output_tok_s_per_gpu": "tok/s a device",
    "decode_tok_s_single_stream": "tok/s",
    "prefill_tok_s": "tok/s",
    "peak_memory_gb": "GB",
    "max_batch": "requests",
}
_FILTERS = (("engine", "Engine"), ("hardware", "Hardware"), ("kind", "Model kind"), ("basis", "Basis"))


def write_page(report: ValidationReport, compared: Sequence[ComparedCase], path: Path) -> Path:
    """Write the page to `path`, whole or not at all. Raises `AdvisorError` as `write_whole` does."""
    return write_whole(path, page_html(report, compared))


def page_html(report: ValidationReport, compared: Sequence[ComparedCase]) -> str:
    """The page as text: the same bytes for the same comparisons. Points are the rows whose precision is stated."""
    points = [row for row in compared if row.predicted is not None and row.case.precision_stated]
    by_metric = grouped(points, lambda row: row.case.metric)
    words = _words(points)
    body = joined(
        _head(report),
        _section("Targets", _targets(report)) if report.targets else None,
        _section("Errors by metric", _errors("metric", report.overall)) if report.overall else None,
        _section("Predicted against measured", _filters(points, words), _plots(by_metric)) if points else None,
        _section("Where the errors come from", *_groups(report)) if report.groups else None,
        _section("Precision not stated", tag("p", "Predicted with the checkpoint's own format, and in no other table."),
                 _errors("metric", report.unstated)) if report.unstated else None,
        _section("Refused", _refusals(report)) if report.refusals else None,
    )  # fmt: skip
    page = Template(_TEMPLATE.read_text(encoding="utf-8"))
    return page.substitute(
        title=joined(f"Predicted against {Path(report.cases).name}"),
        style=STYLE.read_text(encoding="utf-8"),
        body=body,
        points=_data(by_metric, words),
        script=_SCRIPT.read_text(encoding="utf-8"),
    )


def _section(title: str, *content: str | None) -> Markup:
    return tag("section", tag("h2", title), *content)


def _head(report: ValidationReport) -> Markup:
    answered, refused = (sum(getattr(row, name) for row in (*report.overall, *report.unstated)) for name in ("answered", "refused"))
    missed = [target for target in report.targets if target.met is False]
    scored = [target for target in report.targets if target.met is not None]
    lines = [tag("p", tag("strong", f"{answered} of {answered + refused} rows are predicted; {refused} are refused with a reason."))]
    if scored:
        lines.append(tag("p", f"{len(scored) - len(missed)} of {len(scored)} targets are reached."))
    verdict = tag("div", *lines, class_="verdict missed" if missed else "verdict", role="status")
    return joined(tag("header", tag("h1", f"Predicted against {Path(report.cases).name}")), verdict, _cards(report.overall))


def _cards(rows: Iterable[ErrorRow]) -> Markup:
    """The median error of each metric."""
    cards = [
        tag(
            "div",
            tag("span", f"{row.name}, median |error|"),
            tag("b", percent_words(row.median_abs_pct)),
            tag("span", f"{row.answered} rows"),
            class_="card",
        )
        for row in rows
    ]
    return tag("div", *cards, class_="cards", role="group", aria_label="Median errors by metric")


def _targets(report: ValidationReport) -> Markup:
    words = {True: "reached", False: "missed", None: ABSENT}
    rows = [(target.metric, target_words(target), reached_words(target), str(target.rows), words[target.met]) for target in report.targets]
    return table(("metric", "target", "reached", "rows", "verdict"), rows, caption="Targets", text_columns=(1, 4))


def _errors(head: str, rows: Iterable[ErrorRow]) -> Markup:
    return table((head, *ERROR_HEADS), [error_words(row) for row in rows], caption=f"Errors by {head}")


def _groups(report: ValidationReport) -> list[Markup]:
    """The groupings of each metric, collapsed."""
    metrics = list(dict.fromkeys(metric for metric, _, _ in report.groups))
    return [
        tag(
            "details",
            tag("summary", metric),
            *(part for of, by, rows in report.groups if of == metric for part in (tag("h3", f"{metric} by {by}"), _errors(by, rows))),
        )
        for metric in metrics
    ]


def _refusals(report: ValidationReport) -> Markup:
    return table(("reason", "rows"), [(reason, str(count)) for reason, count in report.refusals], caption="Refused")


def _labels(row: ComparedCase) -> tuple[str, str, str, str, str]:
    assert row.predicted is not None
    return row.case.engine, row.case.hardware, row.case.model, row.model_kind, row.predicted.basis.value


def _words(points: Iterable[ComparedCase]) -> dict[str, int]:
    """The labels of all points, numbered."""
    return {word: number for number, word in enumerate(sorted({word for row in points for word in _labels(row)}))}


def _filters(points: Sequence[ComparedCase], words: dict[str, int]) -> Markup:
    """The controls that filter and colour the points."""
    indices = {"engine": 0, "hardware": 1, "kind": 3, "basis": 4}
    choices = []
    for name, label in _FILTERS:
        present = sorted({_labels(row)[indices[name]] for row in points})
        options = [tag("option", "all", value=""), *(tag("option", word, value=str(words[word])) for word in present)]
        choices.append(tag("label", label, tag("select", *options, id=f"choose-{name}")))
    colours = [tag("option", label.lower(), value=name) for name, label in _FILTERS]
    choices.append(tag("label", "Colour by", tag("select", *colours, id="choose-colour")))
    return joined(tag("div", *choices, class_="filters"), tag("div", class_="legend", id="legend", aria_hidden="true"))


def _plots(by_metric: dict[str, list[ComparedCase]]) -> Markup:
    """An empty canvas per metric, which the page's script draws."""
    figures = []
    for metric, cases in by_metric.items():
        unit = _UNITS.get(metric, "")
        label = f"{metric}: predicted over measured, {len(cases)} points. The tables below have the errors by group."
        canvas = tag("canvas", data_metric=metric, data_unit=unit, role="img", aria_label=label, width=480, height=480)
        figures.append(tag("figure", tag("h3", metric), canvas, tag("figcaption", f"{len(cases)} rows.")))
    return tag("div", *figures, class_="plots")


def _data(by_metric: dict[str, list[ComparedCase]], words: dict[str, int]) -> Markup:
    metrics = {metric: [_point(row, words) for row in cases] for metric, cases in by_metric.items()}
    text = json.dumps({"words": list(words), "metrics": metrics}, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.replace("<", "\\u003c"))


def _point(row: ComparedCase, words: dict[str, int]) -> list[str | int | float]:
    value = row.predicted
    assert value is not None
    numbers = (float(f"{size:.4g}") for size in (row.case.measured, value.value, value.low, value.high))
    return [row.case.case_id, *(words[word] for word in _labels(row)), *numbers]
