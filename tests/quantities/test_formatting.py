import pytest
from hypothesis import given
from hypothesis import strategies as st

from advisor.profiles.metrics import Basis, Value
from advisor.quantities.formatting import enough, number, quantity, value_text


@pytest.mark.parametrize(
    ("given_number", "text"),
    [(0, "0"), (4919, "4920"), (999.6, "1000"), (21.0, "21.0"), (0.04567, "0.0457"), (-3.2, "-3.20"), (1.2e8, "1.20e8"), (1e-9, "1.00e-9")],
)
def test_numbers_have_three_digits(given_number: float, text: str) -> None:
    assert number(given_number) == text


def test_units_suit_the_size() -> None:
    texts = [quantity(0.0093, "GiB"), quantity(1536, "GiB"), quantity(12345, "ms"), quantity(0.05, "ms"), quantity(0.5, "fraction")]
    assert texts == ["9.52 MiB", "1.50 TiB", "12.3 s", "50.0 µs", "50.0 %"]
    assert value_text(Value(value=302.0, low=271.8, high=332.2, basis=Basis.CATALOGUE), "ms") == "302 ms [272, 332]"
    assert value_text(Value.exact(5.0), "GiB") == "5.00 GiB"


@given(st.floats(min_value=1e-6, max_value=1e6))
def test_a_bound_that_is_shown_is_on_the_safe_side(bound: float) -> None:
    up, down = (enough(bound, "tok/s", up=way).split()[0] for way in (True, False))
    assert float(up) >= bound * (1 - 1e-9)
    assert float(down) <= bound * (1 + 1e-9)
    assert float(up) <= bound * 1.0101
