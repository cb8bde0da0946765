"""Fits what the runtime adds to its operators: non-negative least squares over observed steps, weighted by relative error."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from statistics import median

import numpy as np
from numpy.typing import NDArray

from advisor.profiles.machine import RuntimeOverheads


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedStep:
    """One kind of step of one model: its size, what its operators take by the tables, and what it took in all."""

    layers: int
    sequences: int
    rows: int
    """New tokens of all sequences."""
    hidden_size: int
    operators_s: float
    seconds: float

    @property
    def counts(self) -> tuple[float, float, float, float]:
        """How often each overhead occurs, in the order of `RuntimeOverheads`."""
        return 1.0, float(self.layers), float(self.sequences), float(self.layers * self.rows * self.hidden_size)


@dataclass(frozen=True, slots=True)
class Fit:
    """The overheads and how far the steps are from them."""

    overheads: RuntimeOverheads
    residual_pct: float
    """Median absolute difference between a step and its operators with the overheads, percent of the step."""


def fit_overheads(steps: Sequence[ObservedStep]) -> Fit:
    """The non-negative overheads that bring operators and observed steps together."""
    taken = np.array([step.seconds for step in steps])
    operators = np.array([step.operators_s for step in steps])
    counts = np.array([step.counts for step in steps])
    costs = non_negative_least_squares(counts / taken[:, None], (taken - operators) / taken)
    missed = np.abs(counts @ costs + operators - taken) / taken
    step_s, layer_s, sequence_s, element_s = (float(cost) for cost in costs)
    overheads = RuntimeOverheads(step_s=step_s, layer_s=layer_s, sequence_s=sequence_s, element_s=element_s)
    return Fit(overheads, 100 * median(missed.tolist()))


def non_negative_least_squares(rows: NDArray[np.float64], wanted: NDArray[np.float64]) -> NDArray[np.float64]:
    """The non-negative `x` with the least |rows·x − wanted|, by trying every set of columns: exact, and cheap for a few."""
    columns = rows.shape[1]
    best, least = np.zeros(columns), float(wanted @ wanted)
    for size in range(1, columns + 1):
        for chosen in map(list, combinations(range(columns), size)):
            part = rows[:, chosen]
            scale = np.linalg.norm(part, axis=0)
            scale[scale == 0] = 1.0
            solved = np.linalg.lstsq(part / scale, wanted, rcond=None)[0] / scale
            missed = part @ solved - wanted
            if (solved >= 0).all() and float(missed @ missed) < least:
                best, least = np.zeros(columns), float(missed @ missed)
                best[chosen] = solved
    return best
