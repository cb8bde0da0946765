"""A run as one self-contained HTML page: plots, tables, missed limits, environment and the commands to repeat it. No script."""

from collections.abc import Callable, Sequence
from pathlib import Path
from string import Template

from advisor.backends.measure.spread import quantile
from advisor.feedback.causes import likely_cause
from advisor.feedback.compare import HEADLINES, ComparedMetric, Comparison, RangeVerdict, compare
from advisor.planfile.command import plan_command
from advisor.profiles.files import write_whole
from advisor.profiles.metrics import Sample
from advisor.profiles.request import Load
from advisor.profiles.run import Run, RungStatus
from advisor.quantities.formatting import number, quantity, scale, signed_percent
from advisor.quantities.limits import LIMITS
from advisor.quantities.metrics import METRICS
from advisor.rendering.html.elements import Markup, joined, tag
from advisor.rendering.html.plots import Dots, Row, StackedBar, distribution_plot, ladder_plot, memory_plot, scatter_plot
from advisor.rendering.html.tables import (
    contributions_table,
    every_number_table,
    metric_table,
    paired_table,
    quality_table,
    requests_table,
    table,
)
from advisor.rendering.text.run import pace_words, rung_label, workload_words

_TEMPLATE = Path(__file__).with_name("run_page.html")
STYLE = Path(__file__).with_name("page.css")
"""The style sheet of every page."""
_SCATTERED = ("ttft_ms_mean", "tpot_ms_mean", "throughput_tok_s")
_CARDS = ("tpot_ms_mean", "throughput_tok_s", "ttft_ms_mean", "peak_memory_gib", "perplexity")
_PARTS = ("weights", "KV cache", "everything else")
_TOLERANCE = 25.0


def write_report(run: Run, path: Path) -> Path:
    """Write the page to `path`, whole or not at all. Raises `AdvisorError` as `write_whole` does."""
    return write_whole(path, report_html(run))


def report_html(run: Run) -> str:
    """The page as text: the same bytes for the same run."""
    comparison = compare(run)
    labels = [rung_label(rung, comparison.rungs) for rung in comparison.rungs]
    body = [
        _head(run),
        _verdict(comparison),
        _cards(comparison),
        _section("Predicted and measured along the ladder", *_ladders(comparison, labels)),
        _section("Predicted against measured", *_scatters(comparison, labels)),
        _section("What each technique changed", *_contributions(comparison)),
        _section("Requests", *_distributions(run, labels)),
        _section("Memory by part", *_memory(comparison, labels)),
        _section("Quality", *_quality(run, comparison, labels)),
        _section("Every number", tag("details", tag("summary", "All metrics of all rungs"), every_number_table(comparison, labels))),
        _section("How it was measured", _environment(run)),
        _section("Repeat it", *_repeat(run)),
    ]
    title = f"{run.title} · run {run.id}"
    page = Template(_TEMPLATE.read_text(encoding="utf-8"))
    return page.substitute(title=joined(title), body=joined(*body), style=STYLE.read_text(encoding="utf-8"))


def _section(title: str, *content: str | None) -> Markup:
    return tag("section", tag("h2", title), *content) if any(content) else Markup("")


def _head(run: Run) -> Markup:
    what = f"{run.model} on {run.environment.device}: {workload_words(run.request.workload)}."
    return tag("header", tag("h1", run.title), tag("p", what), tag("p", f"Run {run.id} of {run.plan_id}, {run.created}.", class_="soft"))


def _verdict(comparison: Comparison) -> Markup:
    """Values within range; missed limits, failed rungs, errors of ours, values outside their range; likely cause of the largest miss."""
    faults = [f"{name}: {fault}." for name, fault in comparison.faults]
    misses = [*_limit_misses(comparison), *_failed_rungs(comparison), *faults, *_range_misses(comparison)]
    head = f"{comparison.within} of {comparison.compared} measured values lie within their predicted range."
    medians = [
        f"{METRICS[median.metric].label} {_percent(median.error_pct)}" for median in comparison.median_errors if median.metric in HEADLINES
    ]
    lines = [tag("p", tag("strong", head))]
    if medians:
        lines.append(tag("p", f"Median error over the ladder: {', '.join(medians)}."))
    if misses:
        lines.append(tag("ul", *(tag("li", miss) for miss in misses), class_="misses"))
    cause = likely_cause(comparison)
    if cause:
        lines.append(tag("p", f"Largest miss: {cause.miss}."))
        if cause.evidence:
            lines.append(tag("p", f"Likely cause: {'; '.join(cause.evidence)}."))
    bad = bool(misses) or comparison.full_stack is None
    return tag("div", *lines, class_="verdict missed" if bad else "verdict", role="status")


def _limit_misses(comparison: Comparison) -> list[Markup]:
    return [
        tag("span", f"Limit missed by the full stack: {_against_limit(line)}.", class_="missed-limit") for line in comparison.limits_missed
    ]


def _against_limit(line: ComparedMetric) -> str:
    info = METRICS[line.metric]
    assert line.measured is not None
    assert line.limit is not None
    return f"{info.label} {quantity(line.measured.value, info.unit)}, limit {quantity(line.limit, info.unit, trim=True)}"


def _failed_rungs(comparison: Comparison) -> list[str]:
    return [
        f"{rung.name}: {rung.status.value}" + (f": {rung.problem}" if rung.problem else "")
        for rung in comparison.rungs
        if rung.status is not RungStatus.DONE
    ]


