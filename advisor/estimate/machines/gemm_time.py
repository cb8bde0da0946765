"""Seconds of matrix products on a device: launch, a serial pass over k, reading, and tiles in waves over its processors.

Seven constants for each device and format, fitted to measured kernels by `tools/fit_kernels.py`.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

from advisor.estimate.machines.machine import gemm_bytes
from advisor.estimate.machines.nearest_rows import DeviceClass, Rows, device_class, log_median, nearest_rows
from advisor.estimate.operators.types import Gemm
from advisor.profiles.evidence import table
from advisor.profiles.formats import weight_format
from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Basis, weakest

Sums = Literal["fp32", "fp16"]
"""Format in which tensor cores accumulate."""
FLOPS_PER_JOULE = {"Ada": 0.76e12, "Ampere": 0.42e12}
"""Most bf16 operations per joule by architecture: what an L40S reaches at 350 W, and a Jetson AGX Orin at 60 W with TinyChat."""
TILE_ROWS = (16, 32, 64, 128, 256)
TILE_COLUMNS = (64, 128, 256)
TILE_SETUP = 64
"""Columns whose products take as long as loading a tile's activations."""
LARGEST_TILE = (TILE_COLUMNS[-1] + TILE_SETUP) / TILE_COLUMNS[-1]
"""Time of a row of the largest tile with its set-up, relative to one without."""
VECTOR_SHARE = 0.5
"""Share of the fp32 peak that matrix-vector kernels reach, which compute few rows without tiles (TensorRT-LLM's int4 kernel on H200)."""
MANY_ROWS = 64
"""Rows from which weights are read at `read_many`."""


