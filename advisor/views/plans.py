"""The table of plans: a column per slot in which they differ, then memory, times, throughput and quality."""

from collections.abc import Sequence
from dataclasses import fields

from advisor.advice import Candidate, Status
from advisor.backends.technique import Slot, Technique
from advisor.numbers import ABSENT, Scale, number, percent, scale, spread
from advisor.profiles.metrics import Metrics, Value
from advisor.shown_metrics import SHOWN, Shown
from advisor.views.style import Look, flow, wrap
from advisor.views.table import Column, Group, table

GLYPHS = {Status.MEETS: "◆", Status.AT_RISK: "o", Status.MISSES: "×"}
_TONES = {Status.MEETS: "", Status.AT_RISK: "risk", Status.MISSES: "dim"}
_MOST_ROWS = 8
_RANGES_FROM_COLUMNS = 170
_IDS_FROM_COLUMNS = 100
_WIDE_SPREAD = 0.3
"""Half of the range over the value, from which a number is marked as uncertain."""
_NUMBERS = (
    ("Mem", ("peak_memory_gib",)),
    ("TTFT", ("ttft_ms_p95", "ttft_ms_mean")),
    ("TPOT", ("tpot_ms_p95", "tpot_ms_mean")),
    ("tok/s", ("throughput_tok_s",)),
    ("dQ", ("quality_loss_pct",)),
)
_SLOT_HEADS = {
    Slot.ARCHITECTURE: "Model",
    Slot.WEIGHTS: "Weights",
    Slot.ATTENTION: "Attention",
    Slot.KV_LAYOUT: "KV",
    Slot.KV_FORMAT: "KV type",
    Slot.KV_EVICTION: "Evict",
    Slot.KV_REUSE: "Reuse",
    Slot.DECODING: "Decode",
    Slot.BATCHING: "Batch",
    Slot.PARALLEL: "Spread",
    Slot.TRAINING: "Train",
}


def plan_lines(candidates: Sequence[Candidate], look: Look) -> list[str]:
    """The best candidates, one row each; what all of them share is said once below."""
    shown = list(candidates[:_MOST_ROWS])
    if not shown:
        return ["No plan to show."]
    tones = tuple(_TONES[candidate.status] for candidate in shown)
    key = Column("", tuple(GLYPHS[candidate.status] for candidate in shown), tones, left=True)
    slots = {slot: _slot_cells(slot, shown) for slot in Slot}
    differing = {slot: cells for slot, cells in slots.items() if len(set(cells)) > 1}
    groups = [Group((Column(_SLOT_HEADS[slot], cells, tones, left=True),)) for slot, cells in differing.items()]
    numbers = [group for head, names in _NUMBERS if (group := _numbers(head, names, shown, tones, look)) is not None]
    numbers.append(Group((Column("kept", tuple(percent(candidate.probability) for candidate in shown), tones),)))
    if look.columns >= _IDS_FROM_COLUMNS:
        numbers.append(Group((Column("plan", tuple(candidate.id for candidate in shown), tones, left=True),)))
    shared = [describe(technique) for technique in shown[0].techniques if technique.slot not in differing]
    return [*table(key, [*groups, *numbers], look), *_legend(shown, shared, look)]


def describe(technique: Technique) -> str:
    """A technique's name with the options that differ from their defaults."""
    options = [f"{field.name}={value}" for field in fields(technique) if (value := getattr(technique, field.name)) != field.default]
    return technique.name + (f" ({', '.join(options)})" if options else "")


def _slot_cells(slot: Slot, candidates: Sequence[Candidate]) -> tuple[str, ...]:
    chosen = [next((technique for technique in candidate.techniques if technique.slot is slot), None) for candidate in candidates]
    return tuple(_short(technique, [other for other in chosen if other]) if technique else ABSENT for technique in chosen)


def _short(technique: Technique, others: Sequence[Technique]) -> str:
    """The name without its slot's word, and the options in which techniques of that name differ between the rows."""
    name = technique.name.split("-", 1)[-1]
    alike = [other for other in others if other.name == technique.name]
    varying = [field.name for field in fields(technique) if len({str(getattr(other, field.name)) for other in alike}) > 1]
    return " ".join([name, *(str(getattr(technique, option)) for option in varying)])


def _numbers(head: str, names: tuple[str, ...], candidates: Sequence[Candidate], tones: tuple[str, ...], look: Look) -> Group | None:
    shown = next((SHOWN[name] for name in names if any(getattr(candidate.metrics, name) for candidate in candidates)), None)
    if shown is None:
        return None
    values = [_value(candidate.metrics, shown) for candidate in candidates]
    scaled = scale(shown.unit, (value.value for value in values if value))
    ranges = look.columns >= _RANGES_FROM_COLUMNS
    unit = "" if scaled.unit == "tok/s" else f" {scaled.unit}"
    return Group((Column(f"{head}{unit}", tuple(_cell(value, scaled, ranges) for value in values), tones),))


def _value(metrics: Metrics, shown: Shown) -> Value | None:
    value: Value | None = getattr(metrics, shown.name)
    return value


def _cell(value: Value | None, scaled: Scale, ranges: bool) -> str:
    if value is None:
        return ABSENT
    text = number(value.value * scaled.factor)
    if ranges:
        return f"{text} {spread(value, scaled)}".rstrip()
    return f"{text}~" if value.high - value.low > 2 * _WIDE_SPREAD * abs(value.value) else text


def _legend(candidates: Sequence[Candidate], shared: Sequence[str], look: Look) -> list[str]:
    words = {"◆": "meets the limits", "o": "meets them, less likely than 90 %", "×": "misses a limit"}
    used = dict.fromkeys(GLYPHS[candidate.status] for candidate in candidates)
    known = [f"{glyph} {words[glyph]}" for glyph in used]
    lines = wrap(f"In all of them: {', '.join(shared)}.", look) if shared else []
    known.append("kept: probability that all limits are")
    return [look.paint(line, "dim") for line in (*lines, *flow([*known, "~ range wider than 30 % either way"], look))]
