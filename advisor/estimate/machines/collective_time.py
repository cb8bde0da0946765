"""Seconds of collectives between devices, interpolated on measured curves.

On links of another rate, a payload takes the time of the payload that occupies the measured links as long.
"""

import math
from bisect import bisect_left
from dataclasses import dataclass

from advisor.estimate.machines.nearest_rows import Rows
from advisor.profiles.evidence import table
from advisor.profiles.hardware import Hardware

NETWORK_BYTES_PER_S = 50e9
"""Between servers, per device and direction: 400 Gb/s adapters (NVIDIA's DGX H100 user guide)."""
NETWORK_S = 20e-6
"""Least time of a collective between servers: two passes of about 10 us."""
SMALLEST_LINK_BYTES_PER_S = 16e9
"""Link rate of a device whose data sheet states none: PCIe 3.0 x16."""
RACK_SCALE = {"gb200": 72, "gb300": 72}
"""Devices in one NVLink domain, where that is more than the eight of a server."""


@dataclass(frozen=True, slots=True)
class Curve:
    """Time of one collective over `ranks` devices by the bytes that each contributes, and the rate of the measured links."""

    ranks: int
    link_bytes_per_s: float
    points: tuple[tuple[float, float], ...]
    """Natural logarithms of bytes and of seconds."""

    def seconds(self, payload_bytes: float, link_bytes_per_s: float) -> float:
        """Seconds at a payload, interpolated in logarithms; constant below the curve, at constant rate above it."""
        x, points = math.log(max(payload_bytes * self.link_bytes_per_s / link_bytes_per_s, 1.0)), self.points
        i = bisect_left(points, (x,))
        if i == 0:
            return math.exp(points[0][1])
        if i == len(points):
            return math.exp(points[-1][1] + x - points[-1][0])
        (x0, y0), (x1, y1) = points[i - 1], points[i]
        return math.exp(y0 + (y1 - y0) * (x - x0) / (x1 - x0))


class Fabric:
    """Prices collectives between devices of one kind."""

    def __init__(self, hardware: Hardware) -> None:
        self.domain = RACK_SCALE.get(hardware.id, 8)
        self.link_bytes_per_s = link_rate(hardware)
        self._all_reduce = measured_curves(hardware, "all_reduce")
        self._exchange = measured_curves(hardware, "alltoall")

    def all_reduce_s(self, payload_bytes: float, ranks: int) -> float:
        """Seconds of an all-reduce; across NVLink domains every device also sends and receives its share over the network."""
        return self._inside(self._all_reduce, payload_bytes, ranks) + self._across(2.0 * payload_bytes / self.domain, ranks)

    def exchange_s(self, payload_bytes: float, ranks: int) -> float:
        """Seconds of an all-to-all in which every device sends `payload_bytes` to the others."""
        return self._inside(self._exchange, payload_bytes * ranks / max(ranks - 1, 1), ranks) + self._across(payload_bytes, ranks)

    def _inside(self, curves: tuple[Curve, ...], payload_bytes: float, ranks: int) -> float:
        return collective_s(curves, self.link_bytes_per_s, payload_bytes, min(ranks, self.domain))

    def _across(self, payload_bytes: float, ranks: int) -> float:
        if ranks <= self.domain:
            return 0.0
        servers = math.ceil(ranks / self.domain)
        return NETWORK_S + payload_bytes * (servers - 1) / servers / NETWORK_BYTES_PER_S


def collective_s(curves: tuple[Curve, ...], link_bytes_per_s: float, payload_bytes: float, ranks: int) -> float:
    """Seconds of a collective over `ranks` devices, interpolated in logarithms between curves, which are in the order of their ranks.

    Above the most ranks measured, the ratio of the last two curves is applied at most once more; below the fewest, time is constant.
    """
    times = [curve.seconds(payload_bytes, link_bytes_per_s) for curve in curves]
    if ranks <= curves[0].ranks:
        return times[0]
    i = next((i for i in range(1, len(curves)) if curves[i].ranks >= ranks), len(curves) - 1)
    share = math.log(ranks / curves[i - 1].ranks) / math.log(curves[i].ranks / curves[i - 1].ranks)
    return times[i - 1] * math.pow(times[i] / times[i - 1], min(share, 2.0))


def measured_curves(hardware: Hardware, kind: str, rows: Rows | None = None) -> tuple[Curve, ...]:
    """Curves of the device itself, else of the measured device with the most similar link of the same kind; fewest ranks first."""
    rows = table("collectives.csv") if rows is None else rows
    link = "nvlink" if hardware.link_bytes_per_s else "pcie"
    same_link = [row for row in rows if row["collective"] == kind and row["link"] == link]
    own = [row for row in same_link if row["hardware"] == hardware.id]
    rate = link_rate(hardware)
    distance = {row["hardware"]: abs(math.log(float(row["link_gbytes_per_s"]) * 1e9 / rate)) for row in same_link}
    closest = own or [row for row in same_link if row["hardware"] == min(distance, key=distance.__getitem__)]
    return tuple(sorted((_curve(row) for row in closest), key=lambda curve: curve.ranks))


def link_rate(hardware: Hardware) -> float:
    """Bytes per second of the link that collectives use: NVLink or its like, else PCIe."""
    return hardware.link_bytes_per_s or hardware.pcie_bytes_per_s or SMALLEST_LINK_BYTES_PER_S


def _curve(row: dict[str, str]) -> Curve:
    points = tuple((math.log(float(name[2:])), math.log(float(us) * 1e-6)) for name, us in row.items() if name.startswith("us") and us)
    return Curve(int(row["ranks"]), float(row["link_gbytes_per_s"]) * 1e9, tuple(sorted(points)))
