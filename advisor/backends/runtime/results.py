"""Requests and results of the runtime."""

from dataclasses import dataclass

from advisor.profiles.metrics import Sample


@dataclass(frozen=True, slots=True)
class GenerationRequest:
    """One request: the token ids of its prompt and the number of output tokens."""

    prompt: tuple[int, ...]
    output_tokens: int


@dataclass(frozen=True, slots=True)
class FinishedRequest:
    """The output tokens of one request, and its times."""

    index: int
    tokens: tuple[int, ...]
    sample: Sample


@dataclass(frozen=True, slots=True)
class SequenceProgress:
    """Progress of a run after a step."""

    step: int
    elapsed_s: float
    finished: int
    jobs: int
    running: int
    waiting: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ServingResult:
    """The requests of a run, in the order in which they were given, with counts and raw step times."""

    finished: tuple[FinishedRequest, ...]
    wall_s: float
    steps: int
    prefill_tokens: int
    """Prompt tokens computed, including those computed again after a preemption."""
    decode_tokens: int
    """Output tokens of all requests."""
    kv_bytes: int
    kv_used_bytes_peak: int
    proposed: int = 0
    """Draft positions verified."""
    accepted: int = 0
    preemptions: int = 0
    reused_tokens: int = 0
    """Prompt tokens found in the prefix cache, and so not computed."""
    step_seconds: tuple[float, ...] = ()
    """Duration of each step: from its start, or the end of the one before where steps overlap, until its tokens were read."""
    captured_steps: int = 0
    """Steps that replayed a CUDA graph."""
    device_s: float = 0.0
    """Time in which the device computed steps."""
    host_gap_s: float = 0.0
    """Time in which the device was idle between steps while requests were running."""
    fallback_reason: str | None = None
    """Why the model's own code ran; `None` where the runtime's decoder did."""
    uncaptured_because: str | None = None
    """Why decoding steps were not captured in graphs on a device that has them."""

    @property
    def captured_share(self) -> float:
        """Share of the steps that replayed a graph."""
        return self.captured_steps / self.steps if self.steps else 0.0

    @property
    def host_gap_share(self) -> float:
        """Share of the time between the first and the last step in which the device was idle while requests were running."""
        return self.host_gap_s / (self.host_gap_s + self.device_s) if self.device_s else 0.0
