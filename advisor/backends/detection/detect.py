"""What this machine is: GPUs by NVML, optionally torch, and the host by the operating system; and how it reads as `Hardware`."""

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
    """This machine, without host name, serial numbers or UUIDs."""

    host: Host
    gpus: tuple[DetectedGpu, ...]
    torch: DetectedTorch | None
    notes: tuple[str, ...]
    """What could not be read, and why."""

    @property
    def devices(self) -> int:
        """How many devices alike stand here: the GPUs of the first one's name, or the one CPU."""
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
        torch, more, more_notes = torch_gpus(known=bool(gpus) or hidden is not None)
        gpus += more
        notes += more_notes
    return Detected(host=read_host(root), gpus=tuple(gpu for gpu, _ in gpus), torch=torch, notes=(*notes, *([hidden] if hidden else [])))


def match_accelerator(gpu: DetectedGpu) -> str | None:
    """The catalogue's id of a GPU, by its name and memory.

    A laptop, Max-Q or cut-down version has another name, and a version with less memory or a MIG slice another size, so that
    none passes for the full card.
    """
    id = match_accelerator_name(gpu.name)
    if id is None or gpu.total_bytes is None:
        return id
    return id if abs(gpu.total_bytes / load_hardware(id).memory_bytes - 1) < 0.12 else None


def detected_hardware(detected: Detected) -> Hardware:
    """The first GPU, or without one the processor, as `Hardware`.

    A GPU of the catalogue keeps its data sheet with the driver's memory total; another is computed from what the driver
    says. Raises `AdvisorError` `hardware-unknown` where too little is known.
    """
    if not detected.gpus:
        return cpu_hardware(detected.host)
    gpu = detected.gpus[0]
    id = match_accelerator(gpu)
    if id is None:
        return gpu_hardware(gpu)
    known = load_hardware(id)
    if gpu.total_bytes is None:
        return known
    sources = {**known.sources, "memory_bytes": f"total that the driver reports on this machine ({gpu.via})"}
    return known.model_copy(update={"memory_bytes": gpu.total_bytes, "sources": sources})


def fingerprint(detected: Detected) -> str:
    """A name for this kind of machine, the same after each boot: no host name, no serial number.

    GPU, memory and count, capability and the driver's major version; without a GPU the processor, usable cores, best
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
    """The telling words of a device's name: no marks, clock or core count."""
    plain = re.sub(r"\((r|tm)\)|@.*$|\b\d+-core\b|\b(processor|cpu|with radeon graphics)\b", " ", name.lower())
    return re.sub(r"[^a-z0-9]+", "-", plain).strip("-") or "unknown"


def _round_gib(total_bytes: int) -> int:
    """The size that memory was sold as: rounded up, since firmware and kernel keep a part that changes between boots."""
    gib = total_bytes / GIB
    step = 1
    while step * 32 <= gib:
        step *= 2
    return -(-total_bytes // (step * GIB)) * step
