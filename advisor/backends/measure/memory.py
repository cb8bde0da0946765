"""Memory of this process: weights exactly, and the high-water mark as the operating system or the driver counts it."""

import ctypes
import gc
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from advisor.backends.model.loaded_model import LoadedModel

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

RESET_PEAK = "5"
"""What `/proc/PID/clear_refs` takes to reset the high-water mark. Source: proc(5)."""


def weight_bytes(session: LoadedModel) -> int:
    """Bytes of every parameter and buffer of the model and of its draft, shared storage counted once."""
    models = [model for model in (session.model, session.draft_model) if model is not None]
    return sum({storage: size for model in models for storage, size in _storages(model)}.values())


def _storages(model: Any) -> "list[tuple[tuple[str, int], int]]":
    tensors = [*model.parameters(), *model.buffers()]
    return [((str(tensor.device), tensor.untyped_storage().data_ptr()), tensor.untyped_storage().nbytes()) for tensor in tensors]


def reset_peak(device: "torch.device") -> None:
    """Return freed memory to the system and reset the high-water mark, where the system allows it."""
    gc.collect()
    if device.type == "cuda":
        import torch

        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats(device)
    if sys.platform == "linux":
        ctypes.CDLL(None).malloc_trim(0)
        try:
            Path("/proc/self/clear_refs").write_text(RESET_PEAK)
        except OSError:
            return


def peak_bytes(device: "torch.device") -> int:
    """Peak memory of this process on `device` in bytes: resident memory on the CPU; torch's pool and the driver's context on a GPU."""
    if device.type == "cuda":
        return _cuda_peak_bytes(device)
    return resident_bytes("VmHWM")


def resident_bytes(field: str = "VmRSS") -> int:
    """Resident memory in bytes, now (`VmRSS`) or at its peak (`VmHWM`)."""
    if sys.platform == "linux":
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field + ":"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _cuda_peak_bytes(device: "torch.device") -> int:
    """Torch's peak reservation, and what the driver allocates for this process outside of it."""
    import os

    import pynvml
    import torch

    peak, now = torch.cuda.max_memory_reserved(device), torch.cuda.memory_reserved(device)
    try:
        pynvml.nvmlInit()
        handle = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device).uuid}")
        mine = [process.usedGpuMemory for process in pynvml.nvmlDeviceGetComputeRunningProcesses(handle) if process.pid == os.getpid()]
    except pynvml.NVMLError:
        mine = []
    return peak + max(0, (mine[0] or 0) - now) if mine else peak
