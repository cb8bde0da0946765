"""Choose the measured rows for a device: its own, else those of its architecture, else those of devices of its class."""

from collections.abc import Sequence
from enum import StrEnum
from math import exp, log
from statistics import median

from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Basis

Rows = Sequence[dict[str, str]]

SERVER_LINK_BYTES_PER_S = 100e9
"""Link rate from which a device counts as a server accelerator, with stacked memory and kernels of its own; others are cards."""
HALF_RATE_RATIO = 3.0
"""Ratio of int8 to bf16 peak from which fp32 accumulation runs at half rate: the ratio is 4 on such cards, 2 on others."""


class DeviceClass(StrEnum):
    """Devices whose kernels are comparable; the column `build` of measured rows."""

    SERVER = "server"
    """An accelerator with stacked memory and fast links."""
    CARD = "card"
    """Any other device."""
    GAME = "game"
    """A card whose tensor cores accumulate in fp32 at half rate."""


def nearest_rows(rows: Rows, hardware: Hardware) -> tuple[Rows, Basis]:
    """The first of these that exist, with the tier: rows of the device, of its compute capability, of its architecture, of its class.

    A row has `hardware`, `arch`, `capability` and `build`, the device class; `kernels` is 0 where it holds published shares of the peak.
    Server accelerators and cards never share rows, as one architecture name covers chips that run different kernels (Ampere's A100 and
    GeForce). Game cards run the kernels of other cards at other shares of the peak: they use rows of game cards where there are any.
    """
    own = [row for row in rows if row["hardware"] == hardware.id]
    if own:
        return own, Basis.ARCHITECTURE if all(row.get("kernels") == "0" for row in own) else Basis.CATALOGUE
    same_class = [row for row in rows if (row["build"] == DeviceClass.SERVER) == (device_class(hardware) == DeviceClass.SERVER)]
    same_arch = [row for row in same_class if row["arch"] == hardware.arch.split()[0]]
    same_capability = [row for row in same_arch if row["capability"] == (hardware.compute_capability or "")]
    nearest = same_capability or same_arch or same_class or rows
    of_class = [row for row in nearest if row["build"] == device_class(hardware)]
    return of_class or nearest, Basis.ARCHITECTURE if same_arch else Basis.DATASHEET


def device_class(hardware: Hardware) -> DeviceClass:
    """The class of a device, from the rates of its data sheet."""
    if (hardware.link_bytes_per_s or 0.0) >= SERVER_LINK_BYTES_PER_S:
        return DeviceClass.SERVER
    if hardware.kind == "cpu":
        return DeviceClass.CARD
    halved = hardware.peak_flops.get("int8", 0.0) >= HALF_RATE_RATIO * hardware.peak("bf16")
    return DeviceClass.GAME if halved else DeviceClass.CARD


def log_median(rows: Rows, column: str) -> float:
    """Median of the logarithms of a column, as a number: of two rows the geometric mean."""
    return exp(median(log(max(float(row[column]), 1e-9)) for row in rows))
