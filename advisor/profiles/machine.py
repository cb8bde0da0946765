"""The measured profile of one machine: what its products, attention and runtime really take."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, field_validator

from advisor.profiles.frozen import Frozen
from advisor.profiles.hardware import Hardware

Word = Annotated[str, Field(pattern=r"^\S+$")]
"""A name without spaces, since points stand in tables."""


class GemmPoint(Frozen):
    """One measured product: m tokens, n outputs, k inputs, weights in `format`."""

    format: Word
    m: int = Field(ge=1)
    n: int = Field(ge=1)
    k: int = Field(ge=1)
    working_set_bytes: int = Field(ge=0)
    """Bytes of all the weights cycled through while timing, so that a cache hit shows as such."""
    seconds: float = Field(gt=0)
    """Of one product."""


class AttentionPoint(Frozen):
    """One measured attention call of one layer, the write to the cache included."""

    implementation: Word
    layout: Word
    kv_format: Word
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


class Refit(Frozen):
    """What finished runs have taught about this machine: factors on what was measured, which itself stays as it was."""

    operators: float = Field(gt=0)
    """On the time of products and attention."""
    overheads: float = Field(gt=0)
    """On the fitted overheads."""
    runs: tuple[str, ...]
    """Ids of the runs, oldest first."""


class MachineProfile(Frozen):
    """Everything measured on one machine at one time.

    In its file, points stand as a table in one text: a line of column names, then a line per point. Hundreds of points
    parse in a few milliseconds that way, and a changed point is a changed line.
    """

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
    process_bytes: int = Field(default=0, ge=0)
    """Resident memory of a process that has loaded the libraries and no model; 0 where it was not measured."""
    copy_bytes_per_s: float = Field(gt=0)
    read_bytes_per_s: float = Field(gt=0)
    launch_s: float = Field(ge=0)
    """Of the smallest operator."""
    pace_s: float | None = Field(default=None, gt=0)
    """Mean time of a fixed piece of work of the processor while all this was timed; `None` where the device is not the processor."""
    gemm: tuple[GemmPoint, ...]
    attention: tuple[AttentionPoint, ...]
    runtime: RuntimeOverheads
    refit: Refit | None = None
    residual_pct: float = Field(ge=0)
    """Median absolute residual of the fit, percent of the measured time."""
    environment: dict[str, str]
    """Versions that the timings depend on."""

    @field_validator("taken")
    @classmethod
    def _is_a_date(cls, value: str) -> str:
        datetime.fromisoformat(value)
        return value

    @field_validator("gemm", "attention", mode="before")
    @classmethod
    def _from_table(cls, value: object) -> object:
        return parse_table(value) if isinstance(value, str) else value


def parse_table(text: str) -> list[dict[str, str]]:
    """The rows of a table as `render_table` writes it. Raises `ValueError` naming the row of the wrong length."""
    head, *rows = (line.split() for line in text.splitlines() if line.strip())
    for number, row in enumerate(rows, 1):
        if len(row) != len(head):
            raise ValueError(f"row {number} has {len(row)} values for {len(head)} columns")
    return [dict(zip(head, row, strict=True)) for row in rows]


def render_table(columns: tuple[str, ...], points: tuple[Frozen, ...]) -> str:
    """Column names, then a line per point, columns aligned."""
    rows = [columns, *(tuple(str(getattr(point, name)) for name in columns) for point in points)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows)
