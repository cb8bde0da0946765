"""`probability` for many stacks at once: every argument and result has an entry for each stack."""

import math
from collections.abc import Mapping

import numpy as np

from advisor.estimate.arrays import Numbers
from advisor.estimate.uncertainty.probability import correlated


def probabilities_of_meeting(low: Numbers, value: Numbers, high: Numbers, limit: float, *, higher_is_better: bool = False) -> Numbers:
    """`probability_of_meeting` of each value with its range."""
    logarithmic = low > 0
    safe = np.where(logarithmic, value, 1.0)
    log_limit = math.log(limit) if limit > 0 else -math.inf
    margin = np.where(logarithmic, log_limit - np.log(safe), limit - value)
    below = np.where(logarithmic, np.log(safe / np.where(logarithmic, low, 1.0)), value - low)
    above = np.where(logarithmic, np.log(np.where(logarithmic, high, 1.0) / safe), high - value)
    if higher_is_better:
        margin, below, above = -margin, above, below
    scale = np.where(margin < 0, below, above) / math.log(10)
    tail = np.where(scale > 0, 0.5 * np.exp(-np.abs(margin) / np.where(scale > 0, scale, 1.0)), 0.0)
    return np.where(margin < 0, tail, 1.0 - tail)


def joint_probabilities(probabilities: Mapping[str, Numbers], count: int) -> Numbers:
    """`joint_probability` of each of `count` stacks."""
    total = np.ones(count)
    for group in correlated(probabilities):
        total *= np.minimum.reduce(group)
    return total
