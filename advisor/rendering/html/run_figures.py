"""The figures of a run's page: ladders, predicted against measured, contributions, requests and memory, each with its table."""

from collections.abc import Callable, Sequence

from advisor.backends.measure.spread import quantile
from advisor.feedback.compare import HEADLINES, Comparison
from advisor.profiles.metrics import Sample
from advisor.profiles.run import Run
from advisor.quantities.formatting import number, scale
from advisor.quantities.metrics import METRICS
from advisor.rendering.html.elements import Markup, tag
from advisor.rendering.html.plots import Dots, Row, StackedBar, distribution_plot, ladder_plot, memory_plot, scatter_plot
from advisor.rendering.html.run_verdict import error_percent
from advisor.rendering.html.tables import contributions_table, metric_table, paired_table, requests_table, table

_SCATTERED = ("ttft_ms_mean", "tpot_ms_mean", "throughput_tok_s")
_PARTS = ("weights", "KV cache", "everything else")
_TOLERANCE = 25.0


def _key(*entries: tuple[str, str]) -> Markup:
    parts = [part for kind, text in entries for part in (tag("i", class_=kind), text)]
    return tag("p", *parts, class_="key soft", aria_hidden="true")


def _rows(comparison: Comparison, labels: Sequence[str], metric: str) -> list[Row]:
    lines = [rung.metric(metric) for rung in comparison.rungs]
    return [
        Row(label, line.predicted if line else None, line.measured if line else None) for label, line in zip(labels, lines, strict=True)
    ]


def _values(rows: Sequence[Row]) -> list[float]:
    return [value.value for row in rows for value in (row.predicted, row.measured) if value]


def ladders(comparison: Comparison, labels: Sequence[str]) -> list[Markup]:
    """The headline metrics, predicted and measured, rung by rung; empty where there are none."""
    figures = []
    for metric in HEADLINES:
        rows = _rows(comparison, labels, metric)
        if not _values(rows):
            continue
        info = METRICS[metric]
        scaled = scale(info.unit, _values(rows))
        pair = tag("div", ladder_plot(info.label, rows, scaled), metric_table(info, comparison, labels, scaled), class_="pair")
        figures.append(tag("figure", tag("h3", f"{info.label}, {scaled.unit}"), pair))
    if not figures:
        return []
    legend = _key(("predicted", "predicted, with its 90 % range"), ("measured", "measured, with the range of its repeats"))
    note = (
        "Each rung adds one technique to all before it; the last one is the full stack. "
        "Error = predicted minus measured, + is predicted too high."
    )
    return [tag("p", note), legend, *figures]


def scatters(comparison: Comparison, labels: Sequence[str]) -> list[Markup]:
    """Predicted against measured values, and how many rungs lie within `_TOLERANCE` of each; empty where none was measured."""
    plots, counts = [], []
    for metric in _SCATTERED:
        rows = _rows(comparison, labels, metric)
        info = METRICS[metric]
        plot = scatter_plot(info.label, rows, scale(info.unit, _values(rows)))
        if plot:
            plots.append(tag("div", tag("h3", info.label), plot))
            counts.append(_count(metric, comparison))
    if not plots:
        return []
    heads = ("metric", "rungs", f"within ±{_TOLERANCE:.0f} %", "median error", "largest error")
    points = ", ".join(f"{index} {label}" for index, label in enumerate(labels))
    text = "Dashed: predicted = measured. Band: ±25 % of the measured value. Both axes are logarithmic. Points: "
    summary = table(heads, counts, caption="Errors by metric")
    return [tag("figure", tag("div", *plots, class_="squares"), tag("figcaption", f"{text}{points}."), summary)]


def _count(metric: str, comparison: Comparison) -> tuple[str, ...]:
    errors = [abs(line.error) for rung in comparison.rungs if (line := rung.metric(metric)) and line.error is not None]
    near = sum(error <= _TOLERANCE for error in errors)
    figures = (error_percent(quantile(errors, 0.5)), error_percent(max(errors))) if errors else ("-", "-")
    return (METRICS[metric].label, str(len(errors)), str(near), *figures)


