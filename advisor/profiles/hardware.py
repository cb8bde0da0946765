"""Accelerators and processors: peak rates and sizes from data sheets or drivers, a source per figure."""

import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, field_validator, model_validator

from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import expanded, read_yaml
from advisor.profiles.frozen import Frozen
from advisor.profiles.hardware_names import CATALOGUE, NO_HARDWARE, named_hardware, nearest_ids, shipped_hardware

__all__ = [
    "COMPUTE_FORMATS",
    "DataSheet",
    "Hardware",
    "hardware_id",
    "is_data_sheet",
    "load_hardware",
    "meaning_note",
    "nearest_ids",
    "parse_hardware",
    "read_data_sheet",
    "shipped_hardware",
]

COMPUTE_FORMATS = ("fp32", "tf32", "fp16", "bf16", "fp8", "fp4", "int8", "int4")

# Where a device has no units for a format, operands are converted to the first of these that it has.
_FALLBACKS = {
    "fp32": (),
    "tf32": ("fp32",),
    "fp16": ("bf16", "fp32"),
    "bf16": ("fp16", "fp32"),
    "fp8": ("bf16", "fp16", "fp32"),
    "fp4": ("fp8", "bf16", "fp16", "fp32"),
    "int8": ("bf16", "fp16", "fp32"),
    "int4": ("int8", "bf16", "fp16", "fp32"),
}
# A product of fp32 operands on units that only have bf16 takes six passes (XLA's Precision.HIGHEST on a TPU).
_FP32_PASSES = 6
DTYPES = ("bf16", "fp16", "fp32")
"""Types of activations and of matrices that are not quantised."""
_SAME = 1.05
_FIGURES = (
    "memory_bytes",
    "memory_bandwidth_bytes_per_s",
    "link_bytes_per_s",
    "pcie_bytes_per_s",
    "compute_capability",
    "tdp_w",
    "sm_count",
    "l2_bytes",
    "cores",
    "instruction_sets",
    "l3_bytes",
    "machine_devices",
)
SERVER_DEVICES = 8
"""Devices of an ordinary server: HGX and OAM boards and PCIe servers hold eight."""


# Bounds far outside what any device has: a figure beyond them is in the wrong unit.
LEAST_RATE, MOST_RATE, MOST_FLOPS = 1e6, 1e16, 1e19
MOST_BYTES, MOST_WATTS, MOST_UNITS = 2**50, 1e6, 10**6


