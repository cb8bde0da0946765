"""A request to the planner: workload, limits, preference, and required or forbidden techniques."""

from enum import StrEnum
from math import ceil
from typing import TYPE_CHECKING, Annotated, Any, Self

from pydantic import Field, create_model, model_validator

from advisor.profiles.choices import Prefer as Prefer
from advisor.profiles.choices import UseCase as UseCase
from advisor.profiles.frozen import Frozen
from advisor.profiles.technique_name import technique_in
from advisor.profiles.trace import Trace
from advisor.quantities.limits import LIMIT_OF, LIMITS, LimitInfo

LENGTH_SPREAD = 0.1
"""Share of the mean by which lengths vary unless a workload says otherwise."""


class Load(StrEnum):
    """How requests arrive."""

    CLOSED = "closed"
    """A fixed number of requests is always in flight (closed loop)."""
    OPEN = "open"
    """Requests arrive at a rate, independent of completions (open loop, Poisson)."""
    OFFLINE = "offline"
    """All requests are queued at the start; as many run as fit."""
    BURST = "burst"
    """A number of requests arrives at once and none after it."""
    TRACE = "trace"
    """Requests arrive at the times and with the lengths of a recorded trace."""


class Workload(Frozen):
    """Lengths in tokens and arrivals of the requests that a deployment serves."""

    prompt_tokens: int = Field(ge=1)
    output_tokens: int = Field(ge=1)
    load: Load = Load.CLOSED
    concurrency: int | None = Field(default=None, ge=1)
    """Requests in flight in a closed loop, or of a burst; required for both."""
    request_rate_per_s: float | None = Field(default=None, gt=0)
    """Arrivals per second; required for an open loop."""
    context_limit_tokens: int | None = Field(default=None, ge=1)
    """Longest sequence that must be supported, prompt and output; `None`: prompt and output of the mean lengths."""
    length_spread: float = Field(default=LENGTH_SPREAD, ge=0, lt=1)
    """Lengths are uniform within ± this share; requests of equal length would start and finish in lockstep."""
    shared_prefix_tokens: int | None = Field(default=None, ge=1)
    """Length of a prefix that all prompts share, such as instructions. Of a shorter prompt in a trace, all but its last token."""
    use_case: UseCase = UseCase.UNKNOWN
    trace: Trace | None = None
    """The requests of a trace; the lengths above are then means."""
    oversubscribe: bool = False
    """Size a paged cache for mean lengths and preempt when it runs out of blocks; else for all requests at their longest.

    The cache always holds one request of the longest length.
    """

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
        """Prompt and output of mean length."""
        return self.prompt_tokens + self.output_tokens

    @property
    def longest_prompt_tokens(self) -> int:
        """The longest prompt, with the spread of lengths."""
        if self.trace is not None:
            return self.trace.longest_prompt_tokens
        alone = self.load is Load.CLOSED and self.concurrency == 1
        return self.prompt_tokens if alone else ceil(self.prompt_tokens * (1 + self.length_spread))

    @property
    def arrivals_per_s(self) -> float | None:
        """Mean arrivals per second; `None` in a closed loop, and where all arrive at once."""
        return self.trace.rate_per_s if self.trace is not None else self.request_rate_per_s

    def reserved_tokens(self, sequences: int) -> int:
        """Cache tokens that a paged cache has for each of `sequences` requests that run at once."""
        if not self.oversubscribe:
            return self.longest_tokens
        return max(self.context_tokens, ceil(self.longest_tokens / max(sequences, 1)))

    @property
    def longest_tokens(self) -> int:
        """The longest sequence that must be supported: what a contiguous cache reserves."""
        return self.context_limit_tokens or self.context_tokens


def _bounded(limit: LimitInfo) -> Any:
    return Annotated[float, Field(ge=0)] if limit.quantity.zero else Annotated[float, Field(gt=0)]


if TYPE_CHECKING:
    _Bounds = Frozen
else:
    _Bounds = create_model(
        "_Bounds",
        __base__=Frozen,
        **{limit.name: (_bounded(limit) | None, Field(default=None, description=limit.description)) for limit in LIMITS.values()},
    )


class Limits(_Bounds):
    """Bounds that a plan must keep, a field for each row of `LIMITS`. `None` means not limited.

    A type checker does not see these fields, as the table declares them: read them with `bound`, which refuses other names.
    """

    if TYPE_CHECKING:

        def __init__(self, **bounds: float | None) -> None: ...

    def on(self, metric: str) -> float | None:
        """The bound on a metric, if there is one."""
        limit = LIMIT_OF.get(metric)
        return None if limit is None else self.bound(limit.name)

    def bound(self, limit: str) -> float | None:
        """The bound of a limit by its name in `LIMITS`; `None` where it is not limited. Raises `KeyError` for another name."""
        value: float | None = getattr(self, LIMITS[limit].name)
        return value

    def states(self, limit: str, bound: float) -> bool:
        """Whether a bound on the metric of `limit` is the request's own, and not the smaller memory of a device."""
        own = self.bound(limit)
        return own is not None and own <= bound

    @property
    def any_stated(self) -> bool:
        """Whether any limit was asked for."""
        return any(self.bound(limit) is not None for limit in LIMITS)


UNLIMITED = Limits()


class Request(Frozen):
    """One request to the planner, for a model on given hardware."""

    workload: Workload
    limits: Limits = UNLIMITED
    prefer: Prefer = Prefer.BALANCED
    devices: int = Field(default=1, ge=1)
    require: tuple[str, ...] = ()
    """Techniques that a plan must have, with options that they must have: `kv-window`, `kv-window:window=128`."""
    forbid: tuple[str, ...] = ()

    def requires(self, technique: str) -> bool:
        """Whether a technique is required, with any options."""
        return any(technique_in(word) == technique for word in self.require)
