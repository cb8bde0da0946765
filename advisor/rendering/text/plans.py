"""The table of plans: a column per slot in which they differ, then memory, times, throughput and quality."""

from collections.abc import Sequence
from dataclasses import fields

from advisor.backends.deployment import Parallel
from advisor.backends.technique import Slot, Technique
from advisor.planning.advice import Candidate, Status
from advisor.profiles.metrics import Metrics, Value
from advisor.quantities.formatting import ABSENT, Scale, number, percent, scale, spread
from advisor.quantities.limits import COLUMNS
from advisor.quantities.metrics import METRICS, MetricInfo
from advisor.rendering.text.style import Look, flow, wrap
from advisor.rendering.text.table import Column, Group, table

GLYPHS = {Status.MEETS: "◆", Status.AT_RISK: "o", Status.INFEASIBLE: "×"}
_TONES = {Status.MEETS: "", Status.AT_RISK: "risk", Status.INFEASIBLE: "dim"}
_MOST_ROWS = 8
_RANGES_FROM_COLUMNS = 170
_IDS_FROM_COLUMNS = 100
_WIDE_SPREAD = 0.3
"""Half of the range over the value: above this, a number is marked as uncertain."""
LAYOUT_HEAD = "Layout"
SLOT_HEADS = {
    Slot.DTYPE: "Type",
    Slot.ARCHITECTURE: "Model",
    Slot.WEIGHTS: "Weights",
    Slot.ATTENTION: "Attention",
    Slot.KV_LAYOUT: "KV",
    Slot.KV_FORMAT: "KV type",
    Slot.KV_EVICTION: "Evict",
    Slot.KV_REUSE: "Reuse",
    Slot.DECODING: "Decode",
    Slot.BATCHING: "Batch",
    Slot.PARALLEL: "Parallel",
    Slot.TRAINING: "Train",
}
"""Slot to the head of its column."""


def plan_lines(candidates: Sequence[Candidate], look: Look) -> list[str]:
    """A table of the best candidates; the techniques that all of them share are listed once below it."""
    rows = list(candidates[:_MOST_ROWS])
    if not rows:
        return ["No plan to show."]
    key = Column("", tuple(GLYPHS[candidate.status] for candidate in rows), row_tones(rows), left=True)
    columns = [*technique_columns(rows), *number_columns(rows, look)]
    return [*table(key, [Group((column,)) for column in columns], look), *_legend(rows, shared_techniques(rows), look)]


def row_tones(candidates: Sequence[Candidate]) -> tuple[str, ...]:
    """The tone of each row."""
    return tuple(_TONES[candidate.status] for candidate in candidates)


def shared_techniques(candidates: Sequence[Candidate]) -> list[str]:
    """What all of them have, for which the table has no column: techniques with their options, and the layout over devices."""
    slots = differing_slots(candidates)
    shared = [describe(technique) for technique in candidates[0].techniques if technique.slot not in slots]
    parallel = {candidate.deployment.parallel for candidate in candidates}
    if len(parallel) == 1 and candidates[0].deployment.parallel.devices > 1:
        shared.append(candidates[0].deployment.parallel.words)
    return shared


def technique_columns(candidates: Sequence[Candidate]) -> list[Column]:
    """The layout over devices and each slot, where they differ."""
    tones = row_tones(candidates)
    layouts = tuple(layout_label(candidate.deployment.parallel) for candidate in candidates)
    columns = [Column(LAYOUT_HEAD, layouts, tones, left=True)] if len(set(layouts)) > 1 else []
    return columns + [Column(SLOT_HEADS[slot], cells, tones, left=True) for slot, cells in differing_slots(candidates).items()]


def number_columns(candidates: Sequence[Candidate], look: Look) -> list[Column]:
    """The metrics, the probability that all limits are met and, given the width, the id."""
    tones = row_tones(candidates)
    columns = [column for head, metric in COLUMNS if (column := _metric_column(head, metric, candidates, tones, look)) is not None]
    columns.append(Column("met", tuple(percent(candidate.probability) for candidate in candidates), tones))
    if look.columns >= _IDS_FROM_COLUMNS:
        columns.append(Column("plan", tuple(candidate.id for candidate in candidates), tones, left=True))
    return columns


