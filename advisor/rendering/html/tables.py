"""The tables of a report: every number of a run stands in one of them."""

from collections.abc import Sequence

from advisor.feedback.compare import HEADLINES, ComparedMetric, ComparedRung, Comparison, RangeVerdict
from advisor.profiles.metrics import Sample, Value
from advisor.profiles.run import Rung, RungStatus
from advisor.quantities.formatting import ABSENT, Scale, number, one_digit, quantity, scale, spread
from advisor.quantities.metrics import METRICS, MetricInfo
from advisor.rendering.html.elements import Markup, tag

QUALITY = ("quality_loss_pct", "perplexity", "nll_difference", "kl_divergence", "top1_agreement")


def table(
    heads: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str, words: Sequence[int] = (), over: Markup | None = None
) -> Markup:
    """A table whose first column heads its rows; `words` are columns of text, `over` a row above the heads."""
    head = tag("tr", *(tag("th", text, scope="col", class_="words" if place in words else None) for place, text in enumerate(heads)))
    body = [
        tag("tr", tag("th", row[0], scope="row"), *(_cell(text, place in words) for place, text in enumerate(row[1:], start=1)))
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


def _cell(text: str, words: bool) -> Markup:
    return tag("td", text, class_="words" if words else None)


def one_metric_table(shown: MetricInfo, comparison: Comparison, labels: Sequence[str], scaled: Scale) -> Markup:
    """Predicted, range, measured, error and verdict of one metric along the ladder."""
    rows = []
    for label, step in zip(labels, comparison.rungs, strict=True):
        line = step.metric(shown.name)
        rows.append((label, *_pair(line, scaled), error_text(line, scaled), verdict_mark(step, line)))
    unit = f", {scaled.unit}" if scaled.unit else ""
    heads = ("rung", f"predicted{unit}", "range", "measured", "error", "verdict")
    return table(heads, rows, caption=f"{shown.label}{unit} along the ladder", words=(5,))


def _pair(line: ComparedMetric | None, scaled: Scale) -> tuple[str, str, str]:
    if line is None:
        return ABSENT, "", ABSENT
    return written(line.predicted, scaled), spread(line.predicted, scaled) if line.predicted else "", written(line.measured, scaled)


def written(value: Value | None, scaled: Scale) -> str:
    """A value in that scale, without its range."""
    return ABSENT if value is None else number(value.value * scaled.factor)


def error_text(line: ComparedMetric | None, scaled: Scale) -> str:
    """The error of a prediction with its unit."""
    if line is None or line.error is None:
        return ABSENT
    if line.error_unit == "%":
        return f"{one_digit(line.error)} %"
    return f"{number(line.error * scaled.factor, signed=True)} {'points' if scaled.unit == '%' else scaled.unit}"


def verdict_mark(step: ComparedRung, line: ComparedMetric | None) -> Markup:
    """The verdict in words, coloured; what became of a rung that did not finish."""
    if step.status is not RungStatus.DONE:
        return tag("span", step.status.value, class_="outside")
    if line is None:
        return Markup("")
    if line.verdict is RangeVerdict.OUTSIDE:
        return tag("span", "outside", class_="outside")
    return tag("span", "within", class_="within") if line.verdict is RangeVerdict.WITHIN else tag("span", line.verdict.value, class_="soft")


def every_number_table(comparison: Comparison, labels: Sequence[str]) -> Markup:
    """Every metric of every rung with range and basis."""
    rows = []
    for label, step in zip(labels, comparison.rungs, strict=True):
        for line in step.metrics:
            shown = METRICS[line.metric]
            scaled = scale(shown.unit, (value.value for value in (line.predicted, line.measured) if value))
            predicted = (
                written(line.predicted, scaled),
                _range(line.predicted, scaled),
                line.predicted.basis.value if line.predicted else "",
            )
            measured = (written(line.measured, scaled), _range(line.measured, scaled))
            row = (
                label,
                shown.label,
                scaled.unit,
                *predicted,
                *measured,
                error_text(line, scaled),
                verdict_mark(step, line),
                _limit(step, line, comparison),
            )
            rows.append(row)
    heads = ("rung", "metric", "unit", "predicted", "range", "basis", "measured", "range", "error", "verdict", "limit")
    return table(heads, rows, caption="Every metric of every rung", words=(1, 2, 5, 9, 10))


def _range(value: Value | None, scaled: Scale) -> str:
    return spread(value, scaled) if value else ""


def _limit(step: ComparedRung, line: ComparedMetric, comparison: Comparison) -> str:
    """The limit stands in the rows of the full stack, which it is for."""
    if step is not comparison.full_stack or line.limit is None:
        return ""
    text = quantity(line.limit, METRICS[line.metric].unit, trim=True)
    if line.limit_met is None:
        return text
    return tag("span", f"{text} {'kept' if line.limit_met else 'MISSED'}", class_="within" if line.limit_met else "missed-limit")


def quality_table(comparison: Comparison, labels: Sequence[str]) -> Markup | None:
    """Quality of every rung, measured with its range, and the predicted loss."""
    lines = {name: [step.metric(name) for step in comparison.rungs] for name in QUALITY}
    known = [name for name in QUALITY if any(lines[name])]
    if not known:
        return None
    heads, columns = ["rung"], []
    for name in known:
        shown = METRICS[name]
        values = [value for line in lines[name] if line for value in (line.predicted, line.measured) if value]
        scaled = scale(shown.unit, (value.value for value in values))
        unit = f", {scaled.unit}" if scaled.unit else ""
        for side in ("predicted", "measured"):
            found = [getattr(line, side) if line else None for line in lines[name]]
            if any(found):
                heads.append(f"{shown.label}{unit}" + (" (predicted)" if side == "predicted" else ""))
                columns.append([f"{written(value, scaled)} {_range(value, scaled)}".rstrip() for value in found])
    rows = [(label, *(column[index] for column in columns)) for index, label in enumerate(labels)]
    return table(heads, rows, caption="Quality of every rung")


def contributions_table(comparison: Comparison) -> Markup | None:
    """What each technique changed, in percent, predicted and measured."""
    if not comparison.contributions:
        return None
    metrics = [name for name in HEADLINES if any(share.metric == name for share in comparison.contributions)]
    found = {(share.technique, share.metric): share for share in comparison.contributions}
    rows = []
    for name in dict.fromkeys(share.technique for share in comparison.contributions):
        cells: list[str] = [name]
        for metric in metrics:
            share = found.get((name, metric))
            cells += [_percent(share.predicted_pct if share else None), _percent(share.measured_pct if share else None)]
        rows.append(cells)
    labels = [f"{METRICS[metric].label}, %" for metric in metrics]
    return paired_table("technique", labels, rows, caption="Change by each technique against the rung before it")


def paired_table(first: str, labels: Sequence[str], rows: Sequence[Sequence[str]], *, caption: str) -> Markup:
    """A table with a predicted and a measured column under each of `labels`."""
    over = tag("tr", tag("th", ""), *(tag("th", label, colspan="2", scope="colgroup", class_="over") for label in labels))
    heads = [first, *(side for _ in labels for side in ("predicted", "measured"))]
    return table(heads, rows, caption=caption, over=over)


def _percent(value: float | None) -> str:
    return ABSENT if value is None else one_digit(value)


def samples_table(rungs: Sequence[Rung]) -> Markup:
    """Every request that was observed."""
    rows = [(rung.name, str(place), *_sample(sample)) for rung in rungs for place, sample in enumerate(rung.samples, start=1)]
    heads = ("rung", "request", "prompt tokens", "output tokens", "submitted, s", "TTFT, ms", "TPOT, ms", "last token, s")
    return table(heads, rows, caption="Every request")


def _sample(sample: Sample) -> tuple[str, ...]:
    tpot = ABSENT if sample.tpot_ms is None else number(sample.tpot_ms)
    counts = (str(sample.prompt_tokens), str(sample.output_tokens))
    return (*counts, number(sample.submitted_s), number(sample.ttft_ms), tpot, number(sample.last_token_s))
