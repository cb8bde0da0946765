"""What a person asks for: the workload, the limits, the machine and the preference."""

from enum import StrEnum
from math import ceil
from typing import Self

from pydantic import Field, model_validator

from advisor.profiles.frozen import Frozen
from advisor.profiles.technique_name import technique_in
from advisor.profiles.trace import Trace


class Load(StrEnum):
    """How requests arrive."""

    CLOSED = "closed"
    """A fixed number of requests is always in flight."""
    OPEN = "open"
    """Requests arrive at a rate, whether or not earlier ones are done (Poisson)."""
    OFFLINE = "offline"
    """Everything is there at the start; as many run as fit."""
    BURST = "burst"
    """So many requests come at once, and nobody follows."""
    TRACE = "trace"
    """Requests with their own lengths arrive when a recorded trace says."""


class Prefer(StrEnum):
    """What to rank feasible plans by."""

    LATENCY = "latency"
    THROUGHPUT = "throughput"
    MEMORY = "memory"
    BALANCED = "balanced"


class Workload(Frozen):
    """Lengths and load of the requests that a deployment serves."""

    prompt_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    load: Load = Load.CLOSED
    concurrency: int | None = Field(default=None, ge=1)
    """Requests in flight, or of a burst; required for a closed loop and a burst."""
    request_rate_per_s: float | None = Field(default=None, gt=0)
    """Arrivals per second; required for an open loop."""
    context_limit_tokens: int | None = Field(default=None, ge=1)
    """Longest sequence that must be possible, where it is longer than the usual one."""
    length_spread: float = Field(default=0.1, ge=0, lt=1)
    """Lengths vary evenly by this share either way; equal ones would finish and start in step for ever."""
    shared_prefix_tokens: int | None = Field(default=None, ge=1)
    """Tokens with which every prompt begins: instructions, examples. Of a shorter prompt in a trace, all but its last."""
    trace: Trace | None = None
    """The requests of a trace; the lengths above are then their means."""
    oversubscribe: bool = False
    """Size a paged cache for the usual length and preempt when it runs dry; else all requests may be longest at once."""

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if self.load is Load.CLOSED and self.concurrency is None:
            raise ValueError("a closed loop needs concurrency")
        if self.load is Load.BURST and self.concurrency is None:
            raise ValueError("a burst needs concurrency")
        if (self.load is Load.TRACE) != (self.trace is not None):
            raise ValueError("a trace is the load when there is one, and only then")
        if self.load is Load.OPEN and self.request_rate_per_s is None:
            raise ValueError("an open loop needs request_rate_per_s")
        if self.context_limit_tokens is not None and self.context_limit_tokens < self.context_tokens:
            raise ValueError("context_limit_tokens must hold prompt and output")
        most = self.prompt_tokens if self.trace is None else self.trace.longest_prompt_tokens
        if self.shared_prefix_tokens is not None and self.shared_prefix_tokens > most:
            raise ValueError("shared_prefix_tokens must not be longer than the prompt")
        return self

    @property
    def context_tokens(self) -> int:
        """How long a sequence becomes."""
        return self.prompt_tokens + self.output_tokens

    @property
    def longest_prompt_tokens(self) -> int:
        """The longest prompt that comes, as lengths vary."""
        if self.trace is not None:
            return self.trace.longest_prompt_tokens
        alone = self.load is Load.CLOSED and self.concurrency == 1
        return self.prompt_tokens if alone else ceil(self.prompt_tokens * (1 + self.length_spread))

    @property
    def arrivals_per_s(self) -> float | None:
        """Requests that arrive per second, on average; `None` where arrivals wait for others, or all come at once."""
        return self.trace.rate_per_s if self.trace is not None else self.request_rate_per_s

    @property
    def longest_tokens(self) -> int:
        """How long a sequence may become: what a contiguous cache reserves."""
        return self.context_limit_tokens or self.context_tokens


class Limits(Frozen):
    """Bounds that a plan must keep. `None` means not limited."""

    ttft_ms_p95: float | None = Field(default=None, gt=0)
    tpot_ms_p95: float | None = Field(default=None, gt=0)
    throughput_tok_s: float | None = Field(default=None, gt=0)
    """At least so many output tokens per second, all requests together."""
    request_rate_per_s: float | None = Field(default=None, gt=0)
    """At least so many requests per second for as long as they come: the arrival rate of an open loop."""
    memory_gib_per_device: float | None = Field(default=None, gt=0)
    quality_loss_pct: float | None = Field(default=None, ge=0)


class Request(Frozen):
    """One question to the planner. Model and hardware are resolved elsewhere."""

    workload: Workload
    limits: Limits = Limits()
    prefer: Prefer = Prefer.BALANCED
    devices: int = Field(default=1, ge=1)
    require: tuple[str, ...] = ()
    """Techniques that must be in, each with the options that it must have: `kv-window`, `kv-window:window=128`."""
    forbid: tuple[str, ...] = ()

    def requires(self, technique: str) -> bool:
        """Whether a technique is asked for by name, with whatever options."""
        return any(technique_in(word) == technique for word in self.require)
