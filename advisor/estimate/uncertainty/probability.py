"""Probability that a predicted number meets a limit, from its value and its 90 % range.

The logarithm of the number follows an asymmetric (two-piece) Laplace distribution: half of the probability lies on either side
of the value, 5 % beyond each end of the range. Errors against published measurements have heavier tails than a normal
distribution, and are seldom symmetric. Where a range reaches zero, as for quality, the number itself follows the distribution.
"""

import math
from collections.abc import Mapping
from typing import TypeVar

from advisor.profiles.metrics import Value
from advisor.quantities.limits import LIMITS, ErrorGroup

T = TypeVar("T")

CORRELATED_LIMITS: tuple[frozenset[str], ...] = tuple(
    frozenset(limit.name for limit in LIMITS.values() if limit.error_group is group) for group in ErrorGroup
)
"""Fields of `Limits` whose predictions err together, each limit in one group."""


def probability_of_meeting(value: Value, limit: float, *, higher_is_better: bool = False) -> float:
    """Probability that the number is at most `limit`, or at least `limit` where `higher_is_better`.

    1/2 where the limit equals the value, 0.95 where it equals the end of the range; 0 or 1 for an exact value.
    """
    if value.low > 0:
        margin = (math.log(limit) if limit > 0 else -math.inf) - math.log(value.value)
        below, above = math.log(value.value / value.low), math.log(value.high / value.value)
    else:
        margin, below, above = limit - value.value, value.value - value.low, value.high - value.value
    if higher_is_better:
        margin, below, above = -margin, above, below
    scale = (below if margin < 0 else above) / math.log(10)
    tail = 0.5 * math.exp(-abs(margin) / scale) if scale > 0 else 0.0
    return tail if margin < 0 else 1.0 - tail


def limit_met_with(value: Value, probability: float, *, higher_is_better: bool = False) -> float:
    """The tightest limit that the number meets with `probability`, which is at least 1/2: a quantile of its distribution.

    >>> value = Value(value=10.0, low=8.0, high=14.0, basis="datasheet")
    >>> round(limit_met_with(value, 0.95), 6), round(probability_of_meeting(value, limit_met_with(value, 0.9)), 6)
    (14.0, 0.9)
    """
    share = -math.log10(2 * (1 - probability))
    end = value.low if higher_is_better else value.high
    return value.value * (end / value.value) ** share if value.low > 0 else value.value + share * (end - value.value)


def joint_probability(probabilities: Mapping[str, float]) -> float:
    """Probability that every limit is met, from that of each, by field of `Limits`: minimum within a group, product over groups."""
    return math.prod(min(group) for group in correlated(probabilities))


def correlated(probabilities: Mapping[str, T]) -> list[list[T]]:
    """Values by limit, put together where predictions err together; groups without a value are left out."""
    groups = ([value for limit, value in probabilities.items() if limit in group] for group in CORRELATED_LIMITS)
    return [group for group in groups if group]
