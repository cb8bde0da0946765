"""How far predictions of each tier have been off: factors that bound 90 % of measurements around a predicted value."""

from functools import lru_cache

from advisor.profiles.evidence import table
from advisor.profiles.metrics import Basis

WIDEST = (0.4, 2.5)
"""For a metric and a basis that were never compared with measurements."""


def spread(metric: str, basis: Basis) -> tuple[float, float]:
    """Factors below and above a predicted value that hold 90 % of the measurements it was compared with."""
    known = _table()
    for tier in sorted(Basis, key=lambda tier: (tier.rank < basis.rank, abs(tier.rank - basis.rank))):
        if (metric, tier) in known and tier.rank >= basis.rank:
            return known[(metric, tier)]
    return WIDEST


@lru_cache(maxsize=1)
def _table() -> dict[tuple[str, Basis], tuple[float, float]]:
    return {(row["metric"], Basis(row["basis"])): (float(row["below"]), float(row["above"])) for row in table("ranges.csv")}