class Hardware(Frozen):
    """One device by its data sheet or its driver."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    name: str
    vendor: str
    arch: str
    kind: Literal["gpu", "cpu", "soc"]
    """`gpu`: an accelerator with memory of its own, a TPU too; `soc`: a GPU that shares memory with its CPU."""
    memory_bytes: int = Field(gt=0, le=MOST_BYTES)
    """Bytes that a process may allocate on an idle device.

    The total that the driver reports, where a source gives it. Otherwise the vendor's GB read as GiB, as in every driver total
    found, less what the driver or error correction reserves on cards of that kind; `sources` says which.
    On Apple's chips what Metal allocates to the GPU by default. A CPU of the catalogue has an assumed 32 GiB per memory channel.
    """
    memory_bandwidth_bytes_per_s: float = Field(ge=LEAST_RATE, le=MOST_RATE)
    """Of the data sheet; the share that a kernel reaches is in profiles and kernel measurements."""
    peak_flops: dict[str, float]
    """Dense FLOP/s (integer op/s) by compute format, fp32 accumulation; a format without units on the device is absent."""
    link_bytes_per_s: float | None = Field(default=None, ge=LEAST_RATE, le=MOST_RATE)
    """Interconnect of devices (NVLink or similar), one direction, all links of a device together."""
    pcie_bytes_per_s: float | None = Field(default=None, ge=LEAST_RATE, le=MOST_RATE)
    """Link to the host, one direction, without line encoding."""
    compute_capability: str | None = None
    """NVIDIA's `9.0`, AMD's `gfx942`."""
    tdp_w: float | None = Field(default=None, gt=0, le=MOST_WATTS)
    sm_count: int | None = Field(default=None, gt=0, le=MOST_UNITS)
    """Streaming multiprocessors or compute units."""
    l2_bytes: int | None = Field(default=None, gt=0, le=MOST_BYTES)
    cores: int | None = Field(default=None, gt=0, le=MOST_UNITS)
    instruction_sets: tuple[str, ...] = ()
    l3_bytes: int | None = Field(default=None, gt=0, le=MOST_BYTES)
    machine_devices: int | None = Field(default=None, gt=0, le=MOST_UNITS)
    """Most devices that share a fast interconnect, where it is not the number of an ordinary server: those of a rack or a pod."""
    power_limit_w: float | None = Field(default=None, gt=0, le=MOST_WATTS)
    """Power limit that the device is set to, in watts, at most `tdp_w`; no figure of the data sheet. `None`: no limit."""
    sources: dict[str, str]
    """Where each figure comes from: `memory_bytes`, `peak_flops.bf16` and so on; one for every figure present."""
    notes: str | None = None

    def peak(self, compute: str) -> float:
        """FLOP/s of products in format `compute`, or in the format that it is converted to on this device.

        Raises `AdvisorError` `unknown-format`.
        """
        if compute not in _FALLBACKS:
            raise AdvisorError(
                "unknown-format",
                f"unknown compute format `{compute}`",
                exit_code=ExitCode.USAGE,
                help=("choose from " + ", ".join(COMPUTE_FORMATS),),
            )
        for format in (compute, *_FALLBACKS[compute]):
            if format in self.peak_flops:
                return self.peak_flops[format]
        return self.peak_flops["bf16"] / _FP32_PASSES

    @property
    def devices_of_a_machine(self) -> int:
        """Most devices of one machine: one where the device is the machine."""
        return self.machine_devices or (SERVER_DEVICES if self.kind == "gpu" else 1)

    def emulating(self, share: float) -> "Hardware":
        """The device with bf16 at a share of the fp32 rate, if it is a processor without instructions for it; else the device itself."""
        if self.kind != "cpu" or {"bf16", "fp16"} & set(self.peak_flops):
            return self
        return self.model_copy(update={"peak_flops": {**self.peak_flops, "bf16": share * self.peak_flops["fp32"]}})

    def dtypes(self, own: str) -> tuple[str, ...]:
        """Types of activations worth choosing from, the fastest first: `fastest_first` by the peaks. `own` is the checkpoint's.

        NVIDIA GPUs compute bf16 from capability 8.0 on (CUDA C++ Programming Guide). fp16 is for GPUs: few processors have instructions for
        it.
        """
        lacking = {"fp16"} if self.kind == "cpu" and "fp16" not in self.peak_flops else set()
        if self.vendor == "NVIDIA" and re.fullmatch(r"[1-7]\.\d", self.compute_capability or ""):
            lacking.add("bf16")
        computed = [dtype for dtype in DTYPES if dtype not in lacking]
        return fastest_first({dtype: 1.0 / self.peak(dtype) for dtype in computed}, own)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not {"fp32", "bf16"} & set(self.peak_flops) or any(not LEAST_RATE <= flops <= MOST_FLOPS for flops in self.peak_flops.values()):
            raise ValueError(f"peak_flops must hold fp32 or bf16, and only FLOP/s from {LEAST_RATE:g} to {MOST_FLOPS:g}")
        if unknown := set(self.peak_flops) - set(COMPUTE_FORMATS):
            raise ValueError(f"peak_flops has unknown formats: {', '.join(sorted(unknown))}")
        if missing := self.figures() - set(self.sources):
            raise ValueError(f"no source for {', '.join(sorted(missing))}")
        return self

    def figures(self) -> set[str]:
        """The names of the figures present, as `sources` names them."""
        singles = {name for name in _FIGURES if getattr(self, name) not in (None, ())}
        return singles | {f"peak_flops.{format}" for format in self.peak_flops}


def fastest_first(seconds: Mapping[str, float], own: str) -> tuple[str, ...]:
    """The fastest of `DTYPES` by seconds of one product, then each that takes fewer bytes than those before it.

    Among types whose times differ by less than 5 %, the checkpoint's `own` counts as fastest, then bf16, whose range is that of fp32.

    >>> fastest_first({"bf16": 4.0, "fp16": 4.0, "fp32": 1.0}, "bf16"), fastest_first({"bf16": 1.0, "fp32": 2.0}, "bf16")
    (('fp32', 'bf16'), ('bf16',))
    """
    least = min(seconds.values())
    fastest = min((dtype for dtype in DTYPES if seconds.get(dtype, math.inf) < least * _SAME), key=lambda dtype: dtype != own)
    if fastest != "fp32":
        return (fastest,)
    narrow = min((dtype for dtype in DTYPES[:2] if dtype in seconds), key=lambda dtype: (dtype != own, seconds[dtype]), default=None)
    return (fastest,) if narrow is None else (fastest, narrow)


def load_hardware(name: str) -> Hardware:
    """The device with an id, with a name such as `RTX 4090`, or of a data sheet: a path with a slash or ending in `.yaml`.

    Raises `AdvisorError`: `hardware-ambiguous` for a name of several devices, `hardware-not-found` with the nearest ids, and those of
    `read_data_sheet`.
    """
    if is_data_sheet(name):
        return read_data_sheet(expanded(name))
    named = named_hardware(name)
    if named.id is not None:
        return parse_hardware(read_yaml(CATALOGUE / f"{named.id}.yaml", what="hardware"), what=f"hardware {named.id}")
    near = nearest_ids(name)
    help_lines = (f"did you mean {', '.join(near)}?",) if near else ()
    if named.ids:
        raise AdvisorError(
            "hardware-ambiguous",
            f"`{name}` is the name of several devices",
            exit_code=ExitCode.MISSING,
            help=help_lines,
            field="hardware",
            action=ErrorAction.CHOOSE,
        )
    raise AdvisorError(
        "hardware-not-found",
        f"unknown hardware `{name}`",
        exit_code=ExitCode.MISSING,
        help=(*help_lines, "advisor hardware   lists every id", "--hardware FILE.yaml   takes a data sheet of yours"),
        field="hardware",
        action=ErrorAction.CHOOSE,
    )


def hardware_id(name: str) -> str:
    """The catalogue's id of a device name; a name that stands for none, or for several, is returned unchanged.

    >>> hardware_id("NVIDIA GeForce RTX 4090"), hardware_id("rtx4090"), hardware_id("H100 PCIe"), hardware_id("some-cpu")
    ('rtx-4090', 'rtx-4090', 'h100-pcie', 'some-cpu')
    """
    return name if is_data_sheet(name) else named_hardware(name).id or name


def meaning_note(name: str) -> str | None:
    """Which of several devices a name is taken for, as a sentence; `None` where it fits one only.

    >>> meaning_note("H100"), meaning_note("4090")
    ('H100 is taken for h100-sxm; it may also be h100-nvl or h100-pcie', None)
    """
    named = NO_HARDWARE if is_data_sheet(name) else named_hardware(name)
    others = [id for id in named.ids if id != named.id]
    return f"{name} is taken for {named.id}; it may also be {' or '.join(others)}" if named.id and others else None


def is_data_sheet(name: str) -> bool:
    """Whether a name is the path of a data sheet."""
    return os.sep in name or name.lower().endswith((".yaml", ".yml"))


class DataSheet(Hardware):
    """A device by a data sheet of the user's own; sources are optional."""

    format: Literal["1.0"] = "1.0"
    """Version of this layout."""
    sources: dict[str, str] = Field(default={})
    """Where each figure comes from; those without one are the file's."""

    @model_validator(mode="before")
    @classmethod
    def _with_sources(cls, record: object) -> object:
        """Name the file as the source of what has none; numbers such as `24e9`, which are texts in YAML, are read as numbers."""
        if not isinstance(record, dict):
            return record
        record = {key: _number_of(value) for key, value in record.items()}
        flops, sources = record.get("peak_flops"), record.get("sources") or {}
        if not isinstance(flops, dict) or not isinstance(sources, dict):
            return record
        present = {name for name in _FIGURES if record.get(name) not in (None, (), [])} | {f"peak_flops.{format}" for format in flops}
        return record | {"sources": dict.fromkeys(sorted(present), "stated in the data sheet given") | sources}

    @field_validator("id")
    @classmethod
    def _is_its_own(cls, id: str) -> str:
        if id in shipped_hardware() or id.startswith("this-"):
            raise ValueError(f"`{id}` is in the catalogue; give the data sheet an id of its own")
        return id


