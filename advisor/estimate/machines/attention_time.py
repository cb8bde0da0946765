"""Seconds of fused attention kernels: decoding reads the cache, prefilling multiplies.

Eight constants for every device and cache format, fitted to measured kernels by `tools/fit_kernels.py`; all of them were
measured on grouped-query attention with 128 elements a head.
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
"""Queries that one processor works on together when prefilling (FlashAttention 2 and 3 at 128 elements a head)."""
SOME_PROCESSORS = 64
"""Stands in where a data sheet counts none: the median CPU of the catalogue has about as many cores."""
FEW_TOKENS = 64
"""Shortest context that a sequence is counted as."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttentionConstants:
    """How kernels over one cache format fall short of the data sheet."""

    decode_launch_us: float
    decode_unit_us: float
    """For every sequence and key-value head, divided over the processors."""
    decode_doubling_us: float
    """For every doubling of the context: the cache is read in more pieces, which are then joined."""
    decode_read: float
    """Share of the bandwidth at which a cache is read that is not in the L2 cache."""
    prefill_launch_us: float
    prefill_product: float
    """Share of the bf16 peak in long sequences."""
    prefill_idle: float
    """Time lost when there are fewer blocks of queries than processors, as a share of what one block takes."""
    prefill_passes: float
    """Passes over queries, keys, values and outputs: the cache is written, layouts are changed."""

    def decode_s(self, hardware: Hardware, call: AttentionCall) -> float:
        """Launch, pieces and joins, and the bytes of the cache; many queries on one key (latent attention) are bound by products."""
        units = call.sequences * call.kv_heads / (hardware.sm_count or SOME_PROCESSORS)
        doublings = math.log2(max(call.kv_tokens / FEW_TOKENS, 1.0))
        fixed = self.decode_launch_us + self.decode_unit_us * units + self.decode_doubling_us * doublings
        reads = attention_bytes(call) / (self.decode_read * hardware.memory_bandwidth_bytes_per_s)
        return fixed * 1e-6 + max(reads, attention_flops(call) / (self.prefill_product * hardware.peak("bf16")))

    def prefill_s(self, hardware: Hardware, call: AttentionCall) -> float:
        """Launch, the products at the share that blocks of queries leave, and passes over what goes in and out."""
        blocks = max(call.q_tokens / BLOCK_ROWS, 1.0) * call.sequences * call.q_heads
        idle = 1.0 + self.prefill_idle * (hardware.sm_count or SOME_PROCESSORS) / blocks
        products = attention_flops(call) * idle / (self.prefill_product * hardware.peak("bf16"))
        moved = 2.0 * call.sequences * call.q_tokens * (call.q_heads + call.kv_heads) * (call.head_dim + call.value_dim)
        passes = self.prefill_passes * moved + attention_bytes(call)
        return self.prefill_launch_us * 1e-6 + products + passes / hardware.memory_bandwidth_bytes_per_s


CONSTANTS = tuple(field.name for field in fields(AttentionConstants))


def attention_constants(hardware: Hardware, kv_format: str, rows: Rows | None = None) -> tuple[AttentionConstants, Basis]:
    """Constants of a device and a cache format with their tier. Narrow caches are read as fp8 ones are, wide ones as bf16 ones."""
    rows = table("attention_efficiency.csv") if rows is None else rows
    known = "fp8" if kv_format in ("fp8", "int8", "int4") else "bf16"
    found, basis = nearest_rows([row for row in rows if row["kv"] == known], hardware)
    return AttentionConstants(**{name: log_median(found, name) for name in CONSTANTS}), basis
