"""Detects GPUs with NVML and, on request, with torch."""

import importlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedGpu:
    """A GPU that this process may use. A field is `None` where the driver does not report it."""

    index: int
    name: str
    via: str
    """The library that reported it: `nvml` or `torch`."""
    total_bytes: int | None
    free_bytes: int | None
    driver: str | None
    compute_capability: str | None
    utilisation_pct: int | None = None
    busy_pids: tuple[int, ...] = ()
    """Other processes with a compute context on it."""
    sm_count: int | None = None
    sm_hertz: float | None = None
    """Maximum clock of the multiprocessors."""
    memory_hertz: float | None = None
    memory_bus_bits: int | None = None
    tdp_w: float | None = None

    @property
    def busy(self) -> bool:
        """Whether other processes use the GPU, which disturbs timings."""
        return bool(self.busy_pids) or (self.utilisation_pct or 0) > 10


@dataclass(frozen=True, slots=True, kw_only=True)
class DetectedTorch:
    """Torch's version, the toolkits that it was built with, and its number of threads."""

    version: str
    cuda: str | None
    hip: str | None
    threads: int


GpuAndUuid = tuple[DetectedGpu, str]
"""A GPU and its UUID, which is only used to apply CUDA_VISIBLE_DEVICES."""


def nvml_gpus(root: Path, nvml: Any) -> tuple[list[GpuAndUuid], list[str]]:
    """NVIDIA's GPUs according to NVML, and a note where it is missing or fails.

    `root` is the folder with `proc` and `dev`; `nvml` is the module to use, `None` to import pynvml where a driver is installed.
    """
    if nvml is None:
        if not _may_have_nvidia(root):
            return [], ["no NVIDIA driver found"]
        nvml = importlib.import_module("pynvml")  # takes 0.1 s, so only where a driver is installed
    try:
        nvml.nvmlInit()
    except nvml.NVMLError as error:
        return [], [f"NVML: {error}"]
    try:
        driver = _ask(nvml, "nvmlSystemGetDriverVersion")
        count = _ask(nvml, "nvmlDeviceGetCount") or 0
        return [_gpu(nvml, index, _word(driver)) for index in range(count)], []
    except nvml.NVMLError as error:
        return [], [f"NVML: {error}"]
    finally:
        nvml.nvmlShutdown()


def _may_have_nvidia(root: Path) -> bool:
    """Whether an NVIDIA driver may be installed: by its device files on Linux and WSL (`dxg`); always on Windows, never on macOS."""
    if not (root / "proc").exists():
        return os.name == "nt"
    return any((root / "dev").glob("nvidia*")) or (root / "dev/dxg").exists()


def _gpu(nvml: Any, index: int, driver: str | None) -> GpuAndUuid:
    handle = nvml.nvmlDeviceGetHandleByIndex(index)
    memory = _ask(nvml, "nvmlDeviceGetMemoryInfo", handle)
    capability = _ask(nvml, "nvmlDeviceGetCudaComputeCapability", handle)
    utilisation = _ask(nvml, "nvmlDeviceGetUtilizationRates", handle)
    processes = _ask(nvml, "nvmlDeviceGetComputeRunningProcesses", handle) or []
    sm_mhz = _ask(nvml, "nvmlDeviceGetMaxClockInfo", handle, getattr(nvml, "NVML_CLOCK_SM", 1))
    memory_mhz = _ask(nvml, "nvmlDeviceGetMaxClockInfo", handle, getattr(nvml, "NVML_CLOCK_MEM", 2))
    power_mw = _ask(nvml, "nvmlDeviceGetPowerManagementDefaultLimit", handle)
    major_minor = tuple(capability) if capability else None
    gpu = DetectedGpu(
        index=index,
        name=_word(_ask(nvml, "nvmlDeviceGetName", handle)) or "unknown GPU",
        via="nvml",
        total_bytes=int(memory.total) if memory else None,
        free_bytes=int(memory.free) if memory else None,
        driver=driver,
        compute_capability=f"{major_minor[0]}.{major_minor[1]}" if major_minor else None,
        utilisation_pct=int(utilisation.gpu) if utilisation else None,
        busy_pids=tuple(sorted(process.pid for process in processes if process.pid != os.getpid())),
        sm_count=_sm_count(_ask(nvml, "nvmlDeviceGetNumGpuCores", handle), major_minor),
        sm_hertz=sm_mhz * 1e6 if sm_mhz else None,
        memory_hertz=memory_mhz * 1e6 if memory_mhz else None,
        memory_bus_bits=_ask(nvml, "nvmlDeviceGetMemoryBusWidth", handle),
        tdp_w=power_mw / 1e3 if power_mw else None,
    )
    return gpu, _word(_ask(nvml, "nvmlDeviceGetUUID", handle)) or ""


def _ask(nvml: Any, function: str, *arguments: Any) -> Any:
    """The result of an NVML function; `None` where the bindings, the driver or the GPU do not support it."""
    call = getattr(nvml, function, None)
    if call is None:
        return None
    try:
        return call(*arguments)
    except nvml.NVMLError:
        return None


def _word(answer: Any) -> str | None:
    """The string; older bindings return bytes."""
    return answer.decode() if isinstance(answer, bytes) else answer


def _sm_count(cores: int | None, capability: tuple[int, ...] | None) -> int | None:
    """Multiprocessors, from FP32 cores: 64 per multiprocessor at compute capability 7.x and 8.0, else 128 (CUDA C Programming Guide)."""
    if not cores or not capability:
        return None
    return cores // (64 if capability[0] == 7 or capability == (8, 0) else 128)


def visible_gpus(gpus: list[GpuAndUuid], visible: str | None) -> tuple[list[GpuAndUuid], str | None]:
    """The GPUs that `visible`, the value of CUDA_VISIBLE_DEVICES, selects, in its order, and a note if it hides any.

    Like CUDA, stops at the first invalid entry.
    """
    if visible is None or not gpus:
        return gpus, None
    chosen: list[GpuAndUuid] = []
    for word in (part.strip() for part in visible.split(",")):
        matches = [gpu for gpu in gpus if word == str(gpu[0].index) or (word.startswith("GPU-") and gpu[1].startswith(word))]
        if len(matches) != 1:
            break
        chosen += matches
    note = f"CUDA_VISIBLE_DEVICES={visible} leaves {len(chosen)} of {len(gpus)} GPUs"
    return chosen, note if len(chosen) < len(gpus) else None


def torch_gpus(*, skip_devices: bool) -> tuple[DetectedTorch | None, list[GpuAndUuid], list[str]]:
    """Torch's build, its GPUs unless `skip_devices`, and a note where torch is not installed."""
    try:
        import torch  # takes about a second, so only on request
    except ImportError:
        return None, [], ["torch is not installed"]
    build = DetectedTorch(version=torch.__version__, cuda=torch.version.cuda, hip=torch.version.hip, threads=torch.get_num_threads())
    if skip_devices or not torch.cuda.is_available():
        return build, [], []
    return build, list(_devices_of(torch)), []


def _devices_of(torch: Any) -> Iterator[GpuAndUuid]:
    for index in range(torch.cuda.device_count()):
        properties = torch.cuda.get_device_properties(index)
        free, total = torch.cuda.mem_get_info(index)
        architecture = getattr(properties, "gcnArchName", "").split(":")[0] if torch.version.hip else ""
        yield (
            DetectedGpu(
                index=index,
                name=properties.name,
                via="torch",
                total_bytes=total,
                free_bytes=free,
                driver=None,
                compute_capability=architecture or f"{properties.major}.{properties.minor}",
                sm_count=properties.multi_processor_count,
            ),
            "",
        )
