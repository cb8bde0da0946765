"""Memory bandwidth and the cost of the smallest operator."""

from typing import TYPE_CHECKING

from advisor.backends.detection.host import read_host
from advisor.backends.measure.timing import seconds_per_call
from advisor.profiles.formats import GIB

if TYPE_CHECKING:  # heavy; functions below import what they need
    import torch

DEFAULT_CACHE_BYTES = 32 * 1024**2
"""Last-level cache where the system does not tell it."""
BEYOND_CACHE = 4
"""A buffer so many times the last-level cache does not live in it."""
MAX_BUFFER_BYTES = GIB


def cache_bytes(device: "torch.device") -> int:
    """The last-level cache of the device."""
    if device.type == "cuda":
        import torch

        return int(torch.cuda.get_device_properties(device).L2_cache_size)
    return read_host().cpu.l3_bytes or DEFAULT_CACHE_BYTES


def beyond_cache_bytes(device: "torch.device") -> int:
    """Size of a buffer that is read from memory, not from a cache."""
    return min(MAX_BUFFER_BYTES, max(64 * 1024**2, BEYOND_CACHE * cache_bytes(device)))


def copy_bytes_per_s(device: "torch.device") -> float:
    """Bytes read and written per second by a copy of a large buffer; both directions count."""
    import torch

    size = beyond_cache_bytes(device)
    source, target = (torch.zeros(size, dtype=torch.uint8, device=device) for _ in range(2))
    return 2 * size / seconds_per_call(lambda _: target.copy_(source), device)


def read_bytes_per_s(device: "torch.device") -> float:
    """Bytes per second of a sum over a large buffer, which only reads."""
    import torch

    size = beyond_cache_bytes(device)
    source = torch.ones(size // 4, dtype=torch.float32, device=device)
    return size / seconds_per_call(lambda _: source.sum(), device)


def launch_s(device: "torch.device") -> float:
    """Time of an operator on one element, one after another."""
    import torch

    one = torch.zeros(1, device=device)
    return seconds_per_call(lambda _: one.add_(1.0), device)
