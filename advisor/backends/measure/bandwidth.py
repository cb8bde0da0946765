"""Memory bandwidth, and the launch cost of an operator."""

from typing import TYPE_CHECKING

from advisor.backends.detection.host import read_host
from advisor.backends.measure.timing import seconds_per_call
from advisor.profiles.formats import GIB

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

DEFAULT_CACHE_BYTES = 32 * 1024**2
"""Assumed last-level cache where the system does not report it."""
BEYOND_CACHE = 4
"""Size of a buffer that is read from memory, as a multiple of the last-level cache."""
MAX_BUFFER_BYTES = GIB


def cache_bytes(device: "torch.device") -> int:
    """Size of the device's last-level cache."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    return read_host().cpu.l3_bytes or DEFAULT_CACHE_BYTES


def beyond_cache_bytes(device: "torch.device") -> int:
    """Size of a buffer that does not fit in any cache of the device, at most `MAX_BUFFER_BYTES`."""
    return min(MAX_BUFFER_BYTES, max(64 * 1024**2, BEYOND_CACHE * cache_bytes(device)))


def copy_bytes_per_s(device: "torch.device") -> float:
    """Bytes read plus bytes written per second by a copy of a large buffer (as STREAM counts)."""
    import torch

    size = beyond_cache_bytes(device)
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * size / seconds_per_call(lambda _: target.copy_(source), device)


def read_bytes_per_s(device: "torch.device") -> float:
    """Bytes read per second by a sum over a large buffer."""
    import torch

    size = beyond_cache_bytes(device)
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    return size / seconds_per_call(lambda _: source.sum(), device)


def launch_s(device: "torch.device") -> float:
    """Seconds of an operator on one element, called back to back."""
    import torch

    element = torch.zeros(1, device=device)
    return seconds_per_call(lambda _: element.add_(1.0), device)
