"""Accuracy targets on published measurements, and whether they are met."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from statistics import fmean

from advisor.profiles.errors import AdvisorError
from advisor.profiles.hardware import load_hardware
from advisor.profiles.request import Load
from advisor.validation.errors import ComparedCase, ErrorRow, error_row, grouped

LONGEST_TTFT_MS = 8000.0
"""A longer TTFT in a closed loop is a queueing delay."""
COVERED_PCT = (86.0, 94.0)
"""Coverage of the 90 % ranges that is aimed at, as a mean over sources that no constant was fitted on."""
TORCH_ENGINES = ("transformers", "gpt-fast", "autoawq", "tinychat", "advisor")
"""Engines that run one stream in modelling code written with torch."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AccuracyTarget:
    """Bounds on one measure of error. `low` or `high` `None` is no bound; `reached` `None` is no rows."""

    metric: str
    measure: str
    low: float | None = None
    high: float | None = None
    unit: str = "%"
    reached: float | None
    rows: int

    @property
    def met(self) -> bool | None:
        """Whether `reached` is within the bounds; `None` without rows."""
        if self.reached is None:
            return None
        return (self.low is None or self.reached >= self.low) and (self.high is None or self.reached <= self.high)

    def as_dict(self) -> dict[str, object]:
        """The published form."""
        return {name: getattr(self, name) for name in self.__slots__} | {"met": self.met}


def targets_of(compared: Sequence[ComparedCase]) -> tuple[AccuracyTarget, ...]:
    """Every target, on rows that state the weights' precision; the share of answered rows on all."""
    stated = [item for item in compared if item.case.precision_stated]
    return (*_times(stated), *_single_stream(stated), *_rates_and_memory(stated), *_coverage(stated), _answered(compared))


def _times(stated: Sequence[ComparedCase]) -> Iterator[AccuracyTarget]:
    tpot = error_row("TPOT, closed loop", [item for item in stated if item.case.metric == "tpot_ms" and _load(item) is Load.CLOSED])
    yield _median(tpot, 9)
    yield _target(tpot, "mean |error|", tpot.mean_abs_pct, high=16)
    yield _target(tpot, "Spearman", tpot.ranking, low=0.97, unit="")
    waits = [
        item for item in stated if item.case.metric == "ttft_ms" and _load(item) is Load.CLOSED and item.case.measured < LONGEST_TTFT_MS
    ]
    ttft = error_row("TTFT, closed loop, below 8 s", waits)
    yield _median(ttft, 20)
    yield _target(ttft, "bias", ttft.median_bias_pct, low=-8, high=8)


def _single_stream(stated: Sequence[ComparedCase]) -> Iterator[AccuracyTarget]:
    decoding = [item for item in stated if item.case.metric == "decode_tok_s_single_stream"]
    yield _median(error_row("single-stream decode", decoding), 10)
    for family, rows in grouped(decoding, lambda item: _family(item.case.hardware)).items():
        yield _median(error_row(f"single-stream decode, {family}", rows), 10)
    for name, is_member in _ENGINES:
        yield _median(error_row(f"single-stream decode, {name}", [item for item in decoding if is_member(item.case.engine)]), 10)


_ENGINES: tuple[tuple[str, Callable[[str], bool]], ...] = (
    ("llama.cpp", lambda engine: engine == "llama.cpp"),
    ("torch engines", lambda engine: engine in TORCH_ENGINES),
)


def _rates_and_memory(stated: Sequence[ComparedCase]) -> Iterator[AccuracyTarget]:
    wanted = (
        ("prefill", ("prefill_tok_s",), None, 18),
        ("maximum throughput, offline", ("output_tok_s_total", "output_tok_s_per_gpu"), Load.OFFLINE, 18),
        ("memory", ("peak_memory_gb",), None, 4),
        ("maximum batch", ("max_batch",), None, 15),
    )
    for name, metrics, load, most in wanted:
        yield _median(error_row(name, [item for item in stated if item.case.metric in metrics and load in (None, _load(item))]), most)


def _coverage(stated: Sequence[ComparedCase]) -> Iterator[AccuracyTarget]:
    answered = (item for item in stated if item.predicted is not None)
    for metric, rows in grouped(answered, lambda item: item.case.metric).items():
        sources = grouped(rows, lambda item: item.case.publisher).values()
        covered = 100 * fmean(fmean(item.covered for item in members) for members in sources)
        name = f"{metric}, {len(sources)} source{'s' if len(sources) > 1 else ''}"
        yield _target(error_row(name, rows), "covered", covered, low=COVERED_PCT[0], high=COVERED_PCT[1])


def _answered(compared: Iterable[ComparedCase]) -> AccuracyTarget:
    row = error_row("rows answered", list(compared))
    rows = row.answered + row.refused
    return AccuracyTarget(metric=row.name, measure="share", low=97.0, reached=100 * row.answered / rows if rows else None, rows=rows)


def _median(row: ErrorRow, most: float) -> AccuracyTarget:
    return _target(row, "median |error|", row.median_abs_pct, high=most)


def _target(
    row: ErrorRow, measure: str, reached: float | None, *, low: float | None = None, high: float | None = None, unit: str = "%"
) -> AccuracyTarget:
    return AccuracyTarget(metric=row.name, measure=measure, low=low, high=high, unit=unit, reached=reached, rows=row.answered)


def _load(item: ComparedCase) -> Load | None:
    return item.case.configuration.load if item.case.configuration else None


@lru_cache(maxsize=256)
def _family(hardware: str) -> str:
    """First word of the architecture, `Apple` for all of Apple's; hardware outside the catalogue is a family of its own."""
    if hardware.startswith("apple-"):
        return "Apple"
    try:
        return load_hardware(hardware).arch.split()[0]
    except AdvisorError:
        return hardware
