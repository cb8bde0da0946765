"""A machine that was never measured here: its data sheet and the efficiency published for it or its architecture."""

import math
from bisect import bisect_left
from dataclasses import dataclass
from functools import lru_cache
from statistics import median

from advisor.estimate.machine import attention_bytes, attention_flops, gemm_bytes
from advisor.estimate.operators import AllReduce, AttentionCall, Exchange, Gemm, Traffic
from advisor.profiles.engines import Overheads
from advisor.profiles.evidence import table
from advisor.profiles.formats import weight_format
from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Basis

KERNEL_FLOOR_S = 2e-6
"""Shortest element-wise kernel in a captured graph: launch gap and drain (Hazy Research: 1.3 us a node on H100, plus execution)."""
STREAM_EFFICIENCY = 0.8
"""Share of the peak bandwidth that element-wise kernels reach (aiconfigurator's constant for memory-bound operators)."""
SCALAR_SHARE = 0.25
"""Attention written out as separate operators moves its scores through memory: the share of the fused kernel's speed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionEfficiency:
    """Fitted speed of fused attention kernels: shares of peak bandwidth and peak products."""

    decode: float
    decode_floor_s: float
    decode_fp8: float
    decode_fp8_floor_s: float
    """Over an fp8 cache: fewer bytes, each dearer."""
    prefill: float
    prefill_half_tokens: float


@dataclass(frozen=True, slots=True)
class Tables:
    """Efficiency of one device with the tier it was found at."""

    gemm: dict[str, tuple[tuple[float, float], ...]]
    """Format to points of (log m, share of the roofline)."""
    product_floor_s: float
    """What a bf16 product takes beyond its roofline: launch, fill and drain."""
    attention: AttentionEfficiency
    basis: Basis


@lru_cache(maxsize=64)
def efficiency_tables(hardware_id: str, arch: str) -> Tables:
    """Published efficiency of the very device, else of its architecture, else the median of all."""
    rows, attention = table("gemm_efficiency.csv"), table("attention_efficiency.csv")
    for basis, key, wanted in ((Basis.CATALOGUE, "hardware", hardware_id), (Basis.ARCHITECTURE, "arch", arch.split()[0])):
        own = [row for row in rows if row[key] == wanted]
        if own:
            formats = _curves(rows) | _curves(own)
            same = [row for row in attention if row[key] == wanted] or [row for row in attention if row["arch"] == arch.split()[0]]
            return Tables(formats, _floor_s(own), _attention(same or attention), basis)
    return Tables(_curves(rows), _floor_s(rows), _attention(attention), Basis.DATASHEET)


class CatalogueMachine:
    """Prices operators as roofline over efficiency, plus a floor per kernel."""

    def __init__(self, hardware: Hardware, overheads: Overheads) -> None:
        self.hardware = hardware
        self.overheads = overheads
        self._tables = efficiency_tables(hardware.id, hardware.arch)
        self._peaks: dict[str, float] = {}
        self._bandwidth = hardware.memory_bandwidth_bytes_per_s
        self._memo: dict[Gemm, float] = {}

    @property
    def basis(self) -> Basis:
        """The tier that the efficiency was found at."""
        return self._tables.basis

    @property
    def working_memory_bytes(self) -> int:
        """Usable memory of one device."""
        return self.hardware.memory_bytes

    def gemm_s(self, gemm: Gemm, working_set_bytes: float) -> float:
        """Roofline of the product over the efficiency for its format and rows."""
        known = self._memo.get(gemm)
        if known is None:
            roof = max(2.0 * gemm.m * gemm.n * gemm.k * gemm.groups / self._peak(gemm.format), gemm_bytes(gemm) / self._bandwidth)
            known = self._memo[gemm] = roof / self._efficiency(gemm.format, gemm.m) + self._tables.product_floor_s
        return known

    def attention_s(self, call: AttentionCall) -> float:
        """Decoding is bound by the cache's bytes, prefilling by products at an efficiency that grows with the chunk."""
        known, hardware = self._tables.attention, self.hardware
        fused = 1.0 if call.implementation == "sdpa" else SCALAR_SHARE
        narrow = call.kv_format == "fp8"
        rate = known.decode_fp8 if narrow else known.decode
        reads = attention_bytes(call) / (rate * hardware.memory_bandwidth_bytes_per_s)
        share = known.prefill * call.q_tokens / (call.q_tokens + known.prefill_half_tokens)
        products = attention_flops(call) / (share * self._peak("bf16")) if call.phase == "prefill" else 0.0
        return (known.decode_fp8_floor_s if narrow else known.decode_floor_s) + max(reads, products) / fused

    def traffic_s(self, traffic: Traffic) -> float:
        """Bytes over bandwidth, or operations over the scalar peak."""
        moved = traffic.moved_bytes / (STREAM_EFFICIENCY * self.hardware.memory_bandwidth_bytes_per_s)
        return max(moved, traffic.flops / self._peak("fp32")) + KERNEL_FLOOR_S

    def all_reduce_s(self, reduce: AllReduce) -> float:
        """Ring all-reduce; NVLink reaches 0.76 of its rate, PCIe 0.58 and less the more devices share it.

        Constants read off the collectives of the aiconfigurator kernel database: 5 us on NVLink at any count, 3 us a
        device over PCIe.
        """
        moved = 2.0 * reduce.payload_bytes * (reduce.ranks - 1) / reduce.ranks
        if self.hardware.link_bytes_per_s:
            return 5e-6 + moved / (0.76 * self.hardware.link_bytes_per_s)
        rate = (self.hardware.pcie_bytes_per_s or 16e9) * 0.58 * math.pow(2 / reduce.ranks, 0.7)
        return 3e-6 * reduce.ranks + moved / rate

    def exchange_s(self, exchange: Exchange) -> float:
        """All-to-all: each device sends its tokens once per expert they go to; 10 us to set up on NVLink (aiconfigurator's all-gathers)."""
        rate = self.hardware.link_bytes_per_s or (self.hardware.pcie_bytes_per_s or 16e9) * 0.58
        return 1e-5 + exchange.payload_bytes / (0.76 * rate)

    def _peak(self, format: str) -> float:
        if format not in self._peaks:
            self._peaks[format] = _peak(self.hardware, format)
        return self._peaks[format]

    def _efficiency(self, format: str, m: int) -> float:
        curve = self._tables.gemm[_curve_name(format)]
        return interpolate(curve, math.log(m))