def _range_misses(comparison: Comparison) -> list[str]:
    """One line per rung: the headline metrics outside their predicted range, and the number of other values outside."""
    lines = []
    for rung in comparison.rungs:
        outside = [line for line in rung.metrics if line.verdict is RangeVerdict.OUTSIDE]
        named = [_miss(line) for line in outside if line.metric in HEADLINES] or [_miss(line) for line in outside]
        others = f"; and {len(outside) - len(named)} more, listed under Every number" if len(outside) > len(named) else ""
        if outside:
            lines.append(f"{rung.name}, outside the predicted range: {'; '.join(named)}{others}.")
    return lines


def _miss(line: ComparedMetric) -> str:
    info = METRICS[line.metric]
    assert line.predicted is not None
    assert line.measured is not None
    predicted, measured = (quantity(value.value, info.unit) for value in (line.predicted, line.measured))
    return f"{info.label} {measured}, predicted {predicted}"


def _cards(comparison: Comparison) -> Markup | None:
    """The full stack compared with the baseline, both measured."""
    final = comparison.full_stack
    if final is None or len(comparison.rungs) < 2:
        return None
    cards = []
    for name in _CARDS:
        before, after = comparison.rungs[0].metric(name), final.metric(name)
        if before and after and before.measured and after.measured:
            info = METRICS[name]
            was = f"baseline {quantity(before.measured.value, info.unit)}"
            cards.append(
                tag("div", tag("span", info.label), tag("b", quantity(after.measured.value, info.unit)), tag("span", was), class_="card")
            )
    return tag("div", *cards, class_="cards", role="group", aria_label="Full stack, measured") if cards else None


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


def _ladders(comparison: Comparison, labels: Sequence[str]) -> list[Markup]:
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


def _scatters(comparison: Comparison, labels: Sequence[str]) -> list[Markup]:
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
    figures = (_percent(quantile(errors, 0.5)), _percent(max(errors))) if errors else ("-", "-")
    return (METRICS[metric].label, str(len(errors)), str(near), *figures)


def _percent(size: float) -> str:
    return f"{signed_percent(size).lstrip('+')} %"


def _contributions(comparison: Comparison) -> list[Markup | None]:
    shares = contributions_table(comparison)
    return [tag("p", "Change from the rung before it, in percent of that rung's value."), tag("figure", shares)] if shares else []


def _distributions(run: Run, labels: Sequence[str]) -> list[Markup]:
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


def _memory(comparison: Comparison, labels: Sequence[str]) -> list[Markup]:
    rows = [
        StackedBar(label, _stack(comparison, index, "predicted"), _stack(comparison, index, "measured"))
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


def _stack(comparison: Comparison, index: int, side: str) -> tuple[tuple[str, float], ...]:
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


def _quality(run: Run, comparison: Comparison, labels: Sequence[str]) -> list[Markup]:
    quality = quality_table(comparison, labels)
    if quality is None:
        return []
    text = (
        f"Measured on {run.recipe.quality_tokens} tokens of {run.recipe.quality_text}. Loss is the perplexity increase over the "
        "unmodified model; the NLL difference is paired, token by token; KL divergence and top-1 agreement compare the "
        "distributions of the next token."
    )
    return [tag("p", text), quality]


def _environment(run: Run) -> Markup:
    machine, recipe = run.environment, run.recipe
    facts = {
        "device": machine.device,
        "threads": str(machine.threads),
        "Python": machine.python,
        **machine.packages,
        "commit": machine.commit or "not known",
        "fingerprint": machine.fingerprint,
    }
    seconds = [rung.seconds for rung in run.rungs if rung.seconds is not None]
    steps = {
        "requests": f"{recipe.requests} after {recipe.warmup_requests} to warm up",
        "repeats": str(recipe.repeats),
        "seed": str(recipe.seed),
        "quality": f"{recipe.quality_tokens} tokens of {recipe.quality_text}",
        "processes": f"one per rung, {quantity(sum(seconds), 's')} in all" if seconds else "one per rung",
        "pace": pace_words(run.paces) if run.paces else "not known",
        "limits": "; ".join(
            f"{name} {number(bound, trim=True)}" for name, bound in run.request.limits.model_dump(exclude_none=True).items()
        )
        or "none",
    }
    times = [(rung.name, rung.status.value, number(rung.seconds) if rung.seconds is not None else "-") for rung in run.rungs]
    ladder = table(("rung", "ended", "wall time, s"), times, caption="Rungs", text_columns=(1,))
    return tag("div", _list(facts), tag("div", _list(steps), ladder), class_="columns")


def _list(facts: dict[str, str]) -> Markup:
    return tag("dl", *(part for name, text in facts.items() for part in (tag("dt", name), tag("dd", text))))


def _repeat(run: Run) -> list[Markup]:
    commands = (_plan_command(run), "advisor apply plan.yaml --out run", "advisor compare run/run.json")
    return [tag("pre", "\n".join(commands)), tag("p", "Definitions: "
        "TTFT runs from submission to the first token; TPOT is (last token − first token)/(tokens − 1); "
        "throughput counts output tokens of all requests over wall time.", class_="soft")]  # fmt: skip


def _plan_command(run: Run) -> str:
    """The `advisor plan` command of the same question."""
    workload, request = run.request.workload, run.request
    options = {
        "--devices": request.devices if request.devices > 1 else None,
        "--context": workload.longest_tokens,
        "--prompt-tokens": workload.prompt_tokens,
        "--output-tokens": workload.output_tokens,
        "--shared-prefix": workload.shared_prefix_tokens,
        "--concurrency": workload.concurrency if workload.load is not Load.BURST else None,
        "--burst": workload.concurrency if workload.load is Load.BURST else None,
        "--load-trace": workload.trace.name if workload.trace is not None else None,
        **{limit.flag: request.limits.bound(limit.name) for limit in LIMITS.values()},
        "--request-rate": workload.request_rate_per_s,
        "--prefer": request.prefer.value,
    }
    return plan_command(run.model, options, require=request.require, forbid=request.forbid)
