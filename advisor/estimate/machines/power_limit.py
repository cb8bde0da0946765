"""What a power limit below a card's own does to its speed: published sweeps of the limit, interpolated by its share of the TDP.

Products follow the clocks that the limit leaves, which is seen in prefill; reading from memory slows down later, which is seen in
decoding. Nothing else of a device is changed, its memory least of all.
"""

from collections import defaultdict
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from statistics import fmean

from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.evidence import table
from advisor.profiles.hardware import Hardware

TABLE = "power.csv"
"""Tokens per second at each limit; a source per row."""

Sweep = tuple[tuple[float, float], ...]
"""Shares of the TDP with the speed relative to that at the TDP, the smallest share first."""


@dataclass(frozen=True, slots=True)
class Slowdown:
    """Speed under a limit, relative to that without one."""

    speed: float
    low: float
    """Of the slowest published sweep."""
    high: float
    """Of the fastest one; 1 on devices of which no sweep was published."""


NO_SLOWDOWN = Slowdown(1.0, 1.0, 1.0)


@dataclass(frozen=True, slots=True)
class PowerLimit:
    """A limit in watts, and what it does to a device."""

    watts: float
    products: Slowdown
    reading: Slowdown

    @property
    def words(self) -> str:
        """What the limit does, for a note."""
        products, reading = (f"{slow.speed:.0%} [{slow.low:.0%}, {slow.high:.0%}]" for slow in (self.products, self.reading))
        return f"at {self.watts:g} W products run at {products} of their speed and reading from memory at {reading}, by published sweeps"

    @property
    def spread(self) -> tuple[float, float]:
        """Factors from the predicted speed to those of the slowest and of the fastest sweep."""
        slowdowns = (self.products, self.reading)
        return min(slow.low / slow.speed for slow in slowdowns), max(slow.high / slow.speed for slow in slowdowns)


def with_power_limit(hardware: Hardware, watts: float) -> Hardware:
    """The device with a power limit of `watts`.

    Raises `AdvisorError` `bad-power-limit` where no power is known, above the device's own, and below what was published.
    """
    limited = hardware.model_copy(update={"power_limit_w": watts})
    power_limit_of(limited)
    return limited


def power_limit_of(hardware: Hardware) -> PowerLimit | None:
    """The limit of a device with its effects; `None` where it has none. Raises as `with_power_limit` does."""
    if hardware.power_limit_w is None:
        return None
    if hardware.tdp_w is None:
        raise _bad(f"the data sheet of {hardware.id} states no power, so that the effect of a limit is unknown", None, ErrorAction.DROP)
    share, least = hardware.power_limit_w / hardware.tdp_w, least_share()
    if share > 1:
        raise _bad(f"{hardware.name} takes {hardware.tdp_w:g} W at most", hardware.tdp_w, ErrorAction.LOWER)
    if share < least:
        raise _bad(
            f"limits below {least * hardware.tdp_w:.0f} W, {least:.0%} of what {hardware.name} takes, were not published",
            float(-(-least * hardware.tdp_w // 1)),
            ErrorAction.RAISE,
        )
    return PowerLimit(hardware.power_limit_w, _slowdown("prefill", hardware.id, share), _slowdown("decode", hardware.id, share))


def under_power_limit(hardware: Hardware) -> Hardware:
    """The device at the speeds that its limit leaves; the power that some rates are bound by is scaled with those of products."""
    limit = power_limit_of(hardware)
    if limit is None or hardware.tdp_w is None:
        return hardware
    return hardware.model_copy(
        update={
            "peak_flops": {format: flops * limit.products.speed for format, flops in hardware.peak_flops.items()},
            "memory_bandwidth_bytes_per_s": hardware.memory_bandwidth_bytes_per_s * limit.reading.speed,
            "tdp_w": hardware.tdp_w * limit.products.speed,
        }
    )


def least_share() -> float:
    """The smallest share of the TDP down to which both phases were measured."""
    return max(min(sweep[0][0] for sweep, _ in _sweeps(phase)) for phase in ("prefill", "decode"))


def _slowdown(phase: str, device: str, share: float) -> Slowdown:
    reaching = [(_at(sweep, share), name) for sweep, name in _sweeps(phase) if sweep[0][0] <= share]
    speeds = [speed for speed, _ in reaching]
    measured = any(name == device for _, name in reaching)
    return Slowdown(fmean(speeds), min(speeds), max(speeds) if measured else 1.0)


def _at(sweep: Sweep, share: float) -> float:
    """Speed at a share, interpolated."""
    for (left, slower), (right, faster) in pairwise(sweep):
        if share <= right:
            return slower + (faster - slower) * (share - left) / (right - left)
    return sweep[-1][1]


@lru_cache(maxsize=2)
def _sweeps(phase: str) -> tuple[tuple[Sweep, str], ...]:
    """Every published sweep of a phase, with its device. A card that is faster below its TDP is taken to be as fast."""
    rates: dict[tuple[str, str], dict[float, float]] = defaultdict(dict)
    for row in table(TABLE):
        if row["phase"] == phase:
            rates[row["device"], row["source"]][float(row["limit_w"]) / float(row["tdp_w"])] = float(row["tok_s"])
    return tuple(
        (tuple((share, min(rate / of_source[1.0], 1.0)) for share, rate in sorted(of_source.items())), device)
        for (device, _), of_source in rates.items()
    )


def _bad(problem: str, value: float | None, action: ErrorAction) -> AdvisorError:
    bound = "less" if action is ErrorAction.LOWER else "more"
    help_line = "leave --power-limit out" if value is None else f"write --power-limit {value:g} or {bound}"
    return AdvisorError(
        "bad-power-limit", problem, exit_code=ExitCode.USAGE, help=(help_line,), field="power_limit_w", action=action, value=value
    )
