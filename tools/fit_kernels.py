"""Fit the efficiency of matrix products from measured kernel latencies; writes profiles/evidence/gemm_efficiency.csv.

usage: python tools/fit_kernels.py GEMM_SAMPLE.CSV OUT.CSV

The sample is aiconfigurator's kernel database (Apache-2.0): system, framework, version, gemm_dtype, m, n, k, latency in ms. For
each device and format the fastest kernel of every shape counts, as engines choose. A latency is a constant (launch, and in
some formats the quantisation of activations) plus the roofline over an efficiency that depends on m.
"""

import csv
import math
import sys
from pathlib import Path
from statistics import fmean, median

from advisor.estimate.catalogue import roofline_s
from advisor.estimate.operators import Gemm
from advisor.profiles.hardware import Hardware, load_hardware

DEVICES = {
    "a100_sxm": "a100-sxm-80g",
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "l40s": "l40s",
    "b200_sxm": "b200-sxm",
    "rtx_pro_6000_server": "rtx-pro-6000-blackwell",
    "b60": "arc-pro-b60",
}
FORMATS = {"bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8", "int8_wo": "int8", "int4_wo": "int4", "sq": "int8-w8a8", "nvfp4": "nvfp4"}
EDGES = (1, 4, 16, 48, 96, 192, 384, 768, 1536, 4096, 1 << 20)
SMALLEST = 16_000_000
"""Weights below which a product is all launch, or lives in the L2 cache."""
FLOORS_US = [0.5 * step for step in range(41)]

Point = tuple[int, float, float]
"""m, roofline and latency, seconds."""


def main(sample: Path, out: Path) -> None:
    """Read, fit, write."""
    rows = [row for key, shapes in sorted(_fastest(sample).items()) for row in _fit(*key, shapes)]
    with out.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("hardware", "arch", "format", "m", "efficiency", "floor_us", "source"))
        writer.writerows(rows)


def _fastest(sample: Path) -> dict[tuple[str, str], dict[tuple[int, int, int], float]]:
    found: dict[tuple[str, str], dict[tuple[int, int, int], float]] = {}
    with sample.open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            device, format = DEVICES.get(row["system"]), FORMATS.get(row["gemm_dtype"])
            m, n, k = (int(float(row[name])) for name in "mnk")
            if device and format and n * k >= SMALLEST:
                shapes = found.setdefault((device, format), {})
                shapes[m, n, k] = min(float(row["latency"]) * 1e-3, shapes.get((m, n, k), math.inf))
    return found


def _fit(device: str, format: str, shapes: dict[tuple[int, int, int], float]) -> list[tuple[object, ...]]:
    hardware = load_hardware(device)
    points = [(m, _roof(hardware, format, m, n, k), seconds) for (m, n, k), seconds in shapes.items()]
    floor_us = min(FLOORS_US, key=lambda floor: _error(points, floor * 1e-6))
    curve = _without_gaps(_curve(points, floor_us * 1e-6))
    source = "aiconfigurator kernel database (Apache-2.0), fastest kernel of each shape, n*k >= 16M"
    return [(device, hardware.arch.split()[0], format, m, f"{efficiency:.3f}", floor_us, source) for m, efficiency in curve.items()]


def _roof(hardware: Hardware, format: str, m: int, n: int, k: int) -> float:
    return roofline_s(hardware, Gemm(m, n, k, format, 1))


def _curve(points: list[Point], floor_s: float) -> dict[int, float]:
    bins: dict[int, list[Point]] = {}
    for point in points:
        bins.setdefault(next(edge for edge in EDGES if point[0] <= edge), []).append(point)
    return {
        round(math.exp(fmean(math.log(m) for m, _, _ in bins[edge]))): median(
            roof / max(seconds - floor_s, 0.1 * seconds) for _, roof, seconds in bins[edge]
        )
        for edge in sorted(bins)
    }


def _without_gaps(curve: dict[int, float]) -> dict[int, float]:
    """Drop the smallest m where no kernel was made for it: engines have one (CUTLASS fp8 on B200 takes twice as long for one row)."""
    first, second = sorted(curve)[:2]
    return {m: efficiency for m, efficiency in curve.items() if m != first or efficiency > 0.6 * curve[second]}


def _error(points: list[Point], floor_s: float) -> float:
    curve = _curve(points, floor_s)
    if max(curve.values()) > 1:
        return math.inf
    known = sorted(curve)
    return fmean(
        abs(math.log((floor_s + roof / curve[min(known, key=lambda other: abs(math.log(other / m)))]) / seconds))
        for m, roof, seconds in points
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
