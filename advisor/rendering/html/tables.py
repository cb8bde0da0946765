"""The tables of a run's page: every number of the run is in one of them."""

from collections.abc import Sequence

from advisor.feedback.compare import HEADLINES, ComparedMetric, ComparedRung, Comparison, RangeVerdict
from advisor.profiles.metrics import Sample, Value
from advisor.profiles.run import Rung, RungStatus
from advisor.quantities.formatting import ABSENT, Scale, number, quantity, scale, signed_percent, spread
from advisor.quantities.metrics import METRICS, MetricInfo
from advisor.rendering.html.elements import Markup, tag
from advisor.rendering.text.comparison import change_text

_IN_SIGHT = ("error", "verdict")
"""Heads of the columns that stay in sight on a phone."""
QUALITY = ("quality_loss_pct", "perplexity", "nll_difference", "kl_divergence", "top1_agreement")


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, text_columns: Sequence[int] = (), over: Markup | None = None
) -> Markup:
    """A table whose first column heads its rows; `text_columns` are indices of columns that hold text, `over` is a row above the heads.

    Columns named error and verdict stay in sight where a phone shows a part of the table only.
    """
    classes = [_classes(head, index in text_columns) for index, head in enumerate(heads)]
    head = tag("tr", *(tag("th", text, scope="col", class_=words) for text, words in zip(heads, classes, strict=True)))
    body = [
        tag(
            "tr",
            tag("th", row[0], scope="row"),
            *(tag("td", text, class_=words) for text, words in zip(row[1:], classes[1:], strict=True)),
        )
        for row in rows
    ]
    return tag(
        "div",
        tag("table", tag("caption", caption), tag("thead", over, head), tag("tbody", *body)),
        class_="scroll",
        tabindex="0",
        role="region",
        aria_label=caption,
    )


def _classes(head: str, is_text: bool) -> str | None:
    """CSS classes of the cells of a column."""
    return " ".join((*(("words",) if is_text else ()), *((f"at-{head}",) if head in _IN_SIGHT else ()))) or None


def metric_table(info: MetricInfo, comparison: Comparison, labels: Sequence[str], scaled: Scale) -> Markup:
    """Predicted, range, measured, error and verdict of one metric along the ladder."""
    rows = []
    for label, rung in zip(labels, comparison.rungs, strict=True):
        metric = rung.metric(info.name)
        rows.append((label, *_pair(metric, scaled), error_text(metric, scaled), verdict_mark(rung, metric)))
    unit = f", {scaled.unit}" if scaled.unit else ""
    heads = ("rung", f"predicted{unit}", "range", "measured", "error", "verdict")
    return table(heads, rows, caption=f"{info.label}{unit} along the ladder", text_columns=(5,))


def _pair(metric: ComparedMetric | None, scaled: Scale) -> tuple[str, str, str]:
    if metric is None:
        return ABSENT, "", ABSENT
    return written(metric.predicted, scaled), spread(metric.predicted, scaled) if metric.predicted else "", written(metric.measured, scaled)


def written(value: Value | None, scaled: Scale) -> str:
    """A value in the given scale, without its range."""
    return ABSENT if value is None else number(value.value * scaled.factor)


def error_text(metric: ComparedMetric | None, scaled: Scale) -> str:
    """The error of a prediction with its unit."""
    if metric is None or metric.error is None:
        return ABSENT
    if metric.error_unit == "%":
        return f"{signed_percent(metric.error)} %"
    return f"{number(metric.error * scaled.factor, signed=True)} {'points' if scaled.unit == '%' else scaled.unit}"


def verdict_mark(rung: ComparedRung, metric: ComparedMetric | None) -> Markup:
    """The verdict, coloured; for a rung that did not finish, its status."""
    if rung.status is not RungStatus.DONE:
        return tag("span", rung.status.value, class_="outside")
    if metric is None:
        return Markup("")
    if metric.verdict is RangeVerdict.OUTSIDE:
        return tag("span", "outside", class_="outside")
    if metric.verdict is RangeVerdict.WITHIN:
        return tag("span", "within", class_="within")
    return tag("span", metric.verdict.value, class_="soft")


