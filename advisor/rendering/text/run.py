"""The ladder of a run as text: baseline, each technique added, full stack; predicted, measured and error side by side."""

from collections.abc import Iterable, Sequence
from statistics import fmean

from advisor.feedback.compare import ComparedMetric, ComparedRung, Comparison, RangeVerdict, compare
from advisor.profiles.metrics import Value
from advisor.profiles.request import Load, Workload
from advisor.profiles.run import Run, RungStatus
from advisor.quantities.formatting import ABSENT, Scale, number, one_digit, quantity, scale, spread, value_text
from advisor.quantities.metrics import METRICS, MetricInfo
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
"""From this width on, the ladder shows the range of every number."""
NOTICEABLE_PACE = 0.05
_GAINS = ("tpot_ms_mean", "throughput_tok_s", "ttft_ms_mean", "peak_memory_gib", "weights_gib", "kv_cache_gib", "perplexity")


def run_text(run: Run, *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """The ladder table of a run, what went wrong, and what the full stack gained over the baseline, measured."""
    look = Look(width, colour, ascii)
    comparison = compare(run)
    lines = [look.paint(line, "title") for line in wrap(f"Run {run.id}: {run.title}", look)]
    lines += _facts(run, look)
    lines += ["", *ladder_lines(comparison, look), *lines_below_ladder(comparison, look)]
    return look.finish(lines)


def ladder_lines(comparison: Comparison, look: Look) -> list[str]:
    """One row per rung and one group of columns per metric; as many groups side by side as fit."""
    steps = comparison.rungs
    if not steps:
        return ["No rung was run."]
    key = Column("rung", tuple(rung_label(step, steps) for step in steps), tuple(_tone(step) for step in steps), left=True)
    groups = [group for name in LADDER_METRICS if (group := _group(METRICS[name], steps, look)) is not None]
    if not groups:
        return table(key, [Group((Column("ended", tuple(step.status.value for step in steps)),))], look)
    legend = (
        "! = measured value outside the predicted range. error = predicted against measured, + is predicted too high. "
        "The last row is the full stack."
    )
    return [*table(key, groups, look), "", *(look.paint(line, "dim") for line in wrap(legend, look))]


def lines_below_ladder(comparison: Comparison, look: Look) -> list[str]:
    """What belongs under the ladder: acceptance and prefix hits, rungs that failed, and the gain of the full stack."""
    shares = [
        *_shares(comparison, "acceptance", "Accepted draft positions", look),
        *_shares(comparison, "prefix_hits", "Prefix hits", look),
    ]
    return [*shares, *_problems(comparison, look), *_gains(comparison, look)]


def rung_label(step: ComparedRung, steps: Iterable[ComparedRung]) -> str:
    """A rung's name; techniques are shown as added."""
    first = next(iter(steps))
    return step.name if step is first or step.name not in step.techniques else f"+ {step.name}"


def _tone(step: ComparedRung) -> str:
    return "" if step.status is RungStatus.DONE else "bad"


def _group(shown: MetricInfo, steps: tuple[ComparedRung, ...], look: Look) -> Group | None:
    """The columns of one metric; `None` where no rung knows it. Columns that would be all empty are left out."""
    lines = [step.metric(shown.name) for step in steps]
    values = [value for line in lines if line for value in (line.predicted, line.measured) if value]
    if not values:
        return None
    scaled = scale(shown.unit, (value.value for value in values))
    ranges = look.columns >= _RANGES_FROM_COLUMNS
    columns = [
        _numbers("pred.", [line.predicted if line else None for line in lines], scaled, ranges=ranges),
        _numbers("meas.", [line.measured if line else None for line in lines], scaled, ranges=ranges or not shown.relative_error),
        _errors(lines, shown, scaled),
    ]
    known = tuple(column for column in columns if any(cell != ABSENT for cell in column.cells))
    unit = f", {scaled.unit}" if scaled.unit else ""
    return Group(known, f"{shown.label}{unit}")


def _numbers(head: str, values: list[Value | None], scaled: Scale, *, ranges: bool) -> Column:
    return Column(head, tuple(_cell(value, scaled, ranges) for value in values))


def _cell(value: Value | None, scaled: Scale, ranges: bool) -> str:
    if value is None:
        return ABSENT
    text = number(value.value * scaled.factor)
    return f"{text} {spread(value, scaled)}".rstrip() if ranges else text


def _errors(lines: list[ComparedMetric | None], shown: MetricInfo, scaled: Scale) -> Column:
    tones = tuple("risk" if line and line.verdict is RangeVerdict.OUTSIDE else "" for line in lines)
    head = "error %" if shown.relative_error else "error"
    return Column(head, tuple(error_cell(line, scaled) for line in lines), tones)


def error_cell(line: ComparedMetric | None, scaled: Scale) -> str:
    """The error of a prediction, with a mark when the measured value left the predicted range."""
    if line is None or line.error is None:
        return ABSENT
    percent = line.error_unit == "%"
    error = line.error if percent else line.error * scaled.factor
    text = one_digit(error) if percent else number(error, signed=True)
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
    """How fast the processor ran, and what that does to the comparison where it matters."""
    text = f"the processor ran at {number(fmean(paces))} of its pace when profiled [{number(min(paces))}, {number(max(paces))} over rungs]"
    if max(paces) / min(paces) < 1 + NOTICEABLE_PACE and abs(fmean(paces) - 1) < NOTICEABLE_PACE:
        return text
    return f"{text}; so much of a miss is the machine's, not the prediction's"


def _shares(comparison: Comparison, metric: str, title: str, look: Look) -> list[str]:
    """What only some techniques have, such as the acceptance of speculation: a line for each and not a column."""
    lines: list[str] = []
    for step in comparison.rungs:
        line = step.metric(metric)
        if line:
            known = {"predicted": line.predicted, "measured": line.measured}
            text = ", ".join(f"{word} {value_text(value, 'fraction')}" for word, value in known.items() if value)
            lines += wrap(f"{step.name}: {text}{' !' if line.verdict is RangeVerdict.OUTSIDE else ''}", look, first=f"{title}  ")
    return ["", *lines] if lines else []


def _problems(comparison: Comparison, look: Look) -> list[str]:
    lines: list[str] = []
    for step in comparison.rungs:
        if step.status is not RungStatus.DONE:
            text = f"{step.name}: {step.status.value}" + (f": {step.problem}" if step.problem else "")
            lines += [look.paint(line, "bad") for line in wrap(text, look, first="× ")]
    return ["", *lines] if lines else []


def _gains(comparison: Comparison, look: Look) -> list[str]:
    """The full stack against the baseline, both measured."""
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


def _gain(shown: MetricInfo, before: Value, after: Value) -> str:
    change = ""
    if before.value > 0 and after.value > 0:
        change = f" ({number((after.value / before.value - 1) * 100, signed=True)} %)"
    return f"{quantity(before.value, shown.unit)} in the baseline, {value_text(after, shown.unit)} now{change}"


def workload_words(workload: Workload) -> str:
    """Lengths and load, as in `1024 prompt + 256 output tokens, sequences up to 32768, 16 in flight`."""
    load = f"{workload.concurrency} in flight" if workload.concurrency else workload.load.value
    if workload.request_rate_per_s:
        load = f"{number(workload.request_rate_per_s, trim=True)} requests per second"
    if workload.load is Load.BURST:
        load = f"{workload.concurrency} at once"
    if workload.trace is not None:
        load = f"on average, the {len(workload.trace.requests)} requests of {workload.trace.name}"
    shared = f" ({workload.shared_prefix_tokens} shared)" if workload.shared_prefix_tokens else ""
    longest = f", sequences up to {workload.longest_tokens}" if workload.longest_tokens > workload.context_tokens else ""
    return f"{workload.prompt_tokens} prompt{shared} + {workload.output_tokens} output tokens{longest}, {load}"
