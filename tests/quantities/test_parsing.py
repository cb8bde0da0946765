import pytest

from advisor.quantities.parsing import COUNT, GIB, MILLISECONDS, PERCENT, RATE, TOKENS, Quantity


@pytest.mark.parametrize(
    ("quantity", "text", "number"),
    [
        (MILLISECONDS, "500", 500),
        (MILLISECONDS, " 0.5 s ", 500),
        (MILLISECONDS, "1min", 60_000),
        (TOKENS, "8k", 8192),
        (TOKENS, "1_000", 1000),
        (GIB, "24GB", 24e9 / 2**30),
        (GIB, "512 MiB", 0.5),
        (RATE, "120/min", 2),
        (PERCENT, "0", 0),
        (PERCENT, "1 %", 1),
    ],
)
def test_a_number_is_read_in_its_unit(quantity: Quantity, text: str, number: float) -> None:
    assert quantity.read(text) == pytest.approx(number)


@pytest.mark.parametrize(
    ("quantity", "text", "problem"),
    [
        (MILLISECONDS, "soon", 'must be a time in ms, got "soon"'),
        (MILLISECONDS, "3 GiB", 'must be a time in ms, got "3 GiB"'),
        (MILLISECONDS, "-3", 'must be greater than 0, got "-3"'),
        (PERCENT, "-3", 'must be at least 0, got "-3"'),
        (TOKENS, "1.5", 'must be a whole number, got "1.5"'),
        (COUNT, "1000000", 'must be at most 131072, got "1000000"'),
        (GIB, "9" * 400, 'must be a smaller number, got "999999999999999999999999999999..."'),
    ],
)
def test_what_is_no_such_number_is_refused_with_what_it_must_be(quantity: Quantity, text: str, problem: str) -> None:
    with pytest.raises(ValueError, match=r"^must be") as raised:
        quantity.read(text)
    assert str(raised.value) == problem
