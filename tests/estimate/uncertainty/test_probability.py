"""Probabilities of keeping limits, from values with ranges."""

import math

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from advisor.estimate.uncertainty.probability import joint_probability, probability_of_meeting
from advisor.estimate.uncertainty.probability_columns import joint_probabilities, probabilities_of_meeting
from advisor.profiles.metrics import Basis, Value
from advisor.quantities.limits import LIMITS

positive = st.floats(1e-3, 1e6)
factors = st.floats(1.0, 10.0)


@st.composite
def values(draw: st.DrawFn) -> Value:
    """Any range, also one that reaches zero."""
    middle = draw(positive)
    low = draw(st.sampled_from([0.0, middle / draw(factors)]))
    return Value(value=middle, low=low, high=middle * draw(factors), basis=Basis.CATALOGUE)


@given(values(), positive, positive, st.booleans())
def test_a_looser_limit_is_never_less_likely_met(value: Value, first: float, other: float, higher: bool) -> None:
    tight, loose = (max(first, other), min(first, other)) if higher else (min(first, other), max(first, other))
    chances = [probability_of_meeting(value, limit, higher_is_better=higher) for limit in (tight, loose)]
    assert 0 <= chances[0] <= chances[1] <= 1


@given(values(), st.booleans())
def test_the_value_is_the_median_and_the_ends_hold_ninety_percent(value: Value, higher: bool) -> None:
    assume(value.low < value.value * 0.999 and value.high > value.value * 1.001)
    assert probability_of_meeting(value, value.value, higher_is_better=higher) == pytest.approx(0.5, abs=1e-6)
    at_high, at_low = (probability_of_meeting(value, end, higher_is_better=higher) for end in (value.high, value.low))
    assert at_high == pytest.approx(0.05 if higher else 0.95, abs=1e-6)
    if value.low > 0:
        assert at_low == pytest.approx(0.95 if higher else 0.05, abs=1e-6)


@given(values(), positive)
def test_keeping_and_breaking_add_up_to_one(value: Value, limit: float) -> None:
    assume(value.low < value.value < value.high)
    below, above = (probability_of_meeting(value, limit, higher_is_better=higher) for higher in (False, True))
    assert below + above == pytest.approx(1.0, abs=1e-9)


@pytest.mark.parametrize(("limit", "below", "above"), [(9.9, 0.0, 1.0), (10.0, 1.0, 1.0), (10.1, 1.0, 0.0)])
def test_an_exact_value_keeps_a_limit_or_does_not(limit: float, below: float, above: float) -> None:
    exact = Value.exact(10.0)
    assert probability_of_meeting(exact, limit) == below
    assert probability_of_meeting(exact, limit, higher_is_better=True) == above


def test_no_loss_keeps_a_limit_of_zero() -> None:
    assert probability_of_meeting(Value.exact(0.0), 0.0) == 1.0
    assert probability_of_meeting(Value(value=0.2, low=0.0, high=0.5, basis=Basis.LITERATURE), 0.0) == pytest.approx(0.05)


@given(st.lists(values(), min_size=1, max_size=5), st.floats(0.0, 1e6), st.booleans())
def test_many_at_once_are_as_likely_as_one_by_one(numbers: list[Value], limit: float, higher: bool) -> None:
    low, middle, high = (np.array([getattr(value, end) for value in numbers]) for end in ("low", "value", "high"))
    together = probabilities_of_meeting(low, middle, high, limit, higher_is_better=higher)
    alone = [probability_of_meeting(value, limit, higher_is_better=higher) for value in numbers]
    assert together == pytest.approx(alone, abs=1e-9)


def test_limits_on_times_share_their_error_and_memory_and_quality_have_their_own() -> None:
    chances = {"ttft_ms_p95": 0.7, "tpot_ms_p95": 0.6, "memory_gib_per_device": 0.9, "quality_loss_pct": 0.5}
    assert joint_probability(chances) == pytest.approx(0.6 * 0.9 * 0.5)
    assert joint_probability({}) == 1.0
    columns = joint_probabilities({limit: np.full(3, chance) for limit, chance in chances.items()}, 3)
    assert columns == pytest.approx([joint_probability(chances)] * 3)


def test_every_limit_counts() -> None:
    assert {limit: joint_probability({limit: 0.5}) for limit in LIMITS} == dict.fromkeys(LIMITS, 0.5)


@given(st.dictionaries(st.sampled_from(["ttft_ms_p95", "throughput_tok_s", "memory_gib_per_device"]), st.floats(0, 1)))
def test_all_limits_are_never_likelier_than_one_of_them(chances: dict[str, float]) -> None:
    together = joint_probability(chances)
    assert together <= min(chances.values(), default=1.0) + 1e-12
    assert math.isfinite(together)
