"""What each metric is called, its unit, which way is better, and which limit bounds it."""

import math
from dataclasses import dataclass

from advisor.profiles.metrics import Value
from advisor.profiles.request import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricInfo:
    """How one metric of `Metrics` is shown and judged."""

    name: str
    label: str
    unit: str
    """A unit that `numbers.scale` knows, or any other word."""
    higher_is_better: bool = False
    limit: str | None = None
    """Field of `Limits` that bounds it."""
    relative_error: bool = True
    """False where values near zero make a percentage meaningless: errors are then plain differences."""


METRICS: dict[str, MetricInfo] = {
    shown.name: shown
    for shown in (
        MetricInfo(name="ttft_ms_mean", label="TTFT mean", unit="ms"),
        MetricInfo(name="ttft_ms_p50", label="TTFT p50", unit="ms"),
        MetricInfo(name="ttft_ms_p95", label="TTFT p95", unit="ms", limit="ttft_ms_p95"),
        MetricInfo(name="ttft_ms_p99", label="TTFT p99", unit="ms"),
        MetricInfo(name="tpot_ms_mean", label="TPOT mean", unit="ms"),
        MetricInfo(name="tpot_ms_p50", label="TPOT p50", unit="ms"),
        MetricInfo(name="tpot_ms_p95", label="TPOT p95", unit="ms", limit="tpot_ms_p95"),
        MetricInfo(name="tpot_ms_p99", label="TPOT p99", unit="ms"),
        MetricInfo(name="e2e_ms_mean", label="E2E mean", unit="ms"),
        MetricInfo(name="e2e_ms_p50", label="E2E p50", unit="ms"),
        MetricInfo(name="e2e_ms_p95", label="E2E p95", unit="ms"),
        MetricInfo(name="e2e_ms_p99", label="E2E p99", unit="ms"),
        MetricInfo(name="throughput_tok_s", label="Throughput", unit="tok/s", higher_is_better=True, limit="throughput_tok_s"),
        MetricInfo(name="request_rate_per_s", label="Sustained rate", unit="req/s", higher_is_better=True, limit="request_rate_per_s"),
        MetricInfo(name="goodput_per_s", label="Goodput", unit="req/s", higher_is_better=True),
        MetricInfo(name="decode_tok_s", label="Decode speed", unit="tok/s", higher_is_better=True),
        MetricInfo(name="prefill_tok_s", label="Prefill speed", unit="tok/s", higher_is_better=True),
        MetricInfo(name="peak_memory_gib", label="Peak memory", unit="GiB", limit="memory_gib_per_device"),
        MetricInfo(name="weights_gib", label="Weights", unit="GiB"),
        MetricInfo(name="kv_cache_gib", label="KV cache", unit="GiB"),
        MetricInfo(name="max_concurrency", label="Most requests", unit="at once", higher_is_better=True),
        MetricInfo(name="acceptance", label="Acceptance", unit="fraction", higher_is_better=True, relative_error=False),
        MetricInfo(name="prefix_hits", label="Prefix hits", unit="fraction", higher_is_better=True, relative_error=False),
        MetricInfo(name="quality_loss_pct", label="Quality loss", unit="%", limit="quality_loss_pct", relative_error=False),
        MetricInfo(name="perplexity", label="Perplexity", unit=""),
        MetricInfo(name="nll_difference", label="NLL difference", unit="nats", relative_error=False),
        MetricInfo(name="kl_divergence", label="KL divergence", unit="nats", relative_error=False),
        MetricInfo(name="top1_agreement", label="Top-1 agreement", unit="fraction", higher_is_better=True, relative_error=False),
    )
}

BY_LIMIT: dict[str, MetricInfo] = {shown.limit: shown for shown in METRICS.values() if shown.limit}


def limit_of(shown: MetricInfo, limits: Limits) -> float | None:
    """The bound that was asked for this metric, if any."""
    bound: float | None = getattr(limits, shown.limit) if shown.limit else None
    return bound


def keeps(shown: MetricInfo, value: float, limit: float) -> bool:
    """Whether `value` is on the right side of `limit`."""
    return value >= limit if shown.higher_is_better else value <= limit


def worse_end(shown: MetricInfo, value: Value) -> float:
    """The end of the range that breaks a limit first."""
    return value.low if shown.higher_is_better else value.high


def used_up(shown: MetricInfo, value: Value, limit: float) -> float:
    """How much of the limit is used up: 1 at the limit, less where there is room; endless at a limit of zero."""
    if shown.higher_is_better:
        return limit / value.value if value.value else math.inf
    return value.value / limit if limit else math.inf
