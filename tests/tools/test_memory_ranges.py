"""The range of memory holds what it promises on numbers whose spread is known; the tool's own arithmetic, without a prediction."""

import math
import random

import pytest

from tools import memory_ranges as tool


def scores(count: int, *, clusters: int = 1, between: float = 0.0, seed: int = 1) -> list[tool.Score]:
    rng = random.Random(seed)
    shifts = [rng.gauss(0, between) if between else 0.0 for _ in range(clusters)]
    return [tool.Score(rng.gauss(shifts[i % clusters], 1.0), str(i % clusters)) for i in range(count)]


@pytest.mark.parametrize("n", [19, 20, 39, 100, 999])
def test_a_quantile_leaves_as_many_out_as_a_finite_sample_allows(n: int) -> None:
    quantile = tool.conformal_quantile([float(i) for i in range(1, n + 1)], [1.0] * n, 0.05)
    assert quantile == min(math.ceil(round((n + 1) * 0.95, 9)), n)


def test_too_few_comparisons_give_the_largest() -> None:
    assert tool.conformal_quantile([3.0, 1.0, 2.0], [1.0] * 3, 0.05) == 3.0


def test_bounds_hold_ninety_percent_of_new_numbers() -> None:
    inside = []
    for seed in range(20):
        low, high = tool.conformal_bounds(scores(400, seed=seed))
        inside += [low <= score.value <= high for score in scores(400, seed=seed + 1000)]
    assert 0.89 <= sum(inside) / len(inside) <= 0.93


def test_few_comparisons_give_a_symmetric_range() -> None:
    low, high = tool.conformal_bounds(scores(25))
    assert low == -high < 0


def test_a_large_cluster_does_not_rule() -> None:
    big = [tool.Score(0.1 * (i % 2 - 0.5), "big") for i in range(10_000)]
    small = [tool.Score(float(c), f"{c}{i}") for c in (-2, 2) for i in range(40)]
    low, high = tool.conformal_bounds([*big, *small])
    assert (low, high) == (-2.0, 2.0)


def test_clusters_that_differ_stretch_the_range() -> None:
    alike, _ = tool.stretched(scores(600, clusters=12))
    apart, _ = tool.stretched(scores(600, clusters=12, between=3.0, seed=3))
    assert alike <= 1.05 <= apart


def test_factors_are_of_the_part_that_is_not_exact() -> None:
    below, above = tool.factors_of([tool.Score(value / 50, str(value)) for value in range(-50, 51)])
    assert 1 / below - 1 == pytest.approx(above - 1, rel=0.05)
    assert 0.8 < above - 1 < 1.2
