"""Reads the committed benchmark results, a device at a time, for docs/performance.md and its targets."""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from statistics import median

from benchmarks.harness.parts import PARTS
from benchmarks.harness.record import Environment, Record, Results
from benchmarks.harness.store import read_results


@dataclass(frozen=True, slots=True)
class Device:
    """Everything measured on one device."""

    folder: str
    parts: dict[str, Results]

    @property
    def is_gpu(self) -> bool:
        """Whether it was measured on a GPU."""
        return any(environment.fingerprint.startswith("gpu:") for environment in self.environments)

    @property
    def environments(self) -> tuple[Environment, ...]:
        """Every environment that a record names, the newest last."""
        devices = {environment.id: environment for results in self.parts.values() for environment in results.environments}
        return tuple(sorted(devices.values(), key=lambda environment: environment.started))

    @property
    def name(self) -> str:
        """Of the device."""
        return self.environments[-1].device

    def records(self, part: str, pattern: str = "*") -> Iterator[Record]:
        """The finished records whose case matches."""
        results = self.parts.get(part)
        for record in results.records if results else ():
            if record.status == "done" and fnmatch(record.case, pattern):
                yield record

    def unfinished(self) -> Iterator[tuple[str, Record]]:
        """Records without a figure, and their parts."""
        for part, results in self.parts.items():
            yield from ((part, record) for record in results.records if record.status != "done")

    def ceiling(self, name: str) -> float | None:
        """Bytes per second of `copy` or `read`, operations per second of a product; `None` where it was not measured."""
        record = next(self.records("ceilings", name), None)
        if record is None:
            return None
        return record.rate(record.timings[0].name, "flops" if name.startswith("product") else "bytes")


def read_devices(root: Path) -> tuple[Device, ...]:
    """Every device that has results, GPUs first. Trials of the flow do not count, nor do records of a commit with uncommitted changes."""
    devices = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
        parts = {part: _clean(read_results(folder / f"{part}.json")) for part in PARTS if (folder / f"{part}.json").exists()}
        device = Device(folder.name, parts)
        if any(results.records for results in parts.values()) and not any(environment.dry for environment in device.environments):
            devices.append(device)
    return tuple(sorted(devices, key=lambda device: not device.is_gpu))


def _clean(results: Results) -> Results:
    """The records that were taken at a commit without uncommitted changes, with their environments."""
    environments = tuple(environment for environment in results.environments if not (environment.commit or "").endswith("-dirty"))
    clean = {environment.id for environment in environments}
    records = tuple(record for record in results.records if record.environment in clean)
    return results.model_copy(update={"environments": environments, "records": records})


def share(record: Record, candidate: str, device: Device, ceiling: str = "copy") -> float | None:
    """The candidate's rate by the device's ceiling."""
    rate, most = record.rate(candidate, "flops" if ceiling.startswith("product") else "bytes"), device.ceiling(ceiling)
    return rate / most if rate and most else None


def ratio(record: Record, slower: str, faster: str) -> float | None:
    """How many times as long `slower` takes, by medians of the same run."""
    over, under = record.median_s(slower), record.median_s(faster)
    return over / under if over and under else None


def percentile(seconds: tuple[float, ...], percent: int) -> float:
    """The sample that `percent` of 100 do not exceed.

    >>> percentile((3.0, 1.0, 2.0, 4.0), 50), percentile((3.0, 1.0, 2.0, 4.0), 100)
    (2.0, 4.0)
    """
    return sorted(seconds)[max(math.ceil(percent / 100 * len(seconds)) - 1, 0)]


def spread_pct(seconds: tuple[float, ...]) -> float:
    """Half of the middle four fifths of the samples, by their median, percent."""
    ordered = sorted(seconds)
    low, high = (ordered[round(part * (len(ordered) - 1))] for part in (0.1, 0.9))
    return 50 * (high - low) / median(ordered)
