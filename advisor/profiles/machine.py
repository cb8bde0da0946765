"""The measured profile of one machine: times of matrix products, attention and the runtime's overheads."""

from datetime import datetime
from typing import Annotated, Literal

from pydantic import Field, field_validator

from advisor.profiles.frozen import Frozen
from advisor.profiles.hardware import Hardware

TableWord = Annotated[str, Field(pattern=r"^\S+$")]
"""A name without spaces, as points are rows of a table."""


class GemmPoint(Frozen):
    """One measured product: m tokens, n outputs, k inputs, weights in `format`."""

    format: TableWord
    m: int = Field(ge=1)
    n: int = Field(ge=1)
    k: int = Field(ge=1)
    working_set_bytes: int = Field(ge=0)
    """Bytes of all the weights cycled through while timing; small ones fit in the processor's caches."""
    seconds: float = Field(gt=0)
    """Time of one product."""


class AttentionPoint(Frozen):
    """One measured attention call of one layer, with the write to the cache."""

    implementation: TableWord
    layout: TableWord
    kv_format: TableWord
    phase: Literal["prefill", "decode"]
    batch: int = Field(ge=1)
    q_tokens: int = Field(ge=1)
    kv_tokens: int = Field(ge=1)
    q_heads: int = Field(ge=1)
    kv_heads: int = Field(ge=1)
    head_dim: int = Field(ge=1)
    seconds: float = Field(gt=0)
    """Time of one call."""


class RuntimeOverheads(Frozen):
    """Overheads of the runtime in addition to the operators, in seconds; fitted to measured steps."""

    step_s: float = Field(ge=0)
    """Seconds per step."""
    layer_s: float = Field(ge=0)
    """Seconds per layer and step."""
    sequence_s: float = Field(ge=0)
    """Seconds per sequence and step."""
    element_s: float = Field(ge=0)
    """Seconds per row, layer and hidden element: element-wise operators."""


class Refit(Frozen):
    """Factors fitted to finished runs; the measured points are unchanged and multiplied by them."""

    operators: float = Field(gt=0)
    """Factor on the time of products and attention."""
    overheads: float = Field(gt=0)
    """Factor on the fitted overheads."""
    runs: tuple[str, ...]
    """Ids of the runs, oldest first."""


class MachineProfile(Frozen):
    """Everything measured on one machine at one time.

    In its file, points are a table in one block of text: a line of column names, then a line per point. Hundreds of points
    parse in a few milliseconds, and a changed point is a changed line.
    """

    kind: Literal["MachineProfile"] = "MachineProfile"
    format: Literal["1.0"] = "1.0"
    name: str
    hardware: Hardware
    fingerprint: str
    """Identifies the machine: profiles of one machine have the same."""
    taken: str = Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ$")
    """When it was measured: UTC, ISO 8601."""
    threads: int = Field(ge=1)
    shared: bool
    """Other processes used the machine while it was measured."""
    process_bytes: int = Field(default=0, ge=0)
    """Resident memory of a process that has loaded the libraries and no model; 0 where it was not measured."""
    copy_bytes_per_s: float = Field(gt=0)
    read_bytes_per_s: float = Field(gt=0)
    launch_s: float = Field(ge=0)
    """Time to launch the smallest operator, in seconds."""
    pace_s: float | None = Field(default=None, gt=0)
    """Mean seconds of a fixed loop on the CPU during the measurements, which shows its clock; `None` on other devices."""
    gemm: tuple[GemmPoint, ...]
    attention: tuple[AttentionPoint, ...]
    runtime: RuntimeOverheads
    refit: Refit | None = None
    residual_pct: float = Field(ge=0)
    """Median absolute residual of the fit, percent of the measured time."""
    environment: dict[str, str]
    """Versions of the libraries that the timings depend on."""

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
    """The rows of a table that `render_table` wrote, by column. Raises `ValueError` naming a row of the wrong length."""
    head, *rows = (line.split() for line in text.splitlines() if line.strip())
    for number, row in enumerate(rows, 1):
        if len(row) != len(head):
            raise ValueError(f"row {number} has {len(row)} values for {len(head)} columns")
    return [dict(zip(head, row, strict=True)) for row in rows]


def render_table(columns: tuple[str, ...], points: tuple[Frozen, ...]) -> str:
    """A line of column names, then a line per point; columns aligned."""
    rows = [columns, *(tuple(str(getattr(point, name)) for name in columns) for point in points)]
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return "".join("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() + "\n" for row in rows)
