"""Every limit that a request can set: the one table from which options, form fields, records and messages are made.

To add a limit, add a row; the planner must predict its metric. No other module lists the limits.
"""

from dataclasses import dataclass
from enum import StrEnum

from advisor.quantities.metrics import METRICS, MetricInfo
from advisor.quantities.parsing import GIB, MILLISECONDS, PERCENT, RATE, THROUGHPUT, Quantity


class ErrorGroup(StrEnum):
    """Limits of one group bound metrics whose predictions err together: all times are sums of the same step times."""

    TIME = "time"
    MEMORY = "memory"
    QUALITY = "quality"


@dataclass(frozen=True, slots=True, kw_only=True)
class LimitInfo:
    """One limit: a bound on one metric. Its unit and its direction are the metric's."""

    name: str
    """Field of `profiles.request.Limits`."""
    metric: MetricInfo
    """What is bounded: from below where higher is better, else from above."""
    flag: str
    """Option of `advisor plan`."""
    quantity: Quantity
    """What may be typed, and how it is read."""
    help: str
    """Text of the option, without the full stop."""
    file_key: str
    """Key under `limits` in a plan file."""
    description: str
    """Its description in the schemas of plan files and runs."""
    error_group: ErrorGroup
    """The limits with which its prediction errs together."""
    column: str | None = None
    """Head of the metric's column in the table of plans, where it has one."""
    step: float | None = None
    """Step by which the limit is loosened for its marginal gain, in the metric's unit; `None` where it is not loosened."""
    alias: str | None = None
    """Another spelling of the option, not shown."""
    is_load: bool = False
    """Whether it is part of the load, which has its option and form field."""
    in_goodput: bool = False
    """Whether a served request must meet it to count in the goodput."""

    @property
    def parameter(self) -> str:
        """Name of the option's value and of the form's field: `--memory-gib` is `memory_gib`."""
        return self.flag.removeprefix("--").replace("-", "_")

    @property
    def form_label(self) -> str:
        """Label in the form, as `TTFT max, ms`: every limit on a time is on its 95th percentile."""
        phrase, bound = self.metric.phrase.removesuffix(" p95"), "min" if self.metric.higher_is_better else "max"
        return f"{phrase[0].upper()}{phrase[1:]} {bound}, {self.metric.unit}"


MEMORY = "memory_gib_per_device"
"""The limit that always applies: where a request does not set it, it is the usable memory of the device."""

LIMITS: dict[str, LimitInfo] = {
    limit.name: limit
    for limit in (
        LimitInfo(
            name="ttft_ms_p95",
            metric=METRICS["ttft_ms_p95"],
            flag="--ttft-ms",
            quantity=MILLISECONDS,
            help="Maximum time to the first token, p95",
            file_key="ttft_ms_p95",
            description="Maximum time to the first token, 95th percentile.",
            error_group=ErrorGroup.TIME,
            column="TTFT",
            step=1.0,
            in_goodput=True,
        ),
        LimitInfo(
            name="tpot_ms_p95",
            metric=METRICS["tpot_ms_p95"],
            flag="--tpot-ms",
            quantity=MILLISECONDS,
            help="Maximum time per output token after the first, p95",
            file_key="tpot_ms_p95",
            description="Maximum time per output token after the first, 95th percentile.",
            error_group=ErrorGroup.TIME,
            column="TPOT",
            step=1.0,
            in_goodput=True,
        ),
        LimitInfo(
            name="throughput_tok_s",
            metric=METRICS["throughput_tok_s"],
            flag="--throughput",
            quantity=THROUGHPUT,
            help="Minimum output tokens per second, all requests together",
            file_key="throughput_tok_s",
            description="Minimum output tokens per second, all requests together.",
            error_group=ErrorGroup.TIME,
            column="tok/s",
            step=1.0,
        ),
        LimitInfo(
            name="request_rate_per_s",
            metric=METRICS["request_rate_per_s"],
            flag="--request-rate",
            quantity=RATE,
            help="Requests arriving per second, at random",
            file_key="request_rate_per_s",
            description="Requests arriving per second; a plan must sustain this rate.",
            error_group=ErrorGroup.TIME,
            is_load=True,
        ),
        LimitInfo(
            name=MEMORY,
            metric=METRICS["peak_memory_gib"],
            flag="--memory-gib",
            quantity=GIB,
            help="Maximum memory per device",
            file_key="memory_gib_per_gpu",
            description="Maximum memory per device; on a CPU, of the process.",
            error_group=ErrorGroup.MEMORY,
            column="Mem",
            step=1.0,
        ),
        LimitInfo(
            name="quality_loss_pct",
            metric=METRICS["quality_loss_pct"],
            flag="--quality-loss",
            quantity=PERCENT,
            help="Maximum perplexity increase, percent",
            file_key="quality_drop_pct",
            description="Maximum perplexity increase over the unmodified model.",
            error_group=ErrorGroup.QUALITY,
            column="dQ",
            step=0.1,
            alias="--quality-drop",
        ),
    )
}
"""By name, in the order of options, form fields and columns."""

METRIC_OF: dict[str, MetricInfo] = {name: limit.metric for name, limit in LIMITS.items()}
"""By name of the limit, the metric that it bounds."""
LIMIT_OF: dict[str, LimitInfo] = {limit.metric.name: limit for limit in LIMITS.values()}
"""By name of the metric, the limit that bounds it; no metric has two."""
COLUMNS: tuple[tuple[str, MetricInfo], ...] = tuple(
    (limit.column, limit.metric) for limit in sorted(LIMITS.values(), key=lambda limit: limit.name != MEMORY) if limit.column is not None
)
"""Columns of the table of plans, memory first: head and metric."""
