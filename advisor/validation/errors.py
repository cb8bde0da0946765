"""Errors of predictions by group: bias, coverage of ranges, rank correlation. Knows no estimator."""

from collections.abc import Callable, Hashable, Iterable, Sequence
from dataclasses import dataclass
from statistics import fmean, median
from typing import TypeVar

from advisor.profiles.metrics import Value
from advisor.validation.cases import PublishedCase

Item = TypeVar("Item")
Key = TypeVar("Key", bound=Hashable)

MIN_RANKED = 4
"""Fewest configurations of a workload for which a rank correlation is computed."""


@dataclass(frozen=True, slots=True)
class ComparedCase:
    """One measurement with its prediction, or with the reason why there is none."""

    case: PublishedCase
    predicted: Value | None
    model_kind: str
    """`dense` or `experts`, with `latent` or `recurrent` layers; empty where the model is unknown."""
    refused: str
    """Why there is no prediction; empty where there is one."""

    @property
    def error(self) -> float:
        """(predicted − measured)/measured."""
        assert self.predicted is not None
        return self.predicted.value / self.case.measured - 1

    @property
    def covered(self) -> bool:
        """Whether the measurement is in the predicted 90 % range."""
        assert self.predicted is not None
        return self.predicted.low <= self.case.measured <= self.predicted.high


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """Errors of one group of comparisons, in percent; `None` without a prediction in the group."""

    name: str
    answered: int
    refused: int
    median_abs_pct: float | None
    mean_abs_pct: float | None
    median_bias_pct: float | None
    """Median of the signed error: positive when predictions are too high."""
    coverage_pct: float | None
    """Share of measurements in the predicted 90 % range."""
    ranking: float | None
    """Mean Spearman correlation within workloads of one model, lengths and kind of load; `None` where none has `MIN_RANKED` rows."""
    ranking_same_hardware: float | None
    """The same within workloads on one kind of hardware: the order of engines, layouts, formats and concurrency."""

    def as_dict(self) -> dict[str, object]:
        """The published form."""
        return {name: getattr(self, name) for name in self.__slots__}


def error_row(name: str, compared: Sequence[ComparedCase]) -> ErrorRow:
    """The errors of one group."""
    answered = [item for item in compared if item.predicted is not None]
    refused = len(compared) - len(answered)
    if not answered:
        return ErrorRow(name, 0, refused, None, None, None, None, None, None)
    errors = [100 * item.error for item in answered]
    sizes = [abs(error) for error in errors]
    covered = 100 * fmean(item.covered for item in answered)
    ranks = (ranking(answered), ranking(answered, same_hardware=True))
    return ErrorRow(name, len(answered), refused, median(sizes), fmean(sizes), median(errors), covered, *ranks)


def ranking(compared: Iterable[ComparedCase], *, same_hardware: bool = False) -> float | None:
    """Mean Spearman correlation over workloads, weighted by their configurations."""
    scores = []
    for group in grouped(compared, _workload_on_hardware if same_hardware else _workload).values():
        measured = [item.case.measured for item in group]
        if len(group) >= MIN_RANKED and len(set(measured)) > 1:
            predicted = [item.predicted.value for item in group if item.predicted is not None]
            scores += [spearman(measured, predicted)] * len(group)
    return fmean(scores) if scores else None


def spearman(left: Sequence[float], right: Sequence[float]) -> float:
    """Spearman's rank correlation, ties at their mean rank; 0 where one side does not vary.

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
        for index in order[start : end + 1]:
            ranks[index] = (start + end) / 2 + 1
        start = end + 1
    return ranks


def _workload(item: ComparedCase) -> str:
    configuration = item.case.configuration
    assert configuration is not None, "only cases with a prediction are ranked"
    lengths = f"{configuration.prompt_tokens} {configuration.output_tokens}"
    return f"{item.case.metric} {configuration.model} {lengths} {configuration.load}"


def _workload_on_hardware(item: ComparedCase) -> str:
    return f"{_workload(item)} {item.case.hardware}"


def grouped(items: Iterable[Item], key: Callable[[Item], Key]) -> dict[Key, list[Item]]:
    """Items by `key`, the largest group first."""
    groups: dict[Key, list[Item]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))
