"""Accelerators and processors: peak rates and sizes from data sheets or drivers, a source per figure."""

import re
from functools import cache
from pathlib import Path
from typing import Literal, Self

from pydantic import Field, ValidationError, model_validator

from advisor.profiles.errors import AdvisorError, ErrorAction, ExitCode
from advisor.profiles.files import read_yaml
from advisor.profiles.frozen import Frozen

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
_VENDORS = {"nvidia", "geforce", "tesla", "amd", "radeon", "instinct", "intel"}
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
_FOLDER = Path(__file__).with_name("hardware")


class Hardware(Frozen):
    """One device by its data sheet or its driver."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    name: str
    vendor: str
    arch: str
    kind: Literal["gpu", "cpu", "soc"]
    """`gpu`: an accelerator with memory of its own, a TPU too; `soc`: a GPU that shares memory with its CPU."""
    memory_bytes: int = Field(gt=0)
    """Bytes that a process may allocate on an idle device.

    The total that the driver reports, where a source gives it. Otherwise the vendor's GB read as GiB, as in every driver total
    found, less what the driver or error correction reserves on cards of that kind; `sources` says which.
    On Apple's chips what Metal allocates to the GPU by default. A CPU of the catalogue has an assumed 32 GiB per memory channel.
    """
    memory_bandwidth_bytes_per_s: float = Field(gt=0)
    """Of the data sheet; the share that a kernel reaches is in profiles and kernel measurements."""
    peak_flops: dict[str, float]
    """Dense FLOP/s (integer op/s) by compute format, fp32 accumulation; a format without units on the device is absent."""
    link_bytes_per_s: float | None = Field(default=None, gt=0)
    """Interconnect of devices (NVLink or similar), one direction, all links of a device together."""
    pcie_bytes_per_s: float | None = Field(default=None, gt=0)
    """Link to the host, one direction, without line encoding."""
    compute_capability: str | None = None
    """NVIDIA's `9.0`, AMD's `gfx942`."""
    tdp_w: float | None = Field(default=None, gt=0)
    sm_count: int | None = Field(default=None, gt=0)
    """Streaming multiprocessors or compute units."""
    l2_bytes: int | None = Field(default=None, gt=0)
    cores: int | None = Field(default=None, gt=0)
    instruction_sets: tuple[str, ...] = ()
    l3_bytes: int | None = Field(default=None, gt=0)
    machine_devices: int | None = Field(default=None, gt=0)
    """Most devices that share a fast interconnect, where it is not the number of an ordinary server: those of a rack or a pod."""
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

    @model_validator(mode="after")
    def _complete(self) -> Self:
        if not {"fp32", "bf16"} & set(self.peak_flops) or any(flops <= 0 for flops in self.peak_flops.values()):
            raise ValueError("peak_flops must hold fp32 or bf16, and only positive figures")
        if unknown := set(self.peak_flops) - set(COMPUTE_FORMATS):
            raise ValueError(f"peak_flops has unknown formats: {', '.join(sorted(unknown))}")
        if missing := self.figures() - set(self.sources):
            raise ValueError(f"no source for {', '.join(sorted(missing))}")
        return self

    def figures(self) -> set[str]:
        """The names of the figures present, as `sources` names them."""
        singles = {name for name in _FIGURES if getattr(self, name) not in (None, ())}
        return singles | {f"peak_flops.{format}" for format in self.peak_flops}


@cache
def shipped_hardware() -> tuple[str, ...]:
    """The ids of every accelerator that ships with the package, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def nearest_ids(name: str) -> tuple[str, ...]:
    """At most four ids of shipped hardware that resemble an unknown name, the nearest first."""
    from difflib import get_close_matches  # only an error needs it

    return tuple(get_close_matches(hardware_id(name).lower(), shipped_hardware(), n=4, cutoff=0.4))


def load_hardware(name: str) -> Hardware:
    """The device with an id, or with a name such as `RTX 4090`. Raises `AdvisorError` `hardware-not-found` with the nearest ids."""
    id = hardware_id(name)
    if id not in shipped_hardware():
        near = nearest_ids(name)
        help_lines = (f"did you mean {', '.join(near)}?",) if near else ()
        raise AdvisorError(
            "hardware-not-found",
            f"unknown hardware `{name}`",
            exit_code=ExitCode.MISSING,
            help=(*help_lines, "advisor hardware   lists every id"),
            field="hardware",
            action=ErrorAction.CHOOSE,
        )
    return parse_hardware(read_yaml(_FOLDER / f"{id}.yaml", what="hardware"), what=f"hardware {id}")


def hardware_id(name: str) -> str:
    """The catalogue's id of a device name; a name that is not in the catalogue is returned unchanged.

    >>> hardware_id("NVIDIA GeForce RTX 4090"), hardware_id("rtx4090"), hardware_id("H100 SXM"), hardware_id("some-cpu")
    ('rtx-4090', 'rtx-4090', 'h100-sxm', 'some-cpu')
    """
    by_letters = {id.replace("-", ""): id for id in shipped_hardware()}
    words = re.findall(r"[a-z0-9]+", name.lower())
    full, without_vendor = "".join(words), "".join(word for word in words if word not in _VENDORS)
    return by_letters.get(full) or by_letters.get(without_vendor, name)


def parse_hardware(record: object, *, what: str) -> Hardware:
    """The device of a parsed record; `what` names it in errors. Raises `AdvisorError` `bad-hardware` naming the first wrong key."""
    try:
        return Hardware.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise AdvisorError("bad-hardware", f"{what}: {field}: {first['msg'].lower()}", exit_code=ExitCode.USAGE) from error
