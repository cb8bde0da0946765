"""Times of simulated requests, and the share of them that meets limits."""

import math
from dataclasses import dataclass

from advisor.profiles.request import Limits


@dataclass(frozen=True, slots=True)
class Timing:
    """Times of one request as its client sees them, seconds from submission."""

    ttft_s: float
    tpot_s: float | None
    """`None` for a single token."""
    e2e_s: float
    """To the last token."""


@dataclass(frozen=True, slots=True)
class ServingTimes:
    """Times of the simulated requests, and rates of all replicas."""

    timings: tuple[Timing, ...]
    """Of the counted requests: at least one."""
    throughput_tok_s: float
    """Output tokens per second: over the whole of a concrete run, else in steady state."""
    requests_per_s: float = 0.0
    """Requests per second, likewise."""
    max_requests_per_s: float | None = None
    """Requests per second at which every replica is always busy; `None` unless requests arrive at a rate."""
    peak_cache_tokens: int = 0
    """Most tokens in the cache of one replica at once, each sequence rounded up to its blocks; 0 where it was not recorded."""
    preemptions: int = 0
    """How often a sequence was preempted and recomputed."""
    prefix_hits: float | None = None
    """Share of all prompt tokens that were found in the cache; `None` where no prefix is shared."""

    def share_within(self, limits: Limits, *, ttft_factor: float = 1.0, tpot_factor: float = 1.0) -> float:
        """Share of the requests that meet the limits on TTFT and TPOT, with their times multiplied by the factors."""
        ttft_s, tpot_s = (
            math.inf if limit is None else limit / 1e3 / factor
            for limit, factor in ((limits.bound("ttft_ms_p95"), ttft_factor), (limits.bound("tpot_ms_p95"), tpot_factor))
        )
        within = [timing for timing in self.timings if timing.ttft_s <= ttft_s and (timing.tpot_s is None or timing.tpot_s <= tpot_s)]
        return len(within) / len(self.timings)

    @property
    def ttft_s(self) -> tuple[float, ...]:
        """Time to first token of every counted request."""
        return tuple(timing.ttft_s for timing in self.timings)

    @property
    def tpot_s(self) -> tuple[float, ...]:
        """Time per output token after the first, of every counted request with more than one."""
        return tuple(timing.tpot_s for timing in self.timings if timing.tpot_s is not None)

    @property
    def e2e_s(self) -> tuple[float, ...]:
        """Time to the last token of every counted request."""
        return tuple(timing.e2e_s for timing in self.timings)
