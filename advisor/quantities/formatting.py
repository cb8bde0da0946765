"""Formats numbers: three significant digits, and one unit for all numbers of a column."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

ABSENT = "-"
"""Text of a number that is not known."""


class Ranged(Protocol):
    """A number with its range, such as `profiles.metrics.Value`."""

    @property
    def value(self) -> float:
        """The middle."""

    @property
    def low(self) -> float:
        """The lower end."""

    @property
    def high(self) -> float:
        """The upper end."""


@dataclass(frozen=True, slots=True)
class Scale:
    """A unit to write numbers in, and the factor from the unit of the data to it."""

    unit: str
    factor: float = 1.0


# Unit of the data to the units it is written in, each with the magnitude, in the unit of the data, from which it is used.
_LADDERS: dict[str, tuple[tuple[float, Scale], ...]] = {
    "GiB": (
        (1024.0, Scale("TiB", 1 / 1024)),
        (1.0, Scale("GiB")),
        (1 / 1024, Scale("MiB", 1024.0)),
        (0.0, Scale("KiB", 1024.0**2)),
    ),
    "ms": ((10_000.0, Scale("s", 1e-3)), (0.1, Scale("ms")), (0.0, Scale("µs", 1e3))),
    "s": ((1.0, Scale("s")), (0.0, Scale("ms", 1e3))),
    "nats": ((0.01, Scale("nats")), (0.0, Scale("mnats", 1e3))),
    "fraction": ((0.0, Scale("%", 100.0)),),
    "count": ((1e12, Scale("T", 1e-12)), (1e9, Scale("B", 1e-9)), (1e6, Scale("M", 1e-6)), (0.0, Scale(""))),
    "FLOP/s": ((1e15, Scale("PFLOP/s", 1e-15)), (1e12, Scale("TFLOP/s", 1e-12)), (0.0, Scale("GFLOP/s", 1e-9))),
    "B/s": ((1e12, Scale("TB/s", 1e-12)), (0.0, Scale("GB/s", 1e-9))),
}


_COUNTED = {"req"}
"""Units of whole numbers."""


def percent(probability: float) -> str:
    """A probability in whole percent, rounded down, so that one below a threshold is not shown as if it reached it.

    >>> percent(0.834), percent(0.8999), percent(0.9999), percent(1.0), percent(0.001)
    ('83 %', '89 %', '>99 %', '100 %', '<1 %')
    """
    if 0 < probability < 0.01:
        return "<1 %"
    if 0.99 < probability < 1:
        return ">99 %"
    return f"{math.floor(100 * probability + 1e-9)} %"


def number(value: float, *, signed: bool = False, trim: bool = False) -> str:
    """Write `value` with three significant digits.

    `signed` writes a plus; `trim` drops zeros after the decimal point, for numbers that a user typed.

    >>> number(4919.0), number(21.0), number(0.04567), number(30.0, trim=True)
    ('4920', '21.0', '0.0457', '30')
    """
    if math.isnan(value):
        return ABSENT
    sign = "+" if signed and value > 0 else "-" if value < 0 else ""
    size = abs(value)
    if math.isinf(size):
        return f"{sign}inf"
    if size == 0:
        return "0"
    size = three_digits(size)
    exponent = math.floor(math.log10(size) + 1e-9)
    if not -4 <= exponent < 7:
        return f"{sign}{size:.2e}".replace("e-0", "e-").replace("e+0", "e").replace("e+", "e")
    text = f"{size:.{max(0, 2 - exponent)}f}"
    if trim and "." in text:
        text = text.rstrip("0").rstrip(".")
    return sign + text


def signed_percent(percent: float) -> str:
    """Write a signed percentage for a column: one decimal below 1000, three significant digits from there.

    >>> signed_percent(-37.64), signed_percent(-0.01), signed_percent(1234.0)
    ('-37.6', '0.0', '+1230')
    """
    if abs(percent) < 0.05:
        return "0.0"
    return f"{percent:+.1f}" if abs(percent) < 999.95 else number(percent, signed=True)


def scale(unit: str, values: Iterable[float]) -> Scale:
    """The unit to write `values`, given in `unit`, in: the one for the largest of them."""
    steps = _LADDERS.get(unit)
    if steps is None:
        return Scale(unit)
    largest = max((abs(value) for value in values if math.isfinite(value)), default=0.0)
    if largest == 0.0 and unit in ("GiB", "ms", "s", "nats"):
        return Scale(unit)
    return next(scaled for start, scaled in steps if largest >= start)


def quantity(value: float, unit: str, *, signed: bool = False, trim: bool = False) -> str:
    """Write `value`, given in `unit`, in the unit for its magnitude.

    >>> quantity(0.0093, "GiB"), quantity(302.4, "ms"), quantity(0.987, "fraction")
    ('9.52 MiB', '302 ms', '98.7 %')
    """
    scaled = scale(unit, (value,))
    return f"{number(value * scaled.factor, signed=signed, trim=trim or unit in _COUNTED)} {scaled.unit}".rstrip()


def enough(value: float, unit: str, *, up: bool) -> str:
    """Write a bound in three digits that is not stricter than `value`: rounded `up`, or down.

    >>> enough(21.341, "ms", up=True), enough(21.341, "ms", up=False)
    ('21.4 ms', '21.3 ms')
    """
    scaled = scale(unit, (value,))
    return f"{number(on_the_safe_side(value * scaled.factor, up=up), trim=True)} {scaled.unit}".rstrip()


def on_the_safe_side(value: float, *, up: bool) -> float:
    """Round a bound to three significant digits, `up` or down.

    >>> on_the_safe_side(21.341, up=True), on_the_safe_side(21.341, up=False)
    (21.4, 21.3)
    """
    if not value or not math.isfinite(value):
        return value
    step = 10.0 ** (math.floor(math.log10(abs(value))) - 2)
    cells = value / step
    # The tolerance keeps a number that has three digits already, in spite of binary rounding.
    return three_digits(step * (math.ceil(cells - 1e-9) if up else math.floor(cells + 1e-9)))


def three_digits(value: float) -> float:
    """Round to three significant digits."""
    return float(f"{value:.2e}")


def spread(value: Ranged, scaled: Scale) -> str:
    """The range `[low, high]` in the unit of `scaled`; empty where it has no width."""
    if value.low == value.high:
        return ""
    return f"[{number(value.low * scaled.factor)}, {number(value.high * scaled.factor)}]"


def value_text(value: Ranged, unit: str) -> str:
    """A value, given in `unit`, with its range: `302 ms [262, 345]`."""
    scaled = scale(unit, (value.value,))
    return f"{number(value.value * scaled.factor)} {scaled.unit} {spread(value, scaled)}".strip().replace("  ", " ")
