"""The fit finds the overheads that made the steps, and never a negative one."""

import random

import numpy as np
import pytest

from advisor.backends.measure.overhead_fit import ObservedStep, fit_overheads, non_negative_least_squares

STEP_S, LAYER_S, SEQUENCE_S, ELEMENT_S = 2e-4, 1.5e-4, 1e-5, 2e-10


def observed(noise: float = 0.0) -> list[ObservedStep]:
    draw = random.Random(7)
    steps = []
    for layers, hidden in ((2, 128), (4, 256), (8, 512), (4, 1024)):
        for sequences, tokens in ((1, 1), (4, 1), (16, 1), (1, 64), (1, 512)):
            rows, operators_s = sequences * tokens, 1e-5 * layers * tokens
            overhead_s = STEP_S + layers * LAYER_S + sequences * SEQUENCE_S + layers * rows * hidden * ELEMENT_S
            steps.append(
                ObservedStep(
                    layers=layers,
                    sequences=sequences,
                    rows=rows,
                    hidden_size=hidden,
                    operators_s=operators_s,
                    seconds=(operators_s + overhead_s) * (1 + noise * draw.gauss(0, 1)),
                )
            )
    return steps


def test_overheads_that_made_the_steps_are_found_again() -> None:
    fit = fit_overheads(observed())
    solution = (fit.overheads.step_s, fit.overheads.layer_s, fit.overheads.sequence_s, fit.overheads.element_s)
    assert solution == pytest.approx((STEP_S, LAYER_S, SEQUENCE_S, ELEMENT_S), rel=1e-6)
    assert fit.residual_pct < 1e-6


def test_noise_of_five_per_cent_shows_as_a_residual_of_that_size() -> None:
    fit = fit_overheads(observed(noise=0.05))
    assert 1 < fit.residual_pct < 8, fit
    assert fit.overheads.layer_s == pytest.approx(LAYER_S, rel=0.2)


def test_steps_cheaper_than_their_operators_give_zero_not_a_negative_overhead() -> None:
    cheaper = [
        step.__class__(**{name: getattr(step, name) for name in step.__slots__} | {"seconds": step.operators_s / 2}) for step in observed()
    ]
    assert fit_overheads(cheaper).overheads.model_dump() == {"step_s": 0, "layer_s": 0, "sequence_s": 0, "element_s": 0}


def test_the_least_squares_agree_with_a_grid_search() -> None:
    draw = np.random.default_rng(1)
    rows, wanted = draw.normal(size=(12, 2)), draw.normal(size=12)
    solution = non_negative_least_squares(rows, wanted)
    grid = np.linspace(0, 2, 201)
    least = min(float(np.sum((rows @ np.array([a, b]) - wanted) ** 2)) for a in grid for b in grid)
    assert float(np.sum((rows @ solution - wanted) ** 2)) <= least + 1e-12
