"""Which measured rows stand for a device: its own, else those of its architecture, else those of devices built like it."""

from collections.abc import Sequence
from math import exp, log
from statistics import median

from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Basis

Rows = Sequence[dict[str, str]]

SERVER_LINK_BYTES_PER_S = 100e9
"""Accelerators with links from here on have stacked memory and kernels of their own; the others are cards (FlashAttention 2)."""
HALVED = 3.0
"""Ratio of the int8 peak to the bf16 one from which sums in fp32 run at half rate: it is 4 then, else 2."""


def nearest_rows(rows: Rows, hardware: Hardware) -> tuple[Rows, Basis]:
    """Rows of the device, of its compute capability, of its architecture and build, or of its build, with the tier.

    A row names its `hardware`, `arch`, `capability` and `build`. The maker gives one name to chips that run different kernels:
    Blackwell's B200 and GeForce, Ampere's A100 and GeForce. Game cards run the kernels of other cards, at other shares of the peak:
    among equals they borrow from game cards, and the others from the others. A row of no kernels holds published shares.
    """
    own = [row for row in rows if row["hardware"] == hardware.id]
    if own:
        return own, Basis.ARCHITECTURE if all(row.get("kernels") == "0" for row in own) else Basis.CATALOGUE
    mates = [row for row in rows if (row["build"] == "server") == (device_class(hardware) == "server")]
    kin = [row for row in mates if row["arch"] == hardware.arch.split()[0]]
    alike = [row for row in kin if row["capability"] == (hardware.compute_capability or "")]
    found = alike or kin or mates or rows
    return [row for row in found if row["build"] == device_class(hardware)] or found, Basis.ARCHITECTURE if kin else Basis.DATASHEET


def device_class(hardware: Hardware) -> str:
    """`server`, `card`, or `game` for a card whose tensor units add up in fp32 at half of their rate, at 4 int8 operations for one."""
    if (hardware.link_bytes_per_s or 0.0) >= SERVER_LINK_BYTES_PER_S:
        return "server"
    halved = hardware.peak_flops.get("int8", 0.0) >= HALVED * hardware.peak("bf16")
    return "game" if halved else "card"


def log_median(rows: Rows, column: str) -> float:
    """Median of a column of logarithms: of two rows the geometric mean."""
    return exp(median(log(max(float(row[column]), 1e-9)) for row in rows))
