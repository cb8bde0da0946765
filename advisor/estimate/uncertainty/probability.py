"""How likely a prediction keeps a limit, from its value and its 90 % range.

The error is taken as a two-piece Laplace distribution of the logarithm: half of it on either side of the value, 5 % beyond
each end of the range. Published errors have tails heavier than normal ones, and the ranges are seldom symmetric. Where a
range reaches zero, as for quality, the same holds of the number itself.
"""

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, TypeVar

from advisor.profiles.metrics import Value

if TYPE_CHECKING:  # numpy takes a tenth of a second to import; the functions that need it do
    from numpy import float64
    from numpy.typing import NDArray

    Numbers = NDArray[float64]

T = TypeVar("T")

GROUPS: tuple[frozenset[str], ...] = (
    frozenset({"ttft_ms_p95", "tpot_ms_p95", "throughput_tok_s", "request_rate_per_s"}),
    frozenset({"memory_gib_per_device"}),
    frozenset({"quality_loss_pct"}),
)
"""Limits by what they rest on. Times come from the same prices of steps: where one is too low, so are the others."""


def keeps_probability(value: Value, limit: float, *, higher_is_better: bool = False) -> float:
    """How likely the number is on the right side of `limit`: 1/2 at its value, 0.95 at the end of its range, 0 or 1 where it is exact."""
    if value.low > 0:
        room = (math.log(limit) if limit > 0 else -math.inf) - math.log(value.value)
        below, above = math.log(value.value / value.low), math.log(value.high / value.value)
    else:
        room, below, above = limit - value.value, value.value - value.low, value.high - value.value
    if higher_is_better:
        room, below, above = -room, above, below
    width = (below if room < 0 else above) / math.log(10)
    tail = 0.5 * math.exp(-abs(room) / width) if width > 0 else 0.0
    return tail if room < 0 else 1.0 - tail


def limit_kept(value: Value, probability: float, *, higher_is_better: bool = False) -> float:
    """The limit that the number keeps with this probability, of at least 1/2.

    >>> value = Value(value=10.0, low=8.0, high=14.0, basis="datasheet")
    >>> round(limit_kept(value, 0.95), 6), round(keeps_probability(value, limit_kept(value, 0.9)), 6)
    (14.0, 0.9)
    """
    share = -math.log10(2 * (1 - probability))
    end = value.low if higher_is_better else value.high
    return value.value * (end / value.value) ** share if value.low > 0 else value.value + share * (end - value.value)


def keeps_probabilities(low: "Numbers", value: "Numbers", high: "Numbers", limit: float, *, higher_is_better: bool = False) -> "Numbers":
    """The same for many numbers at once."""
    # Deferred: see above.
    import numpy as np

    logarithmic = low > 0
    safe = np.where(logarithmic, value, 1.0)
    log_limit = math.log(limit) if limit > 0 else -math.inf
    room = np.where(logarithmic, log_limit - np.log(safe), limit - value)
    below = np.where(logarithmic, np.log(safe / np.where(logarithmic, low, 1.0)), value - low)
    above = np.where(logarithmic, np.log(np.where(logarithmic, high, 1.0) / safe), high - value)
    if higher_is_better:
        room, below, above = -room, above, below
    width = np.where(room < 0, below, above) / math.log(10)
    tail = np.where(width > 0, 0.5 * np.exp(-np.abs(room) / np.where(width > 0, width, 1.0)), 0.0)
    return np.where(room < 0, tail, 1.0 - tail)


def all_kept(chances: Mapping[str, float]) -> float:
    """How likely every limit is kept: the least likely of each group, and the groups independent of one another."""
    return math.prod(min(known) for known in _grouped(chances))


def all_kept_each(chances: Mapping[str, "Numbers"], count: int) -> "Numbers":
    """The same for `count` stacks at once."""
    # Deferred: see above.
    import numpy as np

    total = np.ones(count)
    for known in _grouped(chances):
        total *= np.minimum.reduce(known)
    return total


def _grouped(chances: Mapping[str, T]) -> list[list[T]]:
    grouped = ([chance for limit, chance in chances.items() if limit in group] for group in GROUPS)
    return [known for known in grouped if known]
