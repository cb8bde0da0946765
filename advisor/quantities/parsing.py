"""Parses quantities with units: `500ms`, `0.5s`, `8k`, `24GB`, `1%`."""

import math
import re
from dataclasses import dataclass, replace

MOST = 2**53
"""Largest number that is read: whole ones up to it are exact as floats, and products of a few do not overflow."""
MOST_QUOTED = 30
"""Characters of a value that a message quotes."""
_TYPED = re.compile(r"([+-]?(?:\d[\d_]*\.?\d*|\.\d+))\s*([^\d\s].*)?")


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """How one kind of number is parsed: units, range, and words for its errors."""

    what: str
    """Completes "must be ..."."""
    example: str
    """An accepted text."""
    factors: dict[str, float]
    """Lower-case suffix to the factor into the base unit, which is the empty suffix."""
    zero: bool = False
    """Whether zero is allowed."""
    whole: bool = False
    """Whether only whole numbers are allowed."""
    most: float = MOST
    """The largest number that is allowed."""

    def read(self, text: str) -> float:
        """The number in the base unit. Raises `ValueError` with a predicate: `must be a time in ms, got "abc"`."""
        match = _TYPED.fullmatch(text.strip())
        suffix = (match.group(2) or "").strip().lower() if match else ""
        if match is None or suffix not in self.factors:
            raise ValueError(f"must be {self.what}, got {quoted(text)}")
        number = float(match.group(1)) * self.factors[suffix]
        return self.check(number, text)

    def check(self, number: float, text: str) -> float:
        """Return a number in range. Raises `ValueError` as `read` does."""
        if math.isinf(number):
            raise ValueError(f"must be a smaller number, got {quoted(text)}")
        if math.isnan(number) or number < 0 or (number == 0 and not self.zero):
            raise ValueError(f"must be {'at least' if self.zero else 'greater than'} 0, got {quoted(text)}")
        if number > self.most:
            raise ValueError(f"must be at most {self.most:.0f}, got {quoted(text)}")
        if self.whole and number != int(number):
            raise ValueError(f"must be a whole number, got {quoted(text)}")
        return number


MILLISECONDS = Quantity(what="a time in ms", example="500", factors={"": 1, "ms": 1, "s": 1e3, "us": 1e-3, "min": 6e4})
TOKENS = Quantity(
    what="a number of tokens", example="8192", whole=True,
    factors={"": 1, "k": 2**10, "ki": 2**10, "m": 2**20, "mi": 2**20},
)  # fmt: skip
COUNT = Quantity(what="a whole number", example="16", factors={"": 1}, whole=True, most=2**17)
DEVICES = replace(COUNT, example="2")
REQUESTS = Quantity(what="a whole number", example="16", factors={"": 1}, whole=True, most=8192)
"""Requests in flight; bounded because the search simulates each of them for every finalist."""
RATE = Quantity(what="a number of requests per second", example="4", factors={"": 1, "/s": 1, "/min": 1 / 60})
THROUGHPUT = Quantity(
    what="a number of tokens per second", example="600",
    factors={"": 1, "k": 1e3, "tok/s": 1, "/s": 1, "tokens/s": 1},
)  # fmt: skip
GIB = Quantity(
    what="a size in GiB", example="24",
    factors={
        "": 1, "g": 1, "gi": 1, "gib": 1, "gb": 1e9 / 2**30,
        "m": 2**-10, "mi": 2**-10, "mib": 2**-10, "mb": 1e6 / 2**30,
        "t": 2**10, "ti": 2**10, "tib": 2**10, "tb": 1e12 / 2**30,
    },
)  # fmt: skip
WATTS = Quantity(what="a power in W", example="300", factors={"": 1, "w": 1, "kw": 1e3})
PERCENT = Quantity(what="a percentage", example="1", factors={"": 1, "%": 1, "pct": 1}, zero=True)


def quoted(text: str) -> str:
    """The text in quotes, cut to `MOST_QUOTED` characters.

    >>> quoted("abc"), quoted("x" * 50)
    ('"abc"', '"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx..."')
    """
    return f'"{text[:MOST_QUOTED]}..."' if len(text) > MOST_QUOTED else f'"{text}"'
