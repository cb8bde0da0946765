"""The measured profile of one machine: what its products, attention and runtime really take."""

from typing import Literal

from pydantic import Field

from advisor.profiles.frozen import Frozen
from advisor.profiles.hardware import Hardware


class GemmPoint(Frozen):
    """One measured product: m tokens, n outputs, k inputs, weights in `format`."""

    format: str
    m: int = Field(ge=1)
    n: int = Field(ge=1)
    k: int = Field(ge=1)
    working_set_bytes: int = Field(ge=0)
    """Bytes of all the weights cycled through while timing, so that a cache hit shows as such."""
    seconds: float = Field(gt=0)
    """Of one product."""


class AttentionPoint(Frozen):
    """One measured attention call of one layer, the write to the cache included."""

    implementation: str
    layout: str
    kv_format: str
    phase: Literal["prefill", "decode"]
    batch: int = Field(ge=1)
    q_tokens: int = Field(ge=1)
    kv_tokens: int = Field(ge=1)
    q_heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    seconds: float = Field(gt=0)


class RuntimeOverheads(Frozen):
    """What the runtime adds to the operators, fitted, in seconds."""

    step_s: float = Field(ge=0)
    """Per step."""
    layer_s: float = Field(ge=0)
    """Per layer and step."""
    sequence_s: float = Field(ge=0)
    """Per sequence and step."""
    element_s: float = Field(ge=0)
    """Per row, layer and hidden element: the element-wise work."""


class MachineProfile(Frozen):
    """Everything measured on one machine at one time."""

    kind: Literal["MachineProfile"] = "MachineProfile"
    format: Literal["1.0"] = "1.0"
    name: str
    hardware: Hardware
    fingerprint: str
    """Of the machine: two profiles of one machine share it."""
    taken: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    """UTC, ISO 8601."""
    threads: int = Field(ge=1)
    shared: bool
    """Others were using the machine while it was measured."""
    copy_bytes_per_s: float = Field(gt=0)
    read_bytes_per_s: float = Field(gt=0)
    launch_s: float = Field(ge=0)
    """Of the smallest operator."""
    gemm: tuple[GemmPoint, ...]
    attention: tuple[AttentionPoint, ...]
    runtime: RuntimeOverheads
    residual_pct: float = Field(ge=0)
    """Median absolute residual of the fit, percent of the measured time."""
    environment: dict[str, str]
    """Versions that the timings depend on."""
