"""Fit the constants of products and attention to measured kernels, and write curves of collectives.

usage: python -m tools.fit_kernels FOLDER            writes profiles/evidence/{gemm_efficiency,attention_efficiency,collectives}.csv

FOLDER holds the samples that `kernel_samples.py` describes.
"""

import argparse
import math
from collections.abc import Callable, Sequence
from pathlib import Path

from advisor.estimate.machines import attention_time as attention
from advisor.estimate.machines import gemm_time as products
from advisor.estimate.machines.attention_time import AttentionConstants
from advisor.estimate.machines.collective_time import link_rate
from advisor.estimate.machines.gemm_time import ProductConstants, product_work
from advisor.estimate.machines.nearest_rows import device_class, log_median
from advisor.estimate.operators.types import AttentionCall
from advisor.profiles.evidence import FOLDER
from advisor.profiles.files import write_csv
from advisor.profiles.hardware import Hardware
from tools.kernel_samples import (
    RECORDED,
    SOURCE,
    CallSamples,
    CollectiveSamples,
    GemmSamples,
    cold_calls,
    cold_products,
    device,
    read_attention,
    read_collectives,
    read_products,
)

Rows = list[dict[str, str]]
Start = dict[str, tuple[float, float]]
"""Constant to its first guess and its largest value."""

PRODUCT_START: Start = {
    "launch_us": (4.0, 50.0),
    "pass_ns": (0.7, 50.0),
    "read_few": (0.8, 1.0),
    "read_many": (0.8, 1.0),
    "unpack_rows": (20.0, 2000.0),
    "product": (0.8, 1.0),
    "sharpness": (2.6, 20.0),
}
DECODE_START: Start = {
    "decode_launch_us": (10.0, 50.0),
    "decode_unit_us": (1.0, 20.0),
    "decode_doubling_us": (0.6, 20.0),
    "decode_read": (0.85, 1.0),
}
PREFILL_START: Start = {
    "prefill_launch_us": (10.0, 50.0),
    "prefill_product": (0.65, 1.0),
    "prefill_idle": (0.3, 20.0),
    "prefill_passes": (2.0, 20.0),
}
READ = {"read_few": 0.81, "read_many": 0.81}
PAPER = (
    "81 % of the bandwidth: Ambati et al., AMD MI300X GPU Performance Analysis, arXiv 2510.27583; "
    "about 45 % of the peak: summary at aiweekly.co"
)
UNMEASURED: dict[tuple[str, str], tuple[dict[str, float], str]] = {
    ("mi300x", "bf16"): (READ | {"product": 0.45}, PAPER),
    ("mi300x", "fp8"): (
        READ | {"product": 0.2, "pass_ns": 1.1},
        "bandwidth: Ambati et al., arXiv 2510.27583; products: fitted on 40 rows of vLLM 0.9.1 (ROCm/vllm docs/dev-docker/README.md)",
    ),
}
"""Published figures of devices without published kernel measurements, and their source."""
TOLERANCE = 0.02
"""Logarithmic errors below this count less than proportionally: the repeatability of a kernel's time."""
SIZES = tuple(1 << power for power in range(8, 31))
"""Bytes at which collective times are stored; the sample has every power of two."""


def main(folder: Path) -> None:
    """Read, fit, write."""
    calls = read_attention(folder, "decode"), read_attention(folder, "prefill")
    fitted = fit_products(read_products(folder))
    _write("gemm_efficiency.csv", sorted(fitted + published_rows(fitted), key=lambda row: (row["hardware"], row["format"])))
    _write("attention_efficiency.csv", fit_attention(*calls))
    _write("collectives.csv", collective_rows(read_collectives(folder), SIZES))


def fit_products(samples: GemmSamples) -> Rows:
    """A row of constants for every device and format."""
    rows: Rows = []
    for key, shapes in sorted(samples.items()):
        hardware = device(key)
        cold = cold_products(hardware, shapes)
        points = [(product_work(hardware, gemm), seconds) for gemm, seconds in cold.items()]
        loss = lambda values: _loss([(ProductConstants(**values).seconds(work), s) for work, s in points])  # noqa: B023, E731
        constants = descend(PRODUCT_START, loss)
        rows.append(_row(hardware, "format", key[1], constants, len(cold)))
    return rows


