"""Seconds of fused attention kernels: decoding is bound by reading the cache, prefill by products.

Eight constants for each device and cache format, fitted to measured kernels by `tools/fit_kernels.py`; all were measured on
grouped-query attention with 128 elements a head.
"""

import math
from dataclasses import dataclass, fields

from advisor.estimate.machines.machine import attention_bytes, attention_flops
from advisor.estimate.machines.nearest_rows import Rows, log_median, nearest_rows
from advisor.estimate.operators.types import AttentionCall
from advisor.profiles.evidence import table
from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Basis

BLOCK_ROWS = 128
"""Queries in one thread block of a prefill (FlashAttention 2 and 3 at 128 elements a head)."""
DEFAULT_PROCESSORS = 64
"""Processors of a device whose data sheet states none: about the cores of the catalogue's median CPU."""
SHORTEST_CONTEXT = 64
"""Context, in tokens, from which doublings are counted."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionConstants:
    """Constants of the attention kernels of one device and cache format, relative to its data sheet."""

    decode_launch_us: float
    """Of every call."""
    decode_unit_us: float
    """For each sequence and key-value head, divided by the number of processors."""
    decode_doubling_us: float
    """For each doubling of the context: the cache is read in more splits, which are then combined (flash decoding)."""
    decode_read: float
    """Share of the peak bandwidth at which a cache outside L2 is read."""
    prefill_launch_us: float
    """Of every call."""
    prefill_product: float
    """Share of the bf16 peak reached in long sequences."""
    prefill_idle: float
    """Factor of processors over query blocks, by which products take longer: the last wave does not fill the device."""
    prefill_passes: float
    """Passes over queries, keys, values and outputs, for writing the cache and changing layouts."""

    def decode_s(self, hardware: Hardware, call: AttentionCall) -> float:
        """Seconds of a decoding call: launch, splits and combining, and reading the cache; or products, which bind latent attention."""
        units = call.sequences * call.kv_heads / (hardware.sm_count or DEFAULT_PROCESSORS)
        doublings = math.log2(max(call.kv_tokens / SHORTEST_CONTEXT, 1.0))
        fixed = self.decode_launch_us + self.decode_unit_us * units + self.decode_doubling_us * doublings
        reads = attention_bytes(call) / (self.decode_read * hardware.memory_bandwidth_bytes_per_s)
        return fixed * 1e-6 + max(reads, attention_flops(call) / (self.prefill_product * _peak(hardware, call)))

    def prefill_s(self, hardware: Hardware, call: AttentionCall) -> float:
        """Seconds of a prefill call: launch, products, longer where query blocks do not fill the processors, and passes over memory."""
        blocks = max(call.q_tokens / BLOCK_ROWS, 1.0) * call.sequences * call.q_heads
        idle = 1.0 + self.prefill_idle * (hardware.sm_count or DEFAULT_PROCESSORS) / blocks
        products = attention_flops(call) * idle / (self.prefill_product * _peak(hardware, call))
        moved = 2.0 * call.sequences * call.q_tokens * (call.q_heads + call.kv_heads) * (call.head_dim + call.value_dim)
        passes = self.prefill_passes * moved + attention_bytes(call)
        return self.prefill_launch_us * 1e-6 + products + passes / hardware.memory_bandwidth_bytes_per_s


CONSTANTS = tuple(field.name for field in fields(AttentionConstants))


def attention_constants(hardware: Hardware, kv_format: str, rows: Rows | None = None) -> tuple[AttentionConstants, Basis]:
    """Constants of a device and a cache format, with their tier. Caches below 16 bits use those of fp8, others those of bf16."""
    rows = table("attention_efficiency.csv") if rows is None else rows
    measured = "fp8" if kv_format in ("fp8", "int8", "int4") else "bf16"
    nearest, basis = nearest_rows([row for row in rows if row["kv"] == measured], hardware)
    return AttentionConstants(**{name: log_median(nearest, name) for name in CONSTANTS}), basis


def _peak(hardware: Hardware, call: AttentionCall) -> float:
    return hardware.peak("fp32" if call.dtype == "fp32" else "bf16")
