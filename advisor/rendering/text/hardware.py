"""Accelerators as text: one with all its figures, or many as a table."""

from collections.abc import Sequence

from advisor.profiles.formats import GIB
from advisor.profiles.hardware import Hardware
from advisor.quantities.formatting import ABSENT, number, quantity
from advisor.rendering.text.style import Look, wrap
from advisor.rendering.text.table import Column, Group, table


def hardware_text(hardware: Hardware, *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """Every figure of one device, and the source of each."""
    look = Look(width, colour, ascii)
    lines = [look.paint(line, "title") for line in wrap(f"{hardware.id}: {hardware.name}", look)]
    for name, text in _facts(hardware).items():
        lines += wrap(text, look, first=f"{name:<14}")
    lines += ["", *_peaks(hardware, look), "", look.paint("Sources", "title")]
    for source, figures in _by_source(hardware).items():
        lines += wrap(f"{', '.join(figures)}: {source}", look, first="  ", rest="    ")
    if hardware.notes:
        lines += ["", *wrap(hardware.notes, look)]
    return look.finish(lines)


def hardware_table_text(devices: Sequence[Hardware], *, width: int = 80, colour: bool = False, ascii: bool = False) -> str:
    """One row per device: memory, bandwidth and the peaks that matter."""
    look = Look(width, colour, ascii)
    if not devices:
        return look.finish(["No hardware is known."])
    key = Column("id", tuple(device.id for device in devices), left=True)
    memory = Column("memory", tuple(quantity(device.memory_bytes / GIB, "GiB") for device in devices))
    bandwidth = Column("bandwidth", tuple(quantity(device.memory_bandwidth_bytes_per_s, "B/s") for device in devices))
    peaks = tuple(Column(compute, tuple(_tera(device, compute) for device in devices)) for compute in ("bf16", "fp8", "int8"))
    names = Column("name", tuple(device.name for device in devices), left=True)
    groups = (Group((memory,)), Group((bandwidth,)), Group(peaks, "dense TFLOP/s"), Group((names,)))
    return look.finish(table(key, groups, look))


def _facts(hardware: Hardware) -> dict[str, str]:
    optional = {
        "link": hardware.link_bytes_per_s,
        "host link": hardware.pcie_bytes_per_s,
    }
    counts = {
        "CUDA arch": hardware.compute_capability,
        "power": f"{hardware.tdp_w:g} W" if hardware.tdp_w else None,
        "SMs": str(hardware.sm_count) if hardware.sm_count else None,
        "cores": str(hardware.cores) if hardware.cores else None,
        "instructions": ", ".join(hardware.instruction_sets) or None,
        "L2 cache": quantity(hardware.l2_bytes / GIB, "GiB") if hardware.l2_bytes else None,
        "L3 cache": quantity(hardware.l3_bytes / GIB, "GiB") if hardware.l3_bytes else None,
    }
    return {
        "kind": f"{hardware.kind}, {hardware.vendor} {hardware.arch}",
        "memory": f"{quantity(hardware.memory_bytes / GIB, 'GiB')} at {quantity(hardware.memory_bandwidth_bytes_per_s, 'B/s')}",
        **{name: f"{quantity(rate, 'B/s')} one direction" for name, rate in optional.items() if rate},
        **{name: text for name, text in counts.items() if text},
    }


def _peaks(hardware: Hardware, look: Look) -> list[str]:
    if not hardware.peak_flops:
        return ["No peak rate is known."]
    key = Column("format", tuple(hardware.peak_flops), left=True)
    rates = tuple(quantity(rate, "FLOP/s") for rate in hardware.peak_flops.values())
    return table(key, [Group((Column("dense peak", rates),))], look)


def _tera(hardware: Hardware, compute: str) -> str:
    rate = hardware.peak_flops.get(compute)
    return number(rate / 1e12) if rate else ABSENT


def _by_source(hardware: Hardware) -> dict[str, list[str]]:
    figures: dict[str, list[str]] = {}
    for figure, source in hardware.sources.items():
        figures.setdefault(source, []).append(figure)
    return figures
