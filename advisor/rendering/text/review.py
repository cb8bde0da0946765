"""The preview of applying a plan: processes, time, memory, disk and files, marked as in a diff."""

from math import ceil

from advisor.planfile.deployment import shorter_home
from advisor.profiles.formats import GIB
from advisor.quantities.formatting import quantity, value_text
from advisor.rendering.text.run import workload_words
from advisor.rendering.text.style import Look, wrap
from advisor.running.preflight import DISK_BYTES
from advisor.running.review import FILES, Review


def review_lines(review: Review, look: Look) -> list[str]:
    """One line for each effect of applying; what may go wrong is marked with `!`."""
    prepared, recipe = review.prepared, review.prepared.recipe
    left = [name for name in review.rungs if name not in review.finished]
    start = f"{len(left)} processes, one at a time, each with {prepared.model.id} from {shorter_home(str(prepared.model_folder))}"
    lines = _entry("+ start", start, look)
    lines += [line for number, name in enumerate(review.rungs, 1) for line in _rung(number, name, review, look)]
    lines += _entry("  time", f"about {minutes(review.seconds)}; it can be cancelled, and finished rungs are kept", look)
    lines += _memory(review, look)
    short = review.disk_is_short
    disk = f"about {quantity(DISK_BYTES / GIB, 'GiB')}, {quantity(review.free_disk_bytes / GIB, 'GiB')} are free"
    lines += _entry("! disk" if short else "  disk", disk, look, tone="bad" if short else "")
    lines += _entry("  serve", workload_words(prepared.request.workload), look)
    lines += _entry(
        "  recipe",
        f"{recipe.requests} requests after {recipe.warmup_requests} to warm up, {recipe.repeats} repeats, "
        f"quality on {recipe.quality_tokens} tokens of {recipe.quality_text}",
        look,
    )
    lines += _entry("+ write", f"{', '.join(FILES)} in {shorter_home(str(review.out))}", look)
    return [*lines, *_entry("  undo", f"nothing else is changed or downloaded; delete {review.out.name} to remove the run", look)]


def minutes(seconds: float) -> str:
    """A predicted duration, rounded up to half a minute."""
    halves = max(1, ceil(seconds / 30))
    return {1: "half a minute", 2: "a minute"}.get(halves, f"{halves / 2:g} minutes")


def _rung(number: int, name: str, review: Review, look: Look) -> list[str]:
    """A rung with what it adds, and whether it was measured before."""
    added = review.prepared.rungs[number - 1].techniques
    names = ", ".join(f"{technique.name} {technique.options_line}".rstrip() for technique in added)
    what = f"adds {names}" if added else "the unmodified model"
    note = " (measured before, kept)" if name in review.finished else ""
    return _entry("", f"{number}  {what}{note}", look)


def _memory(review: Review, look: Look) -> list[str]:
    if review.memory is None:
        return []
    free = review.free_memory_bytes
    peak = f"up to {value_text(review.memory, 'GiB')}" + ("" if free is None else f", {quantity(free / GIB, 'GiB')} are free")
    if free is None or review.memory.value <= free / GIB:
        return _entry("  memory", peak, look)
    return _entry("! memory", f"{peak}: likely to run out, which would be recorded as a result", look, tone="bad")


def _entry(head: str, text: str, look: Look, *, tone: str = "") -> list[str]:
    lines = wrap(text, look, first=f"{head:<10}")
    return [look.paint(line, tone) for line in lines] if tone else lines
