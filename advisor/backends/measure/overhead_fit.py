"""Fits the runtime's overheads beyond its operators: non-negative least squares over observed steps, relative errors."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np
from numpy.typing import NDArray

from advisor.profiles.machine import RuntimeOverheads


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedStep:
    """A kind of step of a model: its size, the time of its operators according to the tables, and its measured time."""

    layers: int
    sequences: int
    rows: int
    """New tokens of all sequences together."""
    hidden_size: int
    operators_s: float
    seconds: float

    @property
    def counts(self) -> tuple[float, float, float, float]:
        """How often each overhead occurs, in the order of `RuntimeOverheads`."""
        return 1.0, float(self.layers), float(self.sequences), float(self.layers * self.rows * self.hidden_size)


@dataclass(frozen=True, slots=True)
class Fit:
    """The fitted overheads and the residual."""

    overheads: RuntimeOverheads
    residual_pct: float
    """Median absolute difference between a step and its operators with the overheads, percent of the step."""


def fit_overheads(steps: Sequence[ObservedStep]) -> Fit:
    """The non-negative overheads that minimise the squared relative error of `operators_s` plus overheads against `seconds`."""
    measured = np.array([step.seconds for step in steps])
    operators = np.array([step.operators_s for step in steps])
    counts = np.array([step.counts for step in steps])
    costs = non_negative_least_squares(counts / measured[:, None], (measured - operators) / measured)
    residual = np.abs(counts @ costs + operators - measured) / measured
    step_s, layer_s, sequence_s, element_s = (float(cost) for cost in costs)
    overheads = RuntimeOverheads(step_s=step_s, layer_s=layer_s, sequence_s=sequence_s, element_s=element_s)
    return Fit(overheads, 100 * median(residual.tolist()))


def non_negative_least_squares(rows: NDArray[np.float64], target: NDArray[np.float64]) -> NDArray[np.float64]:
    """The non-negative `x` [C] that minimises |rows·x − target| for `rows` [N, C], by least squares over every subset of the columns.

    Exact, and fast for few columns.
    """
    columns = rows.shape[1]
    best, least = np.zeros(columns), float(target @ target)
    for size in range(1, columns + 1):
        for chosen in map(list, combinations(range(columns), size)):
            subset = rows[:, chosen]
            scale = np.linalg.norm(subset, axis=0)
            scale[scale == 0] = 1.0
            solved = np.linalg.lstsq(subset / scale, target, rcond=None)[0] / scale
            residual = subset @ solved - target
            if (solved >= 0).all() and float(residual @ residual) < least:
                best, least = np.zeros(columns), float(residual @ residual)
                best[chosen] = solved
    return best