def every_number_table(comparison: Comparison, labels: Sequence[str]) -> Markup:
    """Every metric of every rung with range and basis."""
    rows = []
    for label, rung in zip(labels, comparison.rungs, strict=True):
        for metric in rung.metrics:
            info = METRICS[metric.metric]
            scaled = scale(info.unit, (value.value for value in (metric.predicted, metric.measured) if value))
            predicted = (
                written(metric.predicted, scaled),
                _range(metric.predicted, scaled),
                metric.predicted.basis.value if metric.predicted else "",
            )
            measured = (written(metric.measured, scaled), _range(metric.measured, scaled))
            row = (
                label,
                info.label,
                scaled.unit,
                *predicted,
                *measured,
                error_text(metric, scaled),
                verdict_mark(rung, metric),
                _limit_cell(rung, metric, comparison),
            )
            rows.append(row)
    heads = ("rung", "metric", "unit", "predicted", "range", "basis", "measured", "range", "error", "verdict", "limit")
    return table(heads, rows, caption="Every metric of every rung", text_columns=(1, 2, 5, 9, 10))


def _range(value: Value | None, scaled: Scale) -> str:
    return spread(value, scaled) if value else ""


def _limit_cell(rung: ComparedRung, metric: ComparedMetric, comparison: Comparison) -> str:
    """The limit and whether it was met, in the rows of the full stack only."""
    if rung is not comparison.full_stack or metric.limit is None:
        return ""
    text = quantity(metric.limit, METRICS[metric.metric].unit, trim=True)
    if metric.limit_met is None:
        return text
    return tag("span", f"{text} {'met' if metric.limit_met else 'MISSED'}", class_="within" if metric.limit_met else "missed-limit")


def quality_table(comparison: Comparison, labels: Sequence[str]) -> Markup | None:
    """The quality metrics of every rung, predicted and measured, with their ranges; `None` where there are none."""
    lines = {name: [rung.metric(name) for rung in comparison.rungs] for name in QUALITY}
    names = [name for name in QUALITY if any(lines[name])]
    if not names:
        return None
    heads, columns = ["rung"], []
    for name in names:
        info = METRICS[name]
        values = [value for metric in lines[name] if metric for value in (metric.predicted, metric.measured) if value]
        scaled = scale(info.unit, (value.value for value in values))
        unit = f", {scaled.unit}" if scaled.unit else ""
        for side in ("predicted", "measured"):
            cells = [getattr(metric, side) if metric else None for metric in lines[name]]
            if any(cells):
                heads.append(f"{info.label}{unit}" + (" (predicted)" if side == "predicted" else ""))
                columns.append([f"{written(value, scaled)} {_range(value, scaled)}".rstrip() for value in cells])
    rows = [(label, *(column[index] for column in columns)) for index, label in enumerate(labels)]
    return table(heads, rows, caption="Quality of every rung")


def contributions_table(comparison: Comparison) -> Markup | None:
    """The change of each metric by each technique in percent, predicted and measured; `None` for a single rung."""
    if not comparison.contributions:
        return None
    metrics = [name for name in HEADLINES if any(share.metric == name for share in comparison.contributions)]
    by_technique = {(share.technique, share.metric): share for share in comparison.contributions}
    rows = []
    for name in dict.fromkeys(share.technique for share in comparison.contributions):
        cells: list[str] = [name]
        for metric in metrics:
            share = by_technique.get((name, metric))
            cells += [change_text(share.predicted_pct if share else None), change_text(share.measured_pct if share else None)]
        rows.append(cells)
    labels = [f"{METRICS[metric].label}, %" for metric in metrics]
    return paired_table("technique", labels, rows, caption="Change by each technique from the rung before it")


def paired_table(first: str, labels: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> Markup:
    """A table with a predicted and a measured column under each of `labels`."""
    over = tag("tr", tag("th", ""), *(tag("th", label, colspan="2", scope="colgroup", class_="over") for label in labels))
    heads = [first, *(side for _ in labels for side in ("predicted", "measured"))]
    return table(heads, rows, caption=caption, over=over)


def requests_table(rungs: Sequence[Rung]) -> Markup:
    """Every measured request of every rung."""
    rows = [(rung.name, str(index), *_sample(sample)) for rung in rungs for index, sample in enumerate(rung.samples, start=1)]
    heads = ("rung", "request", "prompt tokens", "output tokens", "submitted, s", "TTFT, ms", "TPOT, ms", "last token, s")
    return table(heads, rows, caption="Every request")


def _sample(sample: Sample) -> tuple[str, ...]:
    tpot = ABSENT if sample.tpot_ms is None else number(sample.tpot_ms)
    counts = (str(sample.prompt_tokens), str(sample.output_tokens))
    return (*counts, number(sample.submitted_s), number(sample.ttft_ms), tpot, number(sample.last_token_s))