def layout_label(parallel: Parallel) -> str:
    """A layout in vLLM's abbreviations, as in `TP4 DP2`; `1` for one device."""
    degrees = {"TP": parallel.tensor, "PP": parallel.pipeline, "DP": parallel.data, "EP": parallel.expert}
    return " ".join(f"{name}{degree}" for name, degree in degrees.items() if degree > 1) or "1"


def differing_slots(candidates: Sequence[Candidate]) -> dict[Slot, tuple[str, ...]]:
    """For each slot in which the candidates differ, a cell per candidate."""
    slots = {slot: _slot_cells(slot, candidates) for slot in Slot}
    return {slot: cells for slot, cells in slots.items() if len(set(cells)) > 1}


def describe(technique: Technique) -> str:
    """A technique's name with the options that differ from their defaults."""
    options = [f"{field.name}={value}" for field in fields(technique) if (value := getattr(technique, field.name)) != field.default]
    return technique.name + (f" ({', '.join(options)})" if options else "")


def _slot_cells(slot: Slot, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    chosen = [next((technique for technique in candidate.techniques if technique.slot is slot), None) for candidate in candidates]
    varying = _varying([technique for technique in chosen if technique])
    return tuple(_short(technique, varying[technique.name]) if technique else ABSENT for technique in chosen)


def _varying(techniques: Sequence[Technique]) -> dict[str, list[str]]:
    """For each name, the options in which techniques of that name differ."""
    by_name: dict[str, list[Technique]] = {}
    for technique in techniques:
        by_name.setdefault(technique.name, []).append(technique)
    return {
        name: [field.name for field in fields(group[0]) if len({str(getattr(other, field.name)) for other in group}) > 1]
        for name, group in by_name.items()
    }


def _short(technique: Technique, varying: Sequence[str]) -> str:
    """The name without the prefix of its slot, and the options in which techniques of that name differ between the rows."""
    options = (_option(option, getattr(technique, option)) for option in varying)
    return " ".join([technique.name.split("-", 1)[-1], *(word for word in options if word)])


def _option(name: str, value: object) -> str:
    """The value of an option; for a boolean, its name where it is set."""
    return (name if value else "") if isinstance(value, bool) else str(value)


def _metric_column(head: str, bounded: MetricInfo, candidates: Sequence[Candidate], tones: tuple[str, ...], look: Look) -> Column | None:
    """A column of the metric, or of its mean where no candidate has a percentile; `None` where none has either."""
    names = (bounded.name, bounded.name.replace("_p95", "_mean"))
    info = next((METRICS[name] for name in names if any(getattr(candidate.metrics, name) for candidate in candidates)), None)
    if info is None:
        return None
    values = [_value(candidate.metrics, info) for candidate in candidates]
    scaled = scale(info.unit, (value.value for value in values if value))
    ranges = look.columns >= _RANGES_FROM_COLUMNS
    unit = "" if scaled.unit == "tok/s" else f" {scaled.unit}"
    statistic = info.label.removeprefix(head) if info.label.startswith(head) else ""
    return Column(f"{head}{statistic}{unit}", tuple(_cell(value, scaled, ranges) for value in values), tones)


def _value(metrics: Metrics, info: MetricInfo) -> Value | None:
    value: Value | None = getattr(metrics, info.name)
    return value


def _cell(value: Value | None, scaled: Scale, ranges: bool) -> str:
    if value is None:
        return ABSENT
    text = number(value.value * scaled.factor)
    if ranges:
        return f"{text} {spread(value, scaled)}".rstrip()
    return f"{text}~" if value.high - value.low > 2 * _WIDE_SPREAD * abs(value.value) else text


def _legend(candidates: Sequence[Candidate], shared: Sequence[str], look: Look) -> list[str]:
    words = {"◆": "meets the limits", "o": "meets them with under 90 % probability", "×": "misses a limit"}
    used = dict.fromkeys(GLYPHS[candidate.status] for candidate in candidates)
    legend = [f"{glyph} {words[glyph]}" for glyph in used]
    lines = wrap(f"In all of them: {', '.join(shared)}.", look) if shared else []
    if any(candidate.metrics.quality_loss_pct for candidate in candidates):
        legend.append("dQ: quality loss")
    legend.append("met: probability that all limits are met")
    return [look.paint(line, "dim") for line in (*lines, *flow([*legend, "~ range wider than 30 % either way"], look))]
