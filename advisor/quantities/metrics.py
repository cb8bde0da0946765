"""Label, unit and direction of each metric. The limits on metrics are in `limits.py`."""

import math
from dataclasses import dataclass

from advisor.quantities.formatting import Ranged


@dataclass(frozen=True, slots=True, kw_only=True)
class MetricInfo:
    """Label, unit and direction of one metric of `Metrics`."""

    name: str
    """Field of `Metrics`."""
    label: str
    """Name in tables."""
    unit: str
    """A unit of `formatting.scale`, or any other, which is then written unscaled."""
    noun: str = ""
    """Name in a sentence; the label where it is empty."""
    higher_is_better: bool = False
    relative_error: bool = True
    """`False` where values near zero make a relative error meaningless; errors are then differences."""

    @property
    def phrase(self) -> str:
        """The name of the metric in a sentence."""
        return self.noun or self.label


METRICS: dict[str, MetricInfo] = {
    metric.name: metric
    for metric in (
        MetricInfo(name="ttft_ms_mean", label="TTFT mean", unit="ms"),
        MetricInfo(name="ttft_ms_p50", label="TTFT p50", unit="ms"),
        MetricInfo(name="ttft_ms_p95", label="TTFT p95", unit="ms"),
        MetricInfo(name="ttft_ms_p99", label="TTFT p99", unit="ms"),
        MetricInfo(name="tpot_ms_mean", label="TPOT mean", unit="ms"),
        MetricInfo(name="tpot_ms_p50", label="TPOT p50", unit="ms"),
        MetricInfo(name="tpot_ms_p95", label="TPOT p95", unit="ms"),
        MetricInfo(name="tpot_ms_p99", label="TPOT p99", unit="ms"),
        MetricInfo(name="e2e_ms_mean", label="E2E mean", unit="ms", noun="mean end-to-end latency"),
        MetricInfo(name="e2e_ms_p50", label="E2E p50", unit="ms", noun="p50 end-to-end latency"),
        MetricInfo(name="e2e_ms_p95", label="E2E p95", unit="ms", noun="p95 end-to-end latency"),
        MetricInfo(name="e2e_ms_p99", label="E2E p99", unit="ms", noun="p99 end-to-end latency"),
        MetricInfo(name="throughput_tok_s", label="Throughput", unit="tok/s", noun="throughput", higher_is_better=True),
        MetricInfo(name="request_rate_per_s", label="Sustained rate", unit="req/s", noun="sustained rate", higher_is_better=True),
        MetricInfo(name="goodput_per_s", label="Goodput", unit="req/s", higher_is_better=True),
        MetricInfo(name="decode_tok_s", label="Decode speed", unit="tok/s", higher_is_better=True),
        MetricInfo(name="prefill_tok_s", label="Prefill speed", unit="tok/s", higher_is_better=True),
        MetricInfo(name="peak_memory_gib", label="Peak memory", unit="GiB", noun="memory"),
        MetricInfo(name="weights_gib", label="Weights", unit="GiB"),
        MetricInfo(name="kv_cache_gib", label="KV cache", unit="GiB"),
        MetricInfo(name="max_concurrency", label="Max concurrency", unit="req", higher_is_better=True),
        MetricInfo(name="acceptance", label="Acceptance", unit="fraction", higher_is_better=True, relative_error=False),
        MetricInfo(name="prefix_hits", label="Prefix hits", unit="fraction", higher_is_better=True, relative_error=False),
        MetricInfo(name="quality_loss_pct", label="Quality loss", unit="%", noun="quality loss", relative_error=False),
        MetricInfo(name="perplexity", label="Perplexity", unit=""),
        MetricInfo(name="nll_difference", label="NLL difference", unit="nats", relative_error=False),
        MetricInfo(name="kl_divergence", label="KL divergence", unit="nats", relative_error=False),
        MetricInfo(name="top1_agreement", label="Top-1 agreement", unit="fraction", higher_is_better=True, relative_error=False),
    )
}


TIMED = tuple(name for name in METRICS if name.startswith(("ttft_", "tpot_", "e2e_")) or name.endswith("_tok_s"))
"""Latencies and rates: what other processes on the machine slow down."""


def satisfies(metric: MetricInfo, value: float, limit: float) -> bool:
    """Whether `value` is within `limit`."""
    return value >= limit if metric.higher_is_better else value <= limit


def worse_end(metric: MetricInfo, value: Ranged) -> float:
    """The end of the range that violates a limit first."""
    return value.low if metric.higher_is_better else value.high


def utilisation(metric: MetricInfo, value: Ranged, limit: float) -> float:
    """Utilisation of a limit: 1 at the limit, less within it; infinite at a limit of zero."""
    if metric.higher_is_better:
        return limit / value.value if value.value else math.inf
    return value.value / limit if limit else math.inf
