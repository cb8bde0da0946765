"""Ranges of measured values hold what they should."""

import random

import pytest

from advisor.backends.measure.spread import bootstrap_value, mean_value, quantile, t_95
from advisor.profiles.metrics import Basis


def test_t_quantiles_agree_with_the_tables() -> None:
    for degrees, tabulated in ((1, 6.3138), (2, 2.9200), (3, 2.3534), (5, 2.0150), (10, 1.8125), (30, 1.6973)):
        assert t_95(degrees) == pytest.approx(tabulated, rel=0.03), degrees


def test_nine_of_ten_ranges_hold_the_true_mean() -> None:
    draw = random.Random(3)
    covered = sum(value.low <= 5.0 <= value.high for value in (mean_value([draw.gauss(5, 2) for _ in range(6)]) for _ in range(2000)))
    assert 0.87 < covered / 2000 < 0.93, covered


def test_a_range_is_cut_to_what_is_possible_but_holds_the_value() -> None:
    share = mean_value([1.0, 1.0, 0.9], least=0.0, most=1.0)
    assert share.high == 1.0
    assert share.low <= share.value <= share.high


def test_one_part_alone_has_no_range() -> None:
    value = mean_value([3.0])
    assert (value.low, value.value, value.high, value.basis) == (3.0, 3.0, 3.0, Basis.MEASURED)


def test_bootstrap_repeats_and_holds_its_value() -> None:
    values = [random.Random(1).expovariate(1.0) for _ in range(40)]
    first, second = (bootstrap_value(values, lambda drawn: quantile(drawn, 0.95), seed=5) for _ in range(2))
    assert first == second
    assert first.low <= first.value <= first.high


def test_quantiles_lie_between_neighbours() -> None:
    assert quantile([4.0], 0.95) == 4.0
    assert quantile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert quantile([0.0, 10.0], 0.95) == pytest.approx(9.5)