def _number_of(value: object) -> object:
    """Text such as `24e9` as a number, a whole one where it is; everything else unchanged."""
    if not isinstance(value, str) or not re.fullmatch(r"\d+(\.\d+)?[eE]\+?\d{1,2}", value):
        return value
    return int(float(value)) if float(value).is_integer() else float(value)


def read_data_sheet(path: Path) -> Hardware:
    """The device of a data sheet; `advisor schema hardware` describes the file.

    Raises `AdvisorError`: `bad-hardware`, and those of `read_yaml`.
    """
    sheet = _parsed(DataSheet, read_yaml(path, what="data sheet"), what=f"data sheet {path}")
    return Hardware.model_validate(sheet.model_dump(exclude={"format"}))


def parse_hardware(record: object, *, what: str) -> Hardware:
    """The device of a parsed record; `what` names it in errors. Raises `AdvisorError` `bad-hardware` naming the first wrong key."""
    return _parsed(Hardware, record, what=what)


def _parsed(kind: type[Hardware], record: object, *, what: str) -> Hardware:
    try:
        return kind.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        problem = first["msg"].removeprefix("Value error, ")
        if first["type"] == "model_type":
            problem = "a mapping of fields is needed"
        raise AdvisorError(
            "bad-hardware",
            f"{what}: {field + ': ' if field else ''}{problem[:1].lower()}{problem[1:]}",
            exit_code=ExitCode.USAGE,
            help=("advisor schema hardware   describes every field", "advisor hardware show rtx-4090 -f yaml   is an example"),
            field="hardware",
        ) from error
