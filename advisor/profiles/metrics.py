"""Metrics of a deployment: value, range and basis; one shape for predicted and measured."""

from enum import StrEnum
from typing import Self

from pydantic import Field, model_validator

from advisor.profiles.frozen import Frozen


class Basis(StrEnum):
    """How a number is known, from best to worst."""

    MEASURED = "measured"
    """Measured in the run at hand."""
    EXACT = "exact"
    """Follows from shapes and formats alone."""
    PROFILED = "profiled"
    """Computed from efficiency measured on this machine."""
    CATALOGUE = "catalogue"
    """Computed from efficiency measured on the same accelerator elsewhere."""
    ARCHITECTURE = "architecture"
    """Computed from efficiency measured on another accelerator of the same architecture."""
    LITERATURE = "literature"
    """Taken from published measurements of the technique."""
    DATASHEET = "datasheet"
    """Computed from the data sheet and default efficiency."""

    @property
    def rank(self) -> int:
        """0 for the best."""
        return list(Basis).index(self)


def weakest(*bases: Basis) -> Basis:
    """The basis of a number that is computed from numbers of these bases: the one of the highest rank."""
    return max(bases, key=lambda basis: basis.rank)


class Value(Frozen):
    """A number with its 90 % range and its basis. The unit is in the name of the field that holds it."""

    value: float
    low: float
    high: float
    basis: Basis

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if not self.low <= self.value <= self.high:
            raise ValueError(f"range [{self.low}, {self.high}] must hold the value {self.value}")
        return self

    @classmethod
    def exact(cls, value: float, basis: Basis = Basis.EXACT) -> "Value":
        """A number without spread: both ends of the range are `value`."""
        return cls(value=value, low=value, high=value, basis=basis)

    def scaled(self, factor: float) -> "Value":
        """Value and range times `factor`, which is positive: another unit, or a multiple."""
        return Value(value=self.value * factor, low=self.low * factor, high=self.high * factor, basis=self.basis)

    def as_dict(self) -> dict[str, object]:
        """The published form: `{"value", "range": [low, high], "basis"}`."""
        return {"value": self.value, "range": [self.low, self.high], "basis": self.basis.value}


class Metrics(Frozen):
    """Performance and quality of a deployment under a workload, predicted or measured. `None`: not asked or not known.

    TTFT runs from submission to the first token, end-to-end latency (E2E) to the last one. TPOT is
    (last token − first token)/(tokens − 1) of a request.
    Throughput counts output tokens of all requests over wall time. Quality loss is the perplexity increase over the
    unmodified model, in percent, on a named text.
    """

    ttft_ms_mean: Value | None = None
    ttft_ms_p50: Value | None = None
    ttft_ms_p95: Value | None = None
    ttft_ms_p99: Value | None = None
    tpot_ms_mean: Value | None = None
    tpot_ms_p50: Value | None = None
    tpot_ms_p95: Value | None = None
    tpot_ms_p99: Value | None = None
    e2e_ms_mean: Value | None = None
    e2e_ms_p50: Value | None = None
    e2e_ms_p95: Value | None = None
    e2e_ms_p99: Value | None = None
    throughput_tok_s: Value | None = None
    request_rate_per_s: Value | None = None
    """Most arrivals per second that can be sustained; under an open load."""
    goodput_per_s: Value | None = None
    """Requests per second whose own TTFT and TPOT are within the limits; where one of them is limited."""
    decode_tok_s: Value | None = None
    """Decode speed of one request: 1000 / TPOT."""
    prefill_tok_s: Value | None = None
    """Prompt tokens per second of one prefill."""
    peak_memory_gib: Value | None = None
    """Per device: everything that the process allocates on it."""
    weights_gib: Value | None = None
    kv_cache_gib: Value | None = None
    max_concurrency: Value | None = None
    """Requests of the workload's length that fit in memory together."""
    acceptance: Value | None = None
    """Accepted draft tokens per drafted position of a decoding step; absent without speculation."""
    prefix_hits: Value | None = None
    """Share of prompt tokens that were in the prefix cache; absent where no prefix is reused."""
    quality_loss_pct: Value | None = None
    perplexity: Value | None = None
    nll_difference: Value | None = None
    """Paired difference of mean negative log-likelihood per token, in nats."""
    kl_divergence: Value | None = None
    top1_agreement: Value | None = None

    def present(self) -> dict[str, Value]:
        """The known metrics by name, in the order above."""
        return {name: value for name in type(self).model_fields if (value := getattr(self, name)) is not None}

    def as_dict(self) -> dict[str, object]:
        """The published form of the known metrics, by name."""
        return {name: value.as_dict() for name, value in self.present().items()}


class Sample(Frozen):
    """One served request as observed. Times are in seconds from the start of the run."""

    prompt_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    submitted_s: float
    first_token_s: float
    last_token_s: float

    @property
    def ttft_ms(self) -> float:
        """Time to first token, ms."""
        return (self.first_token_s - self.submitted_s) * 1e3

    @property
    def e2e_ms(self) -> float:
        """Time to the last token, ms."""
        return (self.last_token_s - self.submitted_s) * 1e3

    @property
    def tpot_ms(self) -> float | None:
        """Time per output token after the first, ms; `None` for a single token."""
        if self.output_tokens < 2:
            return None
        return (self.last_token_s - self.first_token_s) / (self.output_tokens - 1) * 1e3
