"""The least time of operators by a device's data sheet (roofline model): its operations per second and its bandwidth."""

from collections.abc import Iterable

from advisor.estimate.machines.gemm_time import Sums, peak
from advisor.estimate.machines.machine import Roofline, attention_flops
from advisor.estimate.operators.types import AttentionCall, Gemm, Operator, Phase, Traffic
from advisor.profiles.formats import weight_format
from advisor.profiles.hardware import Hardware

NARROW_ARITHMETIC = {"fp8": ("int8",), "mxfp4": ("fp8", "fp4"), "nvfp4": ("fp8",), "w4a8": ("fp8",)}
"""Further arithmetic in which kernels multiply weights of a format: with fast accumulation, or with activations rounded to fewer bits."""


def roofline(
    hardware: Hardware, operators: Iterable[tuple[Operator, float]], *, own_kernels: bool = False, sums: Sums = "fp32"
) -> Roofline:
    """The roofline of operators, each with the seconds that it takes where it is element-wise; collectives are free.

    `own_kernels` says that an engine's kernels may multiply quantised weights with integer activations, as llama.cpp's do, and `sums`
    is the format in which they accumulate.
    """
    compute_s = read_bytes = sequential_s = 0.0
    bandwidth = hardware.memory_bandwidth_bytes_per_s
    for operator, seconds in operators:
        flops, moved, peak_flops = 0.0, 0.0, 1.0
        match operator:
            case Gemm():
                flops = 2.0 * operator.m * operator.n * operator.k * operator.groups
                moved = (
                    operator.groups * operator.n * operator.k * weight_format(operator.format).bytes_per_element(row_elements=operator.k)
                )
                peak_flops = ceiling(hardware, operator.format, own_kernels=own_kernels, sums=sums)
            case AttentionCall():
                flops, moved = attention_flops(operator), _cache_bytes(operator)
                peak_flops = ceiling(hardware, operator.kv_format, own_kernels=own_kernels, sums=sums)
            case Traffic():
                sequential_s += operator.count * seconds
                continue
            case _:
                continue
        compute_s += operator.count * flops / peak_flops
        read_bytes += operator.count * moved
        sequential_s += operator.count * max(flops / peak_flops, moved / bandwidth)
    resident = hardware.l2_bytes is not None and read_bytes <= hardware.l2_bytes
    return Roofline(compute_s, 0.0 if resident else read_bytes / bandwidth, compute_s if resident else sequential_s)


def ceiling(hardware: Hardware, format: str, *, own_kernels: bool = False, sums: Sums = "fp32") -> float:
    """Most operations per second of products with weights of a format, in the fastest arithmetic that kernels use for it."""
    arithmetic = NARROW_ARITHMETIC.get(format, ())
    if own_kernels:
        sums, arithmetic = "fp16", (*arithmetic, "int8")
    peaks = [hardware.peak_flops[name] for name in arithmetic if name in hardware.peak_flops]
    return max(peak(hardware, format, sums), *peaks) if peaks else peak(hardware, format, sums)


def _cache_bytes(call: AttentionCall) -> float:
    """Bytes of the cache that decoding reads at least once; a prompt's own keys and values may stay on the chip."""
    if call.phase == Phase.PREFILL:
        return 0.0
    elements = call.head_dim if call.latent else call.head_dim + call.value_dim
    return call.sequences * call.kv_tokens * call.kv_heads * elements * weight_format(call.kv_format).bits / 8
