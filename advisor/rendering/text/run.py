"""A run as text: the ladder from the baseline to the full stack, with predicted and measured values and errors side by side."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from advisor.feedback.compare import ComparedMetric, ComparedRung, Comparison, RangeVerdict, compare
from advisor.profiles.metrics import Value
from advisor.profiles.request import Load, Workload
from advisor.profiles.run import Run, RungStatus
from advisor.quantities.formatting import ABSENT, Scale, number, quantity, scale, signed_percent, spread, value_text
from advisor.quantities.metrics import METRICS, MetricInfo
from advisor.rendering.text.speedup import speedup_lines
from advisor.rendering.text.style import Look, wrap
from advisor.rendering.text.table import Column, Group, table

LADDER_METRICS = (
    "ttft_ms_mean",
    "tpot_ms_mean",
    "throughput_tok_s",
    "peak_memory_gib",
    "weights_gib",
    "kv_cache_gib",
    "quality_loss_pct",
    "perplexity",
    "nll_difference",
    "kl_divergence",
    "top1_agreement",
)
_RANGES_FROM_COLUMNS = 150
"""Minimum width at which the ladder shows the range of every number."""
NOTICEABLE_PACE = 0.05
"""Relative change of the processor's speed that is worth a remark."""
_GAINS = ("tpot_ms_mean", "throughput_tok_s", "ttft_ms_mean", "peak_memory_gib", "weights_gib", "kv_cache_gib", "perplexity")


