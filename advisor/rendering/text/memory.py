"""The memory of a plan on one device: its parts, and a bar with the budget."""

from dataclasses import dataclass

from advisor.profiles.metrics import Metrics, Value
from advisor.quantities.formatting import quantity, scale, spread
from advisor.rendering.text.style import Look, flow, wrap

_LEAST_CELLS = 10


@dataclass(frozen=True, slots=True)
class MemorySegment:
    """One part of a device's memory, in GiB, and the glyph that draws it."""

    label: str
    gib: float
    glyph: str


def memory_parts(metrics: Metrics, kv_format: str | None = None) -> tuple[MemorySegment, ...]:
    """Weights, KV cache in its format, the rest, and the range above the predicted total; empty where the total is not known."""
    total = metrics.peak_memory_gib
    if total is None:
        return ()
    weights = metrics.weights_gib.value if metrics.weights_gib else 0.0
    cache = metrics.kv_cache_gib.value if metrics.kv_cache_gib else 0.0
    return (
        MemorySegment("weights", weights, "█"),
        MemorySegment(f"KV cache in {kv_format}" if kv_format else "KV cache", cache, "▓"),
        MemorySegment("activations and runtime", max(0.0, total.value - weights - cache), "▒"),
        MemorySegment("uncertainty", total.high - total.value, "░"),
    )


def memory_bar(metrics: Metrics, *, device_gib: float, budget_gib: float | None, look: Look, kv_format: str | None = None) -> list[str]:
    """A sentence, the bar with a mark at the budget (default: the device's memory), and the size of each part."""
    total, parts = metrics.peak_memory_gib, memory_parts(metrics, kv_format)
    if total is None:
        return ["Memory: not known."]
    budget = device_gib if budget_gib is None else budget_gib
    tone = "bad" if total.value > budget else "risk" if total.high > budget else "good"
    taken = f"{quantity(total.value, 'GiB')} {spread(total, scale('GiB', (total.value,)))}".rstrip()
    sentence = f"{taken} of {capacity_words(device_gib, budget_gib)}: {fit_words(total, budget)}"
    lines = [look.paint(line, tone) for line in wrap(sentence, look, first="Memory per device  ")]
    lines.append(_bar(parts, budget, max(device_gib, budget, total.high), look))
    legend = [f"{part.glyph} {part.label} {quantity(part.gib, 'GiB')}" for part in parts if part.gib > 0]
    mark = f"┃ {'device' if budget_gib is None else 'budget'} {quantity(budget, 'GiB', trim=True)}"
    return [*lines, *flow([*legend, mark], look)]


def capacity_words(device_gib: float, budget_gib: float | None) -> str:
    """The memory of the device and, where there is one, the budget: `device 80 GiB, budget 20 GiB`."""
    budget = "" if budget_gib is None else f", budget {quantity(budget_gib, 'GiB', trim=True)}"
    return f"device {quantity(device_gib, 'GiB')}{budget}"


def fit_words(total: Value, budget_gib: float) -> str:
    """Whether a predicted total fits in the budget, and by how much."""
    free_gib = budget_gib - total.value
    if free_gib < 0:
        return f"over by {quantity(-free_gib, 'GiB')}"
    crosses = ", but the range crosses the budget" if total.high > budget_gib else ""
    return f"fits, {quantity(free_gib, 'GiB')} free{crosses}"


def _bar(parts: tuple[MemorySegment, ...], budget: float, whole: float, look: Look) -> str:
    """The parts side by side, `whole` GiB in all columns, with a mark at the budget; sizes beyond either end are cut off."""
    cells = max(_LEAST_CELLS, look.columns - 1)

    def cell_of(gib: float) -> int:
        return round(min(1.0, max(0.0, gib / whole)) * cells)

    line = ["·"] * cells
    filled = 0.0
    for part in parts:
        begin, end = cell_of(filled), cell_of(filled + part.gib)
        line[begin:end] = part.glyph * (end - begin)
        filled += part.gib
    line.insert(cell_of(budget), "┃")
    return "".join(line)[: look.columns]
