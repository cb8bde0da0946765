"""What goes into a run of the runtime and what comes out of it."""

from dataclasses import dataclass

from advisor.profiles.metrics import Sample


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request: token ids in, so many tokens out."""

    prompt: tuple[int, ...]
    output_tokens: int


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """What came out of one job, and when."""

    index: int
    tokens: tuple[int, ...]
    sample: Sample


@dataclass(frozen=True, slots=True)
class SequenceProgress:
    """Where a run stands after a step."""

    step: int
    elapsed_s: float
    finished: int
    jobs: int
    running: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingResult:
    """A served list of jobs, in their order, with raw step times."""

    finished: tuple[FinishedRequest, ...]
    wall_s: float
    steps: int
    prefill_tokens: int
    """Tokens fed as prompt, those fed again after a preemption included."""
    decode_tokens: int
    """Output tokens of all jobs."""
    kv_bytes: int
    kv_used_bytes_peak: int
    proposed: int = 0
    """Draft positions verified."""
    accepted: int = 0
    preemptions: int = 0
    reused_tokens: int = 0
    """Tokens of prompts that were not fed, as an earlier request had left them in the cache."""
    step_seconds: tuple[float, ...] = ()
    """From the start of a step, or the end of the one before where they overlap, to when its tokens were known."""
    captured_steps: int = 0
    """Steps that replayed a graph."""
    device_s: float = 0.0
    """Time that the device computed steps."""
    host_gap_s: float = 0.0
    """Time that the device waited for the host between steps, arrivals of requests not counted."""
    fallback_reason: str | None = None
    """Why the model ran its own code; `None` where the runtime walked it."""
    uncaptured_because: str | None = None
    """Why decoding steps were not captured in graphs on a device that has them."""

    @property
    def captured_share(self) -> float:
        """Share of the steps that replayed a graph."""
        return self.captured_steps / self.steps if self.steps else 0.0

    @property
    def host_gap_share(self) -> float:
        """Share of the time between first and last step, arrivals not counted, that the device waited for the host."""
        return self.host_gap_s / (self.host_gap_s + self.device_s) if self.device_s else 0.0
