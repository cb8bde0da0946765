"""Seconds of products and attention in an engine's own kernels (llama.cpp), by its constants in `profiles/engines`.

Bound by bandwidth, loads in flight, unpacking, peak and power.
"""

from advisor.estimate.machines.gemm_time import peak
from advisor.estimate.machines.machine import STREAM_EFFICIENCY, attention_bytes, gemm_bytes
from advisor.estimate.operators.types import AttentionCall, Gemm, Phase
from advisor.profiles.engine_parts import Kernels
from advisor.profiles.formats import weight_format
from advisor.profiles.hardware import Hardware

SHARPNESS = 6
"""Exponent of the norm that combines times which overlap: near the largest of them, a little above where two are close."""
VECTOR_ROWS = 8
"""Most rows of matrix-vector kernels (llama.cpp's MMVQ_MAX_BATCH_SIZE); more rows use tiles."""
TILE_ROWS = 32
"""Rows of the smallest tile; fewer rows take as long."""


def product_s(hardware: Hardware, kernels: Kernels, gemm: Gemm) -> float:
    """Seconds of a product: few rows are bound by reading and unpacking weights, many by operations."""
    wide = weight_format(gemm.format).bits >= 16
    moved = gemm_bytes(gemm)
    read_s = moved / (kernels.read * hardware.memory_bandwidth_bytes_per_s)
    flight = kernels.wide_bytes_per_s if wide else kernels.narrow_bytes_per_s
    flight_s = moved / (flight * hardware.sm_count) if flight and hardware.sm_count else 0.0
    weights = float(gemm.n) * gemm.k * gemm.groups
    unpack_s = 0.0 if wide else gemm.m * weights * kernels.unpack_flops / hardware.peak("fp32")
    if gemm.m <= VECTOR_ROWS:
        return _combined_s(read_s, flight_s, unpack_s or 2.0 * gemm.m * weights / hardware.peak("fp32"))
    slower = 1.0 if wide else kernels.quantised
    tiled_s = slower * _flops_s(hardware, kernels, gemm.format, 2.0 * max(gemm.m, TILE_ROWS) * weights)
    return _combined_s(read_s, tiled_s)


def attention_s(hardware: Hardware, kernels: Kernels, call: AttentionCall) -> float:
    """Seconds of eager attention in one layer: in decoding every query head reads keys and values, in prefill scores move."""
    scores = float(call.sequences) * call.q_heads * call.q_tokens * call.kv_tokens
    products_s = _flops_s(hardware, kernels, "fp16", 2.0 * scores * (call.head_dim + call.value_dim))
    bandwidth = hardware.memory_bandwidth_bytes_per_s
    if call.phase == Phase.PREFILL:
        return products_s + scores * kernels.score_bytes / (STREAM_EFFICIENCY * bandwidth)
    repeats = 1.0 if call.latent else call.q_heads / call.kv_heads
    return max(attention_bytes(call) * repeats / (kernels.attention_read * bandwidth), products_s)


def _flops_s(hardware: Hardware, kernels: Kernels, format: str, flops: float) -> float:
    limit = kernels.flops_limit(hardware.arch.split()[0], hardware.compute_capability, hardware.tdp_w)
    top = peak(hardware, format if format == "fp32" else "fp16", "fp16")
    return _combined_s(flops / (kernels.product * top), flops / limit)


def _combined_s(*parts: float) -> float:
    longest = max(parts)
    return float(longest * sum((part / longest) ** SHARPNESS for part in parts) ** (1 / SHARPNESS)) if longest else 0.0
