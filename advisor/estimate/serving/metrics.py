"""Metrics of simulated requests, each with its range: latencies, sustained rates, goodput."""

import math
from collections.abc import Sequence

from advisor.backends.measure.spread import STATISTICS
from advisor.estimate.serving.times import ServingTimes
from advisor.estimate.uncertainty.values import Ranges, inverse
from advisor.profiles.metrics import Value
from advisor.profiles.request import Limits, Workload


def serving_metrics(ranges: Ranges, workload: Workload, served: ServingTimes) -> dict[str, Value]:
    """Metrics that follow from the times of the requests, by their name in `Metrics`."""
    metrics = _statistics(ranges, "ttft", served.ttft_s)
    if served.tpot_s:
        metrics |= _statistics(ranges, "tpot", served.tpot_s)
        metrics["decode_tok_s"] = inverse(metrics["tpot_ms_mean"])
    metrics |= _end_to_end(ranges, served)
    metrics["throughput_tok_s"] = ranges.value("throughput", served.throughput_tok_s)
    if workload.request_rate_per_s is not None and served.max_requests_per_s is not None:
        metrics["request_rate_per_s"] = _sustained(ranges, math.inf, served.max_requests_per_s)
        sustained = _sustained(ranges, workload.request_rate_per_s, served.max_requests_per_s)
        metrics["throughput_tok_s"] = sustained.scaled(workload.output_tokens)
    return metrics


def goodput(ranges: Ranges, workload: Workload, served: ServingTimes, limits: Limits) -> Value | None:
    """Requests per second that meet the limits on their own TTFT and TPOT (DistServe); `None` where neither is limited.

    Each end of its range takes that end of the latencies and of the rate at once; it never exceeds the rate of arrivals.
    """
    if limits.bound("ttft_ms_p95") is None and limits.bound("tpot_ms_p95") is None:
        return None
    rate = _sustained(ranges, workload.arrivals_per_s or math.inf, served.max_requests_per_s or served.requests_per_s)
    ttft, tpot = (ranges.factors(metric) for metric in ("ttft", "tpot"))
    value = rate.value * served.share_within(limits)
    low = rate.low * served.share_within(limits, ttft_factor=ttft[1], tpot_factor=tpot[1])
    high = rate.high * served.share_within(limits, ttft_factor=ttft[0], tpot_factor=tpot[0])
    return Value(value=value, low=min(low, value), high=max(high, value), basis=ranges.speculated_basis)


def _statistics(ranges: Ranges, metric: str, seconds: Sequence[float]) -> dict[str, Value]:
    """Mean and percentiles in ms, by name."""
    milliseconds = sorted(1e3 * time for time in seconds)
    return {f"{metric}_ms_{name}": ranges.value(metric, statistic(milliseconds)) for name, statistic in STATISTICS.items()}


def _end_to_end(ranges: Ranges, served: ServingTimes) -> dict[str, Value]:
    """Mean and percentiles of the time to the last token in ms; each end of the range adds those of TTFT and of decoding."""
    ttft, tpot = (ranges.factors(metric) for metric in ("ttft", "tpot"))
    value, low, high = (
        sorted(1e3 * (timing.ttft_s * first + (timing.e2e_s - timing.ttft_s) * rest) for timing in served.timings)
        for first, rest in ((1.0, 1.0), (ttft[0], tpot[0]), (ttft[1], tpot[1]))
    )
    return {
        f"e2e_ms_{name}": Value(value=statistic(value), low=statistic(low), high=statistic(high), basis=ranges.speculated_basis)
        for name, statistic in STATISTICS.items()
    }


def _sustained(ranges: Ranges, offered_per_s: float, most_per_s: float) -> Value:
    """The rate that is served in the long run: the lesser of the offered one and the greatest, whose range is that of throughput."""
    below, above = ranges.factors("throughput")
    value, low, high = (min(offered_per_s, most_per_s * factor) for factor in (1.0, below, above))
    return Value(value=value, low=low, high=high, basis=ranges.speculated_basis)