def published_rows(rows: Rows) -> Rows:
    """Rows of devices without published kernel measurements; missing constants are the median over devices of the same class and format."""
    assumed: Rows = []
    for key, (figures, source) in UNMEASURED.items():
        hardware = device(key)
        same_class = [row for row in rows if row["build"] == device_class(hardware) and row["format"] == key[1]]
        constants = {name: log_median(same_class, name) for name in products.CONSTANTS} | figures
        assumed.append(_row(hardware, "format", key[1], constants, 0) | {"source": source})
    return assumed


def fit_attention(decode: CallSamples, prefill: CallSamples) -> Rows:
    """A row of constants for every device and cache format."""
    return [
        _row(device(key), "kv", key[1], fit_calls(device(key), decode[key], prefill[key]), len(decode[key]) + len(prefill[key]))
        for key in sorted(decode)
    ]


def fit_calls(hardware: Hardware, decode: dict[AttentionCall, float], prefill: dict[AttentionCall, float]) -> dict[str, float]:
    """Both phases: prefilling first, as decoding is held to no more than its share of the products."""
    idle = {name: first for name, (first, _) in (DECODE_START | PREFILL_START).items()}

    def fit(start: Start, seconds: Callable[[AttentionConstants, AttentionCall], float], calls: dict[AttentionCall, float]) -> None:
        loss = lambda constants: _loss([(seconds(AttentionConstants(**idle | constants), call), s) for call, s in calls.items()])  # noqa: E731
        idle.update(descend(start, loss))

    fit(PREFILL_START, lambda constants, call: constants.prefill_s(hardware, call), prefill)
    fit(DECODE_START, lambda constants, call: constants.decode_s(hardware, call), cold_calls(hardware, decode))
    return idle


def collective_rows(samples: CollectiveSamples, sizes: Sequence[int]) -> Rows:
    """A curve for every device, collective and count of devices."""
    rows: Rows = []
    for (id, kind), times_s in sorted(samples.items()):
        hardware = device((id, kind))
        link = "nvlink" if hardware.link_bytes_per_s else "pcie"
        for ranks in sorted({ranks for ranks, _ in times_s}):
            head = {"hardware": id, "link": link, "link_gbytes_per_s": f"{link_rate(hardware) / 1e9:.4g}", "collective": kind}
            times = {f"us{size}": f"{times_s[ranks, size] * 1e6:.1f}" if (ranks, size) in times_s else "" for size in sizes}
            rows.append(head | {"ranks": str(ranks)} | times | {"source": SOURCE})
    return rows


def descend(start: Start, loss: Callable[[dict[str, float]], float]) -> dict[str, float]:
    """Minimise over one constant after another, each on a logarithmic scale with a step that adapts."""
    constants = {name: first for name, (first, _) in start.items()}
    steps, best = dict.fromkeys(start, 0.3), loss(constants)
    while max(steps.values()) > 2e-3:
        for name, (_, most) in start.items():
            for direction in (1, -1):
                tried = constants | {name: max(min(constants[name] * math.exp(direction * steps[name]), most), 1e-4)}
                error = loss(tried)
                if error < best - 1e-7:
                    constants, best = tried, error
                    steps[name] *= 1.6
                    break
            else:
                steps[name] *= 0.5
    return constants


def _loss(pairs: list[tuple[float, float]]) -> float:
    return sum(math.hypot(math.log(predicted / measured), TOLERANCE) for predicted, measured in pairs) / len(pairs)


def _row(hardware: Hardware, label: str, value: str, constants: dict[str, float], kernels: int) -> dict[str, str]:
    labels = {"arch": hardware.arch.split()[0], "capability": hardware.compute_capability or "", "build": device_class(hardware)}
    head = {"hardware": hardware.id} | labels | {label: value}
    names = products.CONSTANTS if label == "format" else attention.CONSTANTS
    return (
        head | {name: f"{constants[name]:.4g}" for name in names} | {"kernels": str(kernels), "source": RECORDED.get(hardware.id, SOURCE)}
    )


def _write(name: str, rows: Rows) -> None:
    columns = list(rows[0])
    write_csv(FOLDER / name, columns, ([row[column] for column in columns] for row in rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Fit the constants of products and attention to measured kernels, and write curves.")
    parser.add_argument("folder", type=Path, metavar="FOLDER", help="the samples that kernel_samples.py describes")
    arguments = parser.parse_args()
    main(arguments.folder)
