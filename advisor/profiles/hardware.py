"""Accelerators and processors: what their makers or drivers say they can do, a source per figure."""

from difflib import get_close_matches
from functools import cache
from pathlib import Path
from typing import Literal

from pydantic import Field, ValidationError

from advisor.profiles.errors import AdvisorError, ExitCode
from advisor.profiles.files import read_yaml
from advisor.profiles.frozen import Frozen

COMPUTE_FORMATS = ("fp32", "tf32", "fp16", "bf16", "fp8", "fp4", "int8", "int4")

# What runs instead where a format has no units of its own: the operands are converted to the first one present.
_FALLBACKS = {
    "fp32": ("tf32",),
    "tf32": ("fp32",),
    "fp16": ("bf16", "fp32"),
    "bf16": ("fp16", "fp32"),
    "fp8": ("bf16", "fp16", "fp32"),
    "fp4": ("fp8", "bf16", "fp16", "fp32"),
    "int8": ("bf16", "fp16", "fp32"),
    "int4": ("int8", "bf16", "fp16", "fp32"),
}
_FOLDER = Path(__file__).with_name("hardware")


class Hardware(Frozen):
    """One device as its data sheet describes it."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    name: str
    vendor: str
    arch: str
    kind: Literal["gpu", "cpu", "soc"]
    memory_bytes: int = Field(gt=0)
    """Usable total per device."""
    memory_bandwidth_bytes_per_s: float = Field(gt=0)
    peak_flops: dict[str, float]
    """Dense FLOP/s (or integer op/s) by compute format; absent means no units for it."""
    link_bytes_per_s: float | None = None
    """Device-to-device link (NVLink or like), one direction, per device."""
    pcie_bytes_per_s: float | None = None
    """Host link, one direction."""
    compute_capability: str | None = None
    tdp_w: float | None = None
    sm_count: int | None = None
    l2_bytes: int | None = None
    cores: int | None = None
    instruction_sets: tuple[str, ...] = ()
    l3_bytes: int | None = None
    sources: dict[str, str]
    """Figure name to the document it comes from; one for every figure present."""
    notes: str | None = None

    def peak(self, compute: str) -> float:
        """FLOP/s of products in format `compute`, or of the format that stands in for it on this device.

        Raises `AdvisorError` for a word that is no compute format.
        """
        if compute not in _FALLBACKS:
            raise AdvisorError(
                "unknown-format",
                f"unknown compute format `{compute}`",
                exit_code=ExitCode.USAGE,
                help=("choose from " + ", ".join(COMPUTE_FORMATS),),
            )
        for known in (compute, *_FALLBACKS[compute]):
            if known in self.peak_flops:
                return self.peak_flops[known]
        return max(self.peak_flops.values()) / 6


@cache
def shipped_hardware() -> tuple[str, ...]:
    """The ids of every accelerator that ships with the package, sorted."""
    return tuple(sorted(path.stem for path in _FOLDER.glob("*.yaml")))


def load_hardware(id: str) -> Hardware:
    """The accelerator named `id`. Raises `AdvisorError` `hardware-not-found` with the nearest names."""
    if id not in shipped_hardware():
        near = get_close_matches(id.lower(), shipped_hardware(), n=4, cutoff=0.4)
        help_lines = (f"did you mean {', '.join(near)}?",) if near else ()
        raise AdvisorError(
            "hardware-not-found",
            f"unknown hardware `{id}`",
            exit_code=ExitCode.MISSING,
            help=(*help_lines, "advisor hardware   lists every id"),
        )
    return parse_hardware(read_yaml(_FOLDER / f"{id}.yaml", what="hardware"), what=f"hardware {id}")


def parse_hardware(record: object, *, what: str) -> Hardware:
    """Validate a parsed record. Raises `AdvisorError` `bad-hardware` naming the first wrong field."""
    try:
        return Hardware.model_validate(record)
    except ValidationError as error:
        first = error.errors()[0]
        field = ".".join(str(part) for part in first["loc"])
        raise AdvisorError("bad-hardware", f"{what}: {field}: {first['msg'].lower()}", exit_code=ExitCode.USAGE) from error
