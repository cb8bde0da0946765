"""Seconds of matrix products on a device: launch, a serial pass over k, reading, and tiles in waves over its processors.

Seven constants for every device and format, fitted to measured kernels by `tools/fit_kernels.py`.
"""

import math
from dataclasses import dataclass, fields, replace
from typing import Literal

from advisor.estimate.machines.machine import gemm_bytes
from advisor.estimate.machines.nearest_rows import Rows, device_class, log_median, nearest_rows
from advisor.estimate.operators.types import Gemm
from advisor.profiles.evidence import table
from advisor.profiles.formats import weight_format
from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Basis, weakest

Sums = Literal["fp32", "fp16"]
"""What tensor units add up in."""
FLOPS_PER_JOULE = {"Ada": 0.76e12, "Ampere": 0.42e12}
"""Most bf16 operations for the energy that a card may draw: what L40S reaches at 350 W, and a Jetson AGX Orin at 60 W with TinyChat."""
TILE_ROWS = (16, 32, 64, 128, 256)
TILE_COLUMNS = (64, 128, 256)
TILE_SETUP = 64
"""Loading a tile of activations costs as much as so many more columns."""
LARGEST_TILE = (TILE_COLUMNS[-1] + TILE_SETUP) / TILE_COLUMNS[-1]
"""What a row of the largest tile takes, set-up included, in rows without any."""
VECTOR_SHARE = 0.5
"""Share of the fp32 peak that matrix-vector kernels reach; products of few rows need no tiles (TensorRT-LLM's int4 kernel on H200)."""
MANY_ROWS = 64
"""Rows from which the kernels for many rows read the weights."""


@dataclass(frozen=True, slots=True)
class ProductWork:
    """What a product asks of a device, at the figures of its data sheet."""

    m: int
    k: int
    read_s: float
    tiles: tuple[tuple[int, float], ...]
    """Rows of a tile, and the seconds that each of its rows takes over all waves."""
    vector_s: float
    """On vector units, at the share they reach."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProductConstants:
    """How kernels of one format fall short of the data sheet."""

    launch_us: float
    """Launch, and in some formats the quantisation of activations."""
    pass_ns: float
    """Serial nanoseconds for each of the k steps of the longest chain."""
    read_few: float
    """Share of the bandwidth when one row is multiplied."""
    read_many: float
    """The same from `MANY_ROWS` rows on."""
    unpack_rows: float
    """Unpacking a tile of weights costs as much as multiplying so many rows by it."""
    product: float
    """Share of the peak in large tiles."""
    sharpness: float
    """Exponent that joins reading, multiplying and the serial pass: large where they overlap perfectly."""

    def seconds(self, work: ProductWork) -> float:
        """What the work takes."""
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
        """The part of `seconds` that no byte and no operation explains: the launch, and what the serial pass adds."""
        return self.seconds(work) - self._running_s(work, 0.0)

    def fused(self, plain: "ProductConstants") -> "ProductConstants":
        """As engines run the product: activations are quantised in the operator before it, so it launches as fast as a bf16 one."""
        return replace(self, launch_us=min(self.launch_us, plain.launch_us))


CONSTANTS = tuple(field.name for field in fields(ProductConstants))


def product_work(hardware: Hardware, gemm: Gemm, sums: Sums = "fp32") -> ProductWork:
    """Bytes, tiles and operations of a product on a device. All groups run in one kernel."""
    processors = hardware.sm_count or 1
    top = peak(hardware, gemm.format, sums)
    cell_s = 2.0 * gemm.k * processors / top
    operations = 2.0 * gemm.m * gemm.n * gemm.k * gemm.groups
    whole = ((TILE_ROWS[-1], operations / top / TILE_ROWS[-1] * LARGEST_TILE),)
    tiles = _tiles(gemm, processors, cell_s) if _in_tiles(hardware) else whole
    read_s = gemm_bytes(gemm) / hardware.memory_bandwidth_bytes_per_s
    return ProductWork(gemm.m, gemm.k, read_s, tiles, operations / (VECTOR_SHARE * hardware.peak("fp32")))


def peak(hardware: Hardware, format: str, sums: Sums = "fp32") -> float:
    """Operations per second. Sums in fp16 run at half of the int8 rate, twice that of sums in fp32 on game cards."""
    if format == "fp32":
        return hardware.peak("fp32")
    compute = weight_format(format).compute
    narrow = hardware.peak_flops.get("int8", 0.0) / 2 if sums == "fp16" and compute in ("bf16", "fp16") else 0.0
    return max(hardware.peak(compute), narrow)


def product_constants(hardware: Hardware, format: str, rows: Rows | None = None, sums: Sums = "fp32") -> tuple[ProductConstants, Basis]:
    """The device's own where it has the format, else its architecture's, else the median of all devices; and the tier."""
    rows = table("gemm_efficiency.csv") if rows is None else rows
    known = measured_format(hardware, format)
    of_format = [row for row in rows if row["format"] == known]
    if sums == "fp16" and device_class(hardware) == "game":
        # At full rate a game card is as any other card.
        of_format = [row for row in of_format if row["build"] != "game"]
    found, basis = nearest_rows(of_format, hardware)
    constants = ProductConstants(**{name: log_median(found, name) for name in CONSTANTS})
    plain = (
        nearest_rows([row for row in rows if row["format"] == "bf16"], hardware)[0]
        if device_class(hardware) == "game" and sums == "fp32"
        else ()
    )
    if all(row["build"] != "game" for row in found) and any(row["build"] == "game" for row in plain):
        # Half of the work for the same power and the same other units: tensor units are as busy as in bf16.
        constants = replace(constants, product=max(constants.product, log_median(plain, "product")))
    if basis is not Basis.CATALOGUE:
        constants = replace(constants, product=min(constants.product, _power_share(hardware, sums)))
    return constants, basis if known == format else weakest(basis, Basis.ARCHITECTURE)


def _power_share(hardware: Hardware, sums: Sums) -> float:
    """Share of the peak that a card's power allows; the operations and the peak of narrower formats are both twice as many."""
    per_joule = FLOPS_PER_JOULE.get(hardware.arch.split()[0])
    if per_joule is None or hardware.tdp_w is None or device_class(hardware) == "server":
        return 1.0
    return min(per_joule * hardware.tdp_w / peak(hardware, "bf16", sums), 1.0)


def measured_format(hardware: Hardware, format: str) -> str:
    """The measured format whose kernels stand for `format`: the same bits, unpacked where the device lacks units for the format."""
    known = weight_format(format)
    if known.compute in ("fp8", "fp4") and known.compute not in hardware.peak_flops:
        return "int8" if known.bits > 4 else "int4"
    if format in ("fp8", "nvfp4", "int8-w8a8"):
        return format
    if known.bits >= 16:
        return "bf16"
    return "int8" if known.bits >= 6 else "int4"


def _in_tiles(hardware: Hardware) -> bool:
    return hardware.sm_count is not None and (hardware.kind == "gpu" or hardware.compute_capability is not None)


def _tiles(gemm: Gemm, processors: int, cell_s: float) -> tuple[tuple[int, float], ...]:
    """For each number of rows, what one of them takes over all waves, columns cut where that is quickest."""
    across = [(math.ceil(gemm.n / columns), (columns + TILE_SETUP) * cell_s) for columns in TILE_COLUMNS]
    found = []
    for rows in TILE_ROWS:
        down = gemm.groups * math.ceil(gemm.m / rows)
        found.append((rows, min([math.ceil(down * tiles / processors) * row_s for tiles, row_s in across])))
    return tuple(found)