@dataclass(frozen=True, slots=True)
class ProductWork:
    """Least times of a product by the data sheet of a device."""

    m: int
    k: int
    read_s: float
    """Of reading weights and activations at peak bandwidth."""
    tiles: tuple[tuple[int, float], ...]
    """Rows of each size of tile, and the seconds of one of its rows over all waves."""
    vector_s: float
    """On vector units, at `VECTOR_SHARE` of their peak."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductConstants:
    """Constants of the product kernels of one device and format, relative to its data sheet."""

    launch_us: float
    """Of every call; in some formats with the quantisation of activations."""
    pass_ns: float
    """Nanoseconds for each element of k: the serial part of the accumulation."""
    read_few: float
    """Share of the peak bandwidth reached with one row."""
    read_many: float
    """Share of the peak bandwidth reached from `MANY_ROWS` rows on; interpolated between, in the logarithm of rows."""
    unpack_rows: float
    """Rows whose products take as long as unpacking a tile of weights."""
    product: float
    """Share of the peak reached in large tiles."""
    sharpness: float
    """Exponent of the norm that combines reading, products and the serial pass: large where they overlap perfectly."""

    def seconds(self, work: ProductWork) -> float:
        """Seconds of a product."""
        return self.launch_us * 1e-6 + self._running_s(work, self.pass_ns)

    def _running_s(self, work: ProductWork, pass_ns: float) -> float:
        few = max(1.0 - math.log(work.m) / math.log(MANY_ROWS), 0.0)
        read = work.read_s / (self.read_many + few * (self.read_few - self.read_many))
        largest = (TILE_ROWS[-1] + self.unpack_rows) / TILE_ROWS[-1] * LARGEST_TILE
        tiled = min([(rows + self.unpack_rows) * row_s for rows, row_s in work.tiles]) / (self.product * largest)
        parts = (read, min(tiled, work.vector_s), pass_ns * 1e-9 * work.k)
        longest, power = max(parts), self.sharpness
        return float(longest * sum([(part / longest) ** power for part in parts]) ** (1.0 / power))

    def latency_s(self, work: ProductWork) -> float:
        """The part of `seconds` that is latency: the launch, and what the serial pass adds."""
        return self.seconds(work) - self._running_s(work, 0.0)

    def fused(self, plain: "ProductConstants") -> "ProductConstants":
        """The constants with activations quantised in the preceding operator, as engines do: the launch is at most that of bf16."""
        return replace(self, launch_us=min(self.launch_us, plain.launch_us))


CONSTANTS = tuple(field.name for field in fields(ProductConstants))


def product_work(hardware: Hardware, gemm: Gemm, sums: Sums = "fp32") -> ProductWork:
    """The work of a product on a device; all groups run in one kernel. `sums` is the accumulation format."""
    processors = hardware.sm_count or 1
    top = peak(hardware, gemm.format, sums, gemm.dtype)
    cell_s = 2.0 * gemm.k * processors / top
    operations = 2.0 * gemm.m * gemm.n * gemm.k * gemm.groups
    whole = ((TILE_ROWS[-1], operations / top / TILE_ROWS[-1] * LARGEST_TILE),)
    tiles = _tiles(gemm, processors, cell_s) if _in_tiles(hardware) else whole
    read_s = gemm_bytes(gemm) / hardware.memory_bandwidth_bytes_per_s
    vector = VECTOR_SHARE * min(hardware.peak("fp32"), hardware.peak(gemm.dtype))
    return ProductWork(gemm.m, gemm.k, read_s, tiles, operations / vector)


def peak(hardware: Hardware, format: str, sums: Sums = "fp32", dtype: str = "bf16") -> float:
    """Peak operations per second of products in a format with activations in `dtype`.

    fp16 accumulation runs at half of the int8 rate: twice fp32's on game cards.
    """
    compute = weight_format(format).compute
    if format == "fp32" or (dtype == "fp32" and compute in ("bf16", "fp16")):
        return hardware.peak("fp32")
    narrow = hardware.peak_flops.get("int8", 0.0) / 2 if sums == "fp16" and compute in ("bf16", "fp16") else 0.0
    return max(hardware.peak(compute), narrow)


def product_constants(hardware: Hardware, format: str, rows: Rows | None = None, sums: Sums = "fp32") -> tuple[ProductConstants, Basis]:
    """Constants of a device and a format with their tier, from `nearest_rows`; the median where several rows are as near."""
    rows = table("gemm_efficiency.csv") if rows is None else rows
    measured = measured_format(hardware, format)
    of_format = [row for row in rows if row["format"] == measured]
    if sums == "fp16" and device_class(hardware) == DeviceClass.GAME:
        # With fp16 accumulation game cards run at full rate, as other cards do.
        of_format = [row for row in of_format if row["build"] != DeviceClass.GAME]
    nearest, basis = nearest_rows(of_format, hardware)
    constants = ProductConstants(**{name: log_median(nearest, name) for name in CONSTANTS})
    plain = (
        nearest_rows([row for row in rows if row["format"] == "bf16"], hardware)[0]
        if device_class(hardware) == DeviceClass.GAME and sums == "fp32"
        else ()
    )
    if all(row["build"] != DeviceClass.GAME for row in nearest) and any(row["build"] == DeviceClass.GAME for row in plain):
        # At half rate, power and other units limit no more than in bf16: tensor cores reach at least the same share of their peak.
        constants = replace(constants, product=max(constants.product, log_median(plain, "product")))
    if basis is not Basis.CATALOGUE:
        constants = replace(constants, product=min(constants.product, _power_share(hardware, sums)))
    return constants, basis if measured == format else weakest(basis, Basis.ARCHITECTURE)


def _power_share(hardware: Hardware, sums: Sums) -> float:
    """Most of the peak that a card's power allows, as a share: the same in narrower formats, whose rate and efficiency both double."""
    per_joule = FLOPS_PER_JOULE.get(hardware.arch.split()[0])
    if per_joule is None or hardware.tdp_w is None or device_class(hardware) == DeviceClass.SERVER:
        return 1.0
    return min(per_joule * hardware.tdp_w / peak(hardware, "bf16", sums), 1.0)


def measured_format(hardware: Hardware, format: str) -> str:
    """The measured format whose constants price `format`: of about as many bits, a weight-only one where the device lacks its units."""
    weights = weight_format(format)
    if weights.compute in ("fp8", "fp4") and weights.compute not in hardware.peak_flops:
        return "int8" if weights.bits > 4 else "int4"
    if format in ("fp8", "nvfp4", "int8-w8a8"):
        return format
    if weights.compute == "fp8":
        return "fp8"
    if weights.bits >= 16:
        return "bf16"
    return "int8" if weights.bits >= 6 else "int4"


def _in_tiles(hardware: Hardware) -> bool:
    return hardware.sm_count is not None and (hardware.kind == "gpu" or hardware.compute_capability is not None)


def _tiles(gemm: Gemm, processors: int, cell_s: float) -> tuple[tuple[int, float], ...]:
    """For each `TILE_ROWS`, the seconds of one row over all waves, with the fastest of `TILE_COLUMNS`."""
    across = [(math.ceil(gemm.n / columns), (columns + TILE_SETUP) * cell_s) for columns in TILE_COLUMNS]
    times = []
    for rows in TILE_ROWS:
        down = gemm.groups * math.ceil(gemm.m / rows)
        times.append((rows, min([math.ceil(down * tiles / processors) * row_s for tiles, row_s in across])))
    return tuple(times)
