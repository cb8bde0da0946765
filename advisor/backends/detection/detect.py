"""Detects this machine: GPUs with NVML and optionally torch, the host with the operating system; and converts it to `Hardware`."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from advisor.backends.detection.accelerator_names import match_accelerator_name
from advisor.backends.detection.gpus import DetectedGpu, DetectedTorch, nvml_gpus, torch_gpus, visible_gpus
from advisor.backends.detection.host import Host, host_root, read_host
from advisor.backends.detection.own_hardware import cpu_hardware, gpu_hardware
from advisor.profiles.formats import GIB
from advisor.profiles.hardware import Hardware, load_hardware


@dataclass(frozen=True, slots=True, kw_only=True)
class Detected:
    """The detected machine, without host name, serial numbers or UUIDs."""

    host: Host
    gpus: tuple[DetectedGpu, ...]
    torch: DetectedTorch | None
    notes: tuple[str, ...]
    """What could not be detected, and why."""

    @property
    def devices(self) -> int:
        """Number of GPUs with the first one's name, or 1 for a machine without GPU."""
        return sum(gpu.name == self.gpus[0].name for gpu in self.gpus) if self.gpus else 1


def detect(*, with_torch: bool = False, root: Path | None = None, nvml: Any = None, environ: Mapping[str, str] = os.environ) -> Detected:
    """Detect GPUs, processor and memory. A machine without a GPU is no error.

    `with_torch` imports torch (about a second) and adds what NVML does not report, such as AMD's GPUs. `root` is the folder with
    `proc`, `sys` and `dev`, by default `host_root(environ)`; `nvml` is a module such as pynvml.
    """
    root = root or host_root(environ)
    gpus, notes = nvml_gpus(root, nvml)
    gpus, hidden = visible_gpus(gpus, environ.get("CUDA_VISIBLE_DEVICES"))
    torch = None
    if with_torch:
        torch, more, more_notes = torch_gpus(skip_devices=bool(gpus) or hidden is not None)
        gpus += more
        notes += more_notes
    return Detected(host=read_host(root), gpus=tuple(gpu for gpu, _ in gpus), torch=torch, notes=(*notes, *([hidden] if hidden else [])))


def match_accelerator(gpu: DetectedGpu) -> str | None:
    """The id in the catalogue of a GPU with this name and memory size within 12 %; `None` where there is none.

    Laptop, Max-Q and cut-down versions differ in name, versions with less memory and MIG slices in memory size.
    """
    id = match_accelerator_name(gpu.name)
    if id is None or gpu.total_bytes is None:
        return id
    return id if abs(gpu.total_bytes / load_hardware(id).memory_bytes - 1) < 0.12 else None


def detected_hardware(detected: Detected) -> Hardware:
    """The first GPU, or without one the processor, as `Hardware`.

    A GPU in the catalogue has its data sheet with the memory size that the driver reports; another is computed from the driver's
    figures. Raises `AdvisorError` `hardware-unknown` where the driver or the system reports too little.
    """
    if not detected.gpus:
        return cpu_hardware(detected.host)
    gpu = detected.gpus[0]
    id = match_accelerator(gpu)
    if id is None:
        return gpu_hardware(gpu)
    sheet = load_hardware(id)
    if gpu.total_bytes is None:
        return sheet
    sources = {**sheet.sources, "memory_bytes": f"total that the driver reports on this machine ({gpu.via})"}
    return sheet.model_copy(update={"memory_bytes": gpu.total_bytes, "sources": sources})


def fingerprint(detected: Detected) -> str:
    """An identifier of this kind of machine that does not change between boots and contains no host name or serial number.

    Made of GPU, memory, count, compute capability and the driver's major version; without a GPU, of processor, usable cores, best
    instruction set and memory.
    """
    if detected.gpus:
        gpu = detected.gpus[0]
        memory = f"-{round(gpu.total_bytes / GIB)}g" if gpu.total_bytes else ""
        label = match_accelerator(gpu) or _slug(gpu.name)
        capability = f"/sm{gpu.compute_capability.replace('.', '')}" if gpu.compute_capability else ""
        driver = f"/drv{gpu.driver.split('.')[0]}" if gpu.driver else ""
        return f"gpu:{label}{memory}*{detected.devices}{capability}{driver}"
    cpu = detected.host.cpu
    instructions = next((name for name in _BEST_FIRST if name in cpu.instruction_sets), "basic").replace("_", "-")
    return f"cpu:{_slug(cpu.model)}*{cpu.usable_cores}/{instructions}/ram{_round_gib(detected.host.ram_total_bytes)}g"


_BEST_FIRST = ("amx_bf16", "avx512_bf16", "avx512_vnni", "avx512f", "avx_vnni", "avx2", "avx", "sve2", "sve", "i8mm", "neon")


def _slug(name: str) -> str:
    """A device's name in lower case with hyphens, without trademarks, clock and core count."""
    plain = re.sub(r"\((r|tm)\)|@.*$|\b\d+-core\b|\b(processor|cpu|with radeon graphics)\b", " ", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "unknown"


def _round_gib(total_bytes: int) -> int:
    """The nominal memory size in GiB: rounded up, since firmware and kernel reserve a part that changes between boots."""
    gib = total_bytes / GIB
    step = 1
    while step * 32 <= gib:
        step *= 2
    return -(-total_bytes // (step * GIB)) * step
