"""The times of simulated requests, and what share of them keeps limits."""

import math
from dataclasses import dataclass

from advisor.profiles.request import Limits


@dataclass(frozen=True, slots=True)
class Timing:
    """One request as its client sees it, seconds."""

    ttft_s: float
    tpot_s: float | None
    """`None` for a single token."""
    e2e_s: float
    """From submission to the last token."""


@dataclass(frozen=True, slots=True)
class ServingTimes:
    """Times of the simulated requests."""

    timings: tuple[Timing, ...]
    """Of the requests that count: at least one."""
    throughput_tok_s: float
    """Output tokens per second of all replicas: of the whole run where it is a concrete one, else of its steady state."""
    requests_per_s: float = 0.0
    """Requests per second of all replicas, likewise."""
    max_requests_per_s: float | None = None
    """Under arrivals at a rate: requests per second at which every replica is busy all the time."""
    peak_cache_tokens: int = 0
    """Most tokens that the cache held at once, of one replica, each sequence rounded up to its blocks; 0 where nobody asked."""
    preemptions: int = 0
    """How often a sequence gave its cache back and started over."""
    prefix_hits: float | None = None
    """Share of all prompt tokens that were in the cache already; `None` where no prefix is shared."""

    def share_within(self, limits: Limits, *, ttft_factor: float = 1.0, tpot_factor: float = 1.0) -> float:
        """Share of the requests that keep the limits on TTFT and TPOT, were the latencies so many times as long."""
        ttft_s, tpot_s = (
            math.inf if limit is None else limit / 1e3 / factor
            for limit, factor in ((limits.ttft_ms_p95, ttft_factor), (limits.tpot_ms_p95, tpot_factor))
        )
        kept = [timing for timing in self.timings if timing.ttft_s <= ttft_s and (timing.tpot_s is None or timing.tpot_s <= tpot_s)]
        return len(kept) / len(self.timings)

    @property
    def ttft_s(self) -> tuple[float, ...]:
        """Time to first token of every request."""
        return tuple(timing.ttft_s for timing in self.timings)

    @property
    def tpot_s(self) -> tuple[float, ...]:
        """Time per output token after the first, of every request that has some."""
        return tuple(timing.tpot_s for timing in self.timings if timing.tpot_s is not None)

    @property
    def e2e_s(self) -> tuple[float, ...]:
        """Time to the last token of every request."""
        return tuple(timing.e2e_s for timing in self.timings)