def run_text(run: Run, *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """The ladder of a run, the rungs that failed, and the measured gain of the full stack over the baseline."""
    look = Look(width, colour, ascii)
    comparison = compare(run)
    lines = [look.paint(line, "title") for line in wrap(f"Run {run.id}: {run.title}", look)]
    lines += [*speedup_lines(comparison, look), *_facts(run, look)]
    lines += ["", *ladder_lines(comparison, look), *lines_below_ladder(comparison, look)]
    return look.finish(lines)


def ladder_lines(comparison: Comparison, look: Look) -> list[str]:
    """One row per rung and one group of columns per metric; as many groups side by side as fit."""
    rungs = comparison.rungs
    if not rungs:
        return ["No rung was run."]
    key = Column("rung", tuple(rung_label(rung, rungs) for rung in rungs), tuple(_tone(rung) for rung in rungs), left=True)
    groups = [group for name in LADDER_METRICS if (group := _group(METRICS[name], rungs, look)) is not None]
    if not groups:
        return table(key, [Group((Column("ended", tuple(rung.status.value for rung in rungs)),))], look)
    legend = (
        "! = measured value outside the predicted range. error = predicted minus measured, + is predicted too high. "
        "The last row is the full stack."
    )
    return [*table(key, groups, look), "", *(look.paint(line, "dim") for line in wrap(legend, look))]


def lines_below_ladder(comparison: Comparison, look: Look) -> list[str]:
    """Acceptance and prefix hits, rungs that failed, and the measured gain of the full stack."""
    shares = [
        *_shares(comparison, "acceptance", "Accepted draft positions", look),
        *_shares(comparison, "prefix_hits", "Prefix hits", look),
    ]
    return [*shares, *_problems(comparison, look), *_gains(comparison, look)]


def rung_label(rung: ComparedRung, rungs: Iterable[ComparedRung]) -> str:
    """A rung's name, with a plus sign where it adds a technique."""
    first = next(iter(rungs))
    return rung.name if rung is first or rung.name not in rung.techniques else f"+ {rung.name}"


def _tone(rung: ComparedRung) -> str:
    return "" if rung.status is RungStatus.DONE else "bad"


def _group(info: MetricInfo, rungs: tuple[ComparedRung, ...], look: Look) -> Group | None:
    """The columns of one metric that have a value; `None` where no rung has the metric."""
    lines = [rung.metric(info.name) for rung in rungs]
    values = [value for line in lines if line for value in (line.predicted, line.measured) if value]
    if not values:
        return None
    scaled = scale(info.unit, (value.value for value in values))
    ranges = look.columns >= _RANGES_FROM_COLUMNS
    columns = [
        _numbers("pred.", [line.predicted if line else None for line in lines], scaled, ranges=ranges),
        _numbers("meas.", [line.measured if line else None for line in lines], scaled, ranges=ranges or not info.relative_error),
        _errors(lines, info, scaled),
    ]
    filled = tuple(column for column in columns if any(cell != ABSENT for cell in column.cells))
    unit = f", {scaled.unit}" if scaled.unit else ""
    return Group(filled, f"{info.label}{unit}")


def _numbers(head: str, values: list[Value | None], scaled: Scale, *, ranges: bool) -> Column:
    return Column(head, tuple(_cell(value, scaled, ranges) for value in values))


def _cell(value: Value | None, scaled: Scale, ranges: bool) -> str:
    if value is None:
        return ABSENT
    text = number(value.value * scaled.factor)
    return f"{text} {spread(value, scaled)}".rstrip() if ranges else text


def _errors(lines: list[ComparedMetric | None], info: MetricInfo, scaled: Scale) -> Column:
    tones = tuple("risk" if line and line.verdict is RangeVerdict.OUTSIDE else "" for line in lines)
    head = "error %" if info.relative_error else "error"
    return Column(head, tuple(error_cell(line, scaled) for line in lines), tones)


def error_cell(line: ComparedMetric | None, scaled: Scale) -> str:
    """The error of a prediction, with a mark where the measured value is outside the predicted range."""
    if line is None or line.error is None:
        return ABSENT
    percent = line.error_unit == "%"
    error = line.error if percent else line.error * scaled.factor
    text = signed_percent(error) if percent else number(error, signed=True)
    return f"{text}{'!' if line.verdict is RangeVerdict.OUTSIDE else ' '}"


def _facts(run: Run, look: Look) -> list[str]:
    recipe, machine = run.recipe, run.environment
    facts = {
        "model": run.model,
        "machine": f"{machine.device}, {machine.threads} threads, Python {machine.python}",
        "workload": workload_words(run.request.workload),
        "measured": f"{recipe.requests} requests after {recipe.warmup_requests} to warm up, {recipe.repeats} repeats, seed {recipe.seed}",
        "quality": f"{recipe.quality_tokens} tokens of {recipe.quality_text}",
    }
    if run.paces:
        facts["pace"] = pace_words(run.paces)
    return [line for name, text in facts.items() for line in wrap(text, look, first=f"{name:<10}")]


def pace_words(paces: Sequence[float]) -> str:
    """The processor's speed relative to its profile, and a warning where it affects the comparison."""
    text = f"the processor ran at {number(fmean(paces))} times its profiled speed [{number(min(paces))}, {number(max(paces))} over rungs]"
    if max(paces) / min(paces) < 1 + NOTICEABLE_PACE and abs(fmean(paces) - 1) < NOTICEABLE_PACE:
        return text
    return f"{text}; that part of an error comes from the machine, not from the prediction"


def _shares(comparison: Comparison, metric: str, title: str, look: Look) -> list[str]:
    """A metric that only some techniques have, such as the acceptance of drafted tokens: a line for each rung that has it."""
    lines: list[str] = []
    for rung in comparison.rungs:
        line = rung.metric(metric)
        if line:
            values = {"predicted": line.predicted, "measured": line.measured}
            text = ", ".join(f"{word} {value_text(value, 'fraction')}" for word, value in values.items() if value)
            lines += wrap(f"{rung.name}: {text}{' !' if line.verdict is RangeVerdict.OUTSIDE else ''}", look, first=f"{title}  ")
    return ["", *lines] if lines else []


def _problems(comparison: Comparison, look: Look) -> list[str]:
    lines: list[str] = []
    for rung in comparison.rungs:
        if rung.status is not RungStatus.DONE:
            text = f"{rung.name}: {rung.status.value}" + (f": {rung.problem}" if rung.problem else "")
            lines += [look.paint(line, "bad") for line in wrap(text, look, first="× ")]
    for name, fault in comparison.faults:
        lines += [look.paint(line, "bad") for line in wrap(f"{name}: {fault}", look, first="× ")]
    return ["", *lines] if lines else []


def _gains(comparison: Comparison, look: Look) -> list[str]:
    """The full stack compared with the baseline, both measured."""
    if len(comparison.rungs) < 2:
        return []
    first, last = comparison.rungs[0], comparison.rungs[-1]
    if {first.status, last.status} != {RungStatus.DONE}:
        return []
    lines = ["", *(look.paint(line, "title") for line in wrap(" + ".join(last.techniques), look, first="Full stack  "))]
    for name in _GAINS:
        before, after = first.metric(name), last.metric(name)
        if before and after and before.measured and after.measured:
            lines += wrap(_gain(METRICS[name], before.measured, after.measured), look, first=f"  {METRICS[name].label:<14}")
    return lines


def _gain(info: MetricInfo, before: Value, after: Value) -> str:
    change = ""
    if before.value > 0 and after.value > 0:
        change = f" ({number((after.value / before.value - 1) * 100, signed=True)} %)"
    return f"{quantity(before.value, info.unit)} in the baseline, {value_text(after, info.unit)} now{change}"


def workload_words(workload: Workload) -> str:
    """Lengths and load, as in `1024 prompt + 256 output tokens, sequences up to 32768, 16 in flight`."""
    load = f"{workload.concurrency} in flight" if workload.concurrency else workload.load.value
    if workload.request_rate_per_s:
        load = f"{number(workload.request_rate_per_s, trim=True)} requests per second"
    if workload.load is Load.BURST:
        load = f"a burst of {workload.concurrency}"
    if workload.trace is not None:
        requests = len(workload.trace.requests)
        load = f"on average, the {f'{requests} requests' if requests > 1 else 'one request'} of {workload.trace.name}"
    shared = f" ({workload.shared_prefix_tokens} shared)" if workload.shared_prefix_tokens else ""
    longest = f", sequences up to {workload.longest_tokens}" if workload.longest_tokens > workload.context_tokens else ""
    return f"{workload.prompt_tokens} prompt{shared} + {workload.output_tokens} output tokens{longest}, {load}"
