"""What each metric is called, its unit, which way is better, and which limit bounds it."""

import math
from dataclasses import dataclass

from advisor.profiles.metrics import Value
from advisor.profiles.request import Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
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


SHOWN: dict[str, Shown] = {
    shown.name: shown
    for shown in (
        Shown(name="ttft_ms_mean", label="TTFT mean", unit="ms"),
        Shown(name="ttft_ms_p50", label="TTFT p50", unit="ms"),
        Shown(name="ttft_ms_p95", label="TTFT p95", unit="ms", limit="ttft_ms_p95"),
        Shown(name="ttft_ms_p99", label="TTFT p99", unit="ms"),
        Shown(name="tpot_ms_mean", label="TPOT mean", unit="ms"),
        Shown(name="tpot_ms_p50", label="TPOT p50", unit="ms"),
        Shown(name="tpot_ms_p95", label="TPOT p95", unit="ms", limit="tpot_ms_p95"),
        Shown(name="tpot_ms_p99", label="TPOT p99", unit="ms"),
        Shown(name="e2e_ms_mean", label="E2E mean", unit="ms"),
        Shown(name="e2e_ms_p50", label="E2E p50", unit="ms"),
        Shown(name="e2e_ms_p95", label="E2E p95", unit="ms"),
        Shown(name="e2e_ms_p99", label="E2E p99", unit="ms"),
        Shown(name="throughput_tok_s", label="Throughput", unit="tok/s", higher_is_better=True, limit="throughput_tok_s"),
        Shown(name="request_rate_per_s", label="Sustained rate", unit="req/s", higher_is_better=True, limit="request_rate_per_s"),
        Shown(name="goodput_per_s", label="Goodput", unit="req/s", higher_is_better=True),
        Shown(name="decode_tok_s", label="Decode speed", unit="tok/s", higher_is_better=True),
        Shown(name="prefill_tok_s", label="Prefill speed", unit="tok/s", higher_is_better=True),
        Shown(name="peak_memory_gib", label="Peak memory", unit="GiB", limit="memory_gib_per_device"),
        Shown(name="weights_gib", label="Weights", unit="GiB"),
        Shown(name="kv_cache_gib", label="KV cache", unit="GiB"),
        Shown(name="max_concurrency", label="Most requests", unit="at once", higher_is_better=True),
        Shown(name="acceptance", label="Acceptance", unit="fraction", higher_is_better=True, relative_error=False),
        Shown(name="prefix_hits", label="Prefix hits", unit="fraction", higher_is_better=True, relative_error=False),
        Shown(name="quality_loss_pct", label="Quality loss", unit="%", limit="quality_loss_pct", relative_error=False),
        Shown(name="perplexity", label="Perplexity", unit=""),
        Shown(name="nll_difference", label="NLL difference", unit="nats", relative_error=False),
        Shown(name="kl_divergence", label="KL divergence", unit="nats", relative_error=False),
        Shown(name="top1_agreement", label="Top-1 agreement", unit="fraction", higher_is_better=True, relative_error=False),
    )
}

BY_LIMIT: dict[str, Shown] = {shown.limit: shown for shown in SHOWN.values() if shown.limit}


def limit_of(shown: Shown, limits: Limits) -> float | None:
    """The bound that was asked for this metric, if any."""
    bound: float | None = getattr(limits, shown.limit) if shown.limit else None
    return bound


def keeps(shown: Shown, value: float, limit: float) -> bool:
    """Whether `value` is on the right side of `limit`."""
    return value >= limit if shown.higher_is_better else value <= limit


def worse_end(shown: Shown, value: Value) -> float:
    """The end of the range that breaks a limit first."""
    return value.low if shown.higher_is_better else value.high


def used_up(shown: Shown, value: Value, limit: float) -> float:
    """How much of the limit is used up: 1 at the limit, less where there is room; endless at a limit of zero."""
    if shown.higher_is_better:
        return limit / value.value if value.value else math.inf
    return value.value / limit if limit else math.inf