def contributions(comparison: Comparison) -> list[Markup | None]:
    """What each technique changed from the rung before it; empty for a baseline alone."""
    shares = contributions_table(comparison)
    return [tag("p", "Change from the rung before it, in percent of that rung's value."), tag("figure", shares)] if shares else []


def distributions(run: Run, labels: Sequence[str]) -> list[Markup]:
    """TTFT and TPOT of every request, by rung; empty where no rung has samples."""
    if not any(rung.samples for rung in run.rungs):
        return []
    figures = [
        _distribution(run, labels, "TTFT", lambda sample: sample.ttft_ms),
        _distribution(run, labels, "TPOT", lambda sample: sample.tpot_ms),
    ]
    return [*figures, tag("details", tag("summary", "Every request"), requests_table(run.rungs))]


def _distribution(run: Run, labels: Sequence[str], name: str, of: Callable[[Sample], float | None]) -> Markup:
    rows, figures = [], []
    for label, rung in zip(labels, run.rungs, strict=True):
        numbers = tuple(value for sample in rung.samples if (value := of(sample)) is not None)
        median, p95 = quantile(numbers, 0.5), quantile(numbers, 0.95)
        rows.append(Dots(label, numbers, median, p95))
        ends = (min(numbers), max(numbers)) if numbers else (float("nan"), float("nan"))
        figures.append((label, str(len(numbers)), *(number(size) for size in (ends[0], median, p95, ends[1]))))
    heads = ("rung", "requests", "min", "median", "p95", "max")
    pair = tag("div", distribution_plot(name, rows, "ms"), table(heads, figures, caption=f"{name} per request, ms"), class_="pair even")
    caption = tag("figcaption", "One dot per request; long tick: median, short tick: 95th percentile.")
    return tag("figure", tag("h3", f"{name} of every request, ms"), pair, caption)


def memory(comparison: Comparison, labels: Sequence[str]) -> list[Markup]:
    """Weights, KV cache and the rest of each rung, predicted and measured; empty where neither is known."""
    rows = [
        StackedBar(label, _parts(comparison, index, "predicted"), _parts(comparison, index, "measured"))
        for index, label in enumerate(labels)
    ]
    totals = [sum(size for _, size in parts) for row in rows for parts in (row.predicted, row.measured)]
    if not any(totals):
        return []
    scaled = scale("GiB", totals)
    figures = []
    for row in rows:
        sides = (dict(row.predicted), dict(row.measured))
        figures.append((row.label, *(_size(side.get(part), scaled.factor) for part in _PARTS for side in sides)))
    legend = _key(*((f"part{index}", part) for index, part in enumerate(_PARTS)))
    caption = tag("figcaption", "Thick bars: measured. Thin, paler bars: predicted. Everything else: activations, libraries and runtime.")
    plot = memory_plot(rows, scaled)
    numbers = paired_table("rung", [f"{part}, {scaled.unit}" for part in _PARTS], figures, caption="Memory by part")
    return [tag("figure", legend, plot, caption, numbers)]


def _size(gib: float | None, factor: float) -> str:
    return "-" if gib is None else number(gib * factor)


def _parts(comparison: Comparison, index: int, side: str) -> tuple[tuple[str, float], ...]:
    """Weights, KV cache and the rest up to the peak, GiB; only parts with a value."""
    values = {}
    for name in ("weights_gib", "kv_cache_gib", "peak_memory_gib"):
        line = comparison.rungs[index].metric(name)
        value = getattr(line, side) if line else None
        if value is not None:
            values[name] = value.value
    parts = [(part, max(0.0, values[name])) for part, name in zip(_PARTS, ("weights_gib", "kv_cache_gib"), strict=False) if name in values]
    if "peak_memory_gib" in values:
        parts.append((_PARTS[2], max(0.0, values["peak_memory_gib"] - sum(size for _, size in parts))))
    return tuple(parts)