def roofline_s(hardware: Hardware, gemm: Gemm) -> float:
    """The least that one product can take: its operations at peak, or its bytes at full bandwidth."""
    flops = 2.0 * gemm.m * gemm.n * gemm.k * gemm.groups
    return max(flops / _peak(hardware, gemm.format), gemm_bytes(gemm) / hardware.memory_bandwidth_bytes_per_s)


def _peak(hardware: Hardware, format: str) -> float:
    """Operations per second. llama.cpp adds up in fp16: at half of the int8 rate, twice that of fp32 sums on GeForce cards."""
    if format == "fp32":
        return hardware.peak("fp32")
    compute = weight_format(format).compute
    return max(hardware.peak(compute), hardware.peak_flops.get("int8", 0.0) / 2 if format.startswith("gguf-") else 0.0)


def interpolate(points: tuple[tuple[float, float], ...], x: float) -> float:
    """Linear between sorted points, held at the edges."""
    i = bisect_left(points, (x,))
    if i == 0:
        return points[0][1]
    if i == len(points):
        return points[-1][1]
    (x0, y0), (x1, y1) = points[i - 1], points[i]
    return y0 + (y1 - y0) * (x - x0) / (x1 - x0)


def _curve_name(format: str) -> str:
    """The measured format that stands for `format`: families share their kernels' efficiency."""
    if format in ("bf16", "fp16", "fp32"):
        return "bf16"
    if format in ("fp8", "int8", "int8-w8a8", "nvfp4"):
        return format
    if format == "gguf-q8_0":
        return "int8"
    return "int4"


def _curves(rows: list[dict[str, str]]) -> dict[str, tuple[tuple[float, float], ...]]:
    values: dict[str, dict[float, list[float]]] = {}
    for row in rows:
        values.setdefault(row["format"], {}).setdefault(math.log(float(row["m"])), []).append(float(row["efficiency"]))
    return {format: tuple(sorted((m, median(found)) for m, found in curve.items())) for format, curve in values.items()}


def _floor_s(rows: list[dict[str, str]]) -> float:
    return float(median(float(row["floor_us"]) for row in rows if row["format"] == "bf16")) * 1e-6


def _attention(rows: list[dict[str, str]]) -> AttentionEfficiency:
    def middle(column: str) -> float:
        return float(median(float(row[column]) for row in rows))

    return AttentionEfficiency(
        decode=middle("decode_efficiency"),
        decode_floor_s=middle("decode_floor_us") * 1e-6,
        decode_fp8=middle("decode_efficiency_fp8"),
        decode_fp8_floor_s=middle("decode_floor_us_fp8") * 1e-6,
        prefill=middle("prefill_efficiency"),
        prefill_half_tokens=middle("prefill_half_tokens"),
    )
