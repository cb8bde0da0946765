"""How far predictions are from measurements: errors by group, ranking, coverage, targets. Knows no estimator."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TYPE_CHECKING, TypeVar

from advisor.profiles.metrics import Value
from advisor.validation.cases import PublishedCase

if TYPE_CHECKING:
    pass

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

MIN_RANKED = 4
"""Fewest configurations of a workload that a ranking is judged on."""


@dataclass(frozen=True, slots=True)
class ComparedCase:
    """One measurement beside its prediction, or the reason why there is none."""

    case: PublishedCase
    predicted: Value | None
    model_kind: str
    refused: str

    @property
    def error(self) -> float:
        """(predicted − measured)/measured."""
        assert self.predicted is not None
        return self.predicted.value / self.case.measured - 1

    @property
    def covered(self) -> bool:
        """Whether the range holds the measurement."""
        assert self.predicted is not None
        return self.predicted.low <= self.case.measured <= self.predicted.high


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """The errors of one group of comparisons, in percent."""

    name: str
    answered: int
    refused: int
    median_abs_pct: float | None
    mean_abs_pct: float | None
    median_bias_pct: float | None
    """Median of the signed error: positive when predictions are too high."""
    coverage_pct: float | None
    ranking: float | None
    """Mean Spearman correlation within workloads: one model, prompt, answer and kind of load; `None` where none has enough rows."""
    ranking_same_hardware: float | None
    """The same within workloads on one kind of hardware: engines, layouts, formats and concurrency put in order."""

    def as_dict(self) -> dict[str, object]:
        """The published form."""
        return {name: getattr(self, name) for name in self.__slots__}


def error_row(name: str, compared: Sequence[ComparedCase]) -> ErrorRow:
    """Summarise one group."""
    answered = [one for one in compared if one.predicted is not None]
    refused = len(compared) - len(answered)
    if not answered:
        return ErrorRow(name, 0, refused, None, None, None, None, None, None)
    errors = [100 * one.error for one in answered]
    sizes = [abs(error) for error in errors]
    covered = 100 * fmean(one.covered for one in answered)
    ranks = (ranking(answered), ranking(answered, same_hardware=True))
    return ErrorRow(name, len(answered), refused, median(sizes), fmean(sizes), median(errors), covered, *ranks)


def ranking(compared: Iterable[ComparedCase], *, same_hardware: bool = False) -> float | None:
    """Mean Spearman correlation over workloads, weighted by their configurations."""
    scores = []
    for found in grouped(compared, _workload_on_hardware if same_hardware else _workload).values():
        measured = [one.case.measured for one in found]
        if len(found) >= MIN_RANKED and len(set(measured)) > 1:
            predicted = [one.predicted.value for one in found if one.predicted is not None]
            scores += [spearman(measured, predicted)] * len(found)
    return fmean(scores) if scores else None


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Rank correlation, ties at their mean rank; 0 where one side does not vary.

    >>> spearman([1, 2, 3], [10, 20, 30])
    1.0
    """
    a, b = _ranks(left), _ranks(right)
    middle = (len(a) + 1) / 2
    spread = (sum((x - middle) ** 2 for x in a) * sum((y - middle) ** 2 for y in b)) ** 0.5
    return sum((x - middle) * (y - middle) for x, y in zip(a, b, strict=True)) / spread if spread else 0.0


def _ranks(values: Sequence[float]) -> list[float]:
    order = sorted(range(len(values)), key=values.__getitem__)
    ranks, start = [0.0] * len(values), 0
    while start < len(order):
        end = start
        while end + 1 < len(order) and values[order[end + 1]] == values[order[start]]:
            end += 1
        for place in order[start : end + 1]:
            ranks[place] = (start + end) / 2 + 1
        start = end + 1
    return ranks


def _workload(one: ComparedCase) -> str:
    setting = one.case.setting
    assert setting is not None
    return f"{one.case.metric} {setting.model} {setting.prompt_tokens} {setting.output_tokens} {setting.load}"


def _workload_on_hardware(one: ComparedCase) -> str:
    return f"{_workload(one)} {one.case.hardware}"


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items by `key`, the largest group first."""
    groups: dict[Key, list[Item]] = {}
    for one in items:
        groups.setdefault(key(one), []).append(one)
    return dict(sorted(groups.items(), key=lambda item: -len(item[1])))
