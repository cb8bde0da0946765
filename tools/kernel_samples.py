"""Read measured kernel latencies: aiconfigurator's kernel database (Apache-2.0), exported as CSV files with one row a call.

`gemm_sample.csv` (system, gemm_dtype, m, n, k, latency in ms), `attention_context_sample.csv`, `attention_generation_sample.csv`
(batch_size, isl, num_heads, num_key_value_heads, head_dim, kv_cache_dtype, step, latency) and `comm_sample.csv` (op_name,
num_gpus, message_size in elements, latency). The fastest kernel of every shape counts, as engines choose.

Products of the RTX 4090 are layers of a recorded run instead, in `benchmarks/published/traces` (layer, tokens, time_us).
"""

import csv
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TypeVar

from advisor.backends.deployment import AttentionBackend, KvLayout
from advisor.estimate.machines.machine import attention_bytes, gemm_bytes
from advisor.estimate.operators.types import AttentionCall, Gemm, Phase
from advisor.profiles.formats import weight_format
from advisor.profiles.hardware import Hardware, load_hardware

SOURCE = "aiconfigurator kernel database (Apache-2.0)"
RECORDED = {"rtx-4090": "LLMServingSim 2.0, layers of vLLM 0.19 on RTX 4090 (MIT)"}
"""Sources of devices that the database lacks."""
LAYERS = Path(__file__).parents[1] / "benchmarks/published/traces/rtx-4090-llama-3.1-8b-layers.csv"
LAYER_SHAPES = {"qkv_proj": (6144, 4096), "o_proj": (4096, 4096), "gate_up_proj": (28672, 4096), "down_proj": (4096, 14336)}
"""Outputs and inputs of the products of Llama-3.1-8B, as vLLM joins them."""
DEVICES = {
    "a100_sxm": "a100-sxm-80g",
    "h100_sxm": "h100-sxm",
    "h200_sxm": "h200-sxm",
    "l40s": "l40s",
    "b200_sxm": "b200-sxm",
    "rtx_pro_6000_server": "rtx-pro-6000-blackwell",
    "b60": "arc-pro-b60",
}
FORMATS = {"bfloat16": "bf16", "fp8": "fp8", "fp8_block": "fp8", "int8_wo": "int8", "int4_wo": "int4", "sq": "int8-w8a8", "nvfp4": "nvfp4"}

T = TypeVar("T")
Key = tuple[str, str]
"""Device, and format of the weights or the cache."""
GemmSamples = dict[Key, dict[Gemm, float]]
CallSamples = dict[Key, dict[AttentionCall, float]]
CollectiveSamples = dict[tuple[str, str], dict[tuple[int, int], float]]
"""Device and collective to (ranks, bytes) to seconds."""


def read_products(folder: Path) -> GemmSamples:
    """Seconds of every product."""
    samples_by_key: GemmSamples = {}
    for row in _rows(folder / "gemm_sample.csv"):
        device, format = DEVICES[row["system"]], FORMATS[row["gemm_dtype"]]
        # SGLang's int8 on H100 is torchao's, with 25 us to launch; the same format on H200 takes a third of that.
        if (row["framework"], format) == ("SGLang", "int8"):
            continue
        gemm = Gemm(int(float(row["m"])), int(float(row["n"])), int(float(row["k"])), format, 1)
        _keep(samples_by_key.setdefault((device, format), {}), gemm, float(row["latency"]) * 1e-3)
    for row in _rows(LAYERS):
        if shape := LAYER_SHAPES.get(row["layer"]):
            gemm = Gemm(int(row["tokens"]), *shape, "bf16", 1)
            _keep(samples_by_key.setdefault(("rtx-4090", "bf16"), {}), gemm, float(row["time_us"]) * 1e-6)
    return samples_by_key


def read_attention(folder: Path, phase: str) -> CallSamples:
    """Seconds of every call of one phase."""
    samples_by_key: CallSamples = {}
    for row in _rows(folder / f"attention_{'context' if phase == 'prefill' else 'generation'}_sample.csv"):
        sequences, tokens, heads, kv_heads, size, seen = (
            int(float(row[name])) for name in ("batch_size", "isl", "num_heads", "num_key_value_heads", "head_dim", "step")
        )
        kv = "fp8" if row["kv_cache_dtype"] == "fp8" else "bf16"
        shape = (sequences, tokens, seen + tokens, heads, kv_heads, size, size)
        call = AttentionCall(Phase.PREFILL if phase == "prefill" else Phase.DECODE, *shape, AttentionBackend.SDPA, KvLayout.PAGED, kv, 1)
        _keep(samples_by_key.setdefault((DEVICES[row["system"]], kv), {}), call, float(row["latency"]) * 1e-3)
    return samples_by_key


def read_collectives(folder: Path) -> CollectiveSamples:
    """Seconds of every collective on two-byte elements, replayed from a graph where the library can."""
    samples_by_key: CollectiveSamples = {}
    for row in _rows(folder / "comm_sample.csv"):
        if row["nccl_dtype"] == "int8" or row["backend"] == "vllm_eager":
            continue
        samples = samples_by_key.setdefault((DEVICES[row["system"]], row["op_name"]), {})
        _keep(samples, (int(float(row["num_gpus"])), 2 * int(float(row["message_size"]))), float(row["latency"]) * 1e-3)
    return samples_by_key


def cold_products(hardware: Hardware, samples: dict[Gemm, float]) -> dict[Gemm, float]:
    """Leave out what was read faster than memory allows: a benchmark repeats one product, a model's next layer is never in the cache."""

    def cached(gemm: Gemm, seconds: float) -> bool:
        weights = gemm.n * gemm.k * weight_format(gemm.format).bytes_per_element(row_elements=gemm.k)
        return weights <= (hardware.l2_bytes or 0) and gemm_bytes(gemm) > 0.9 * hardware.memory_bandwidth_bytes_per_s * seconds

    return {gemm: seconds for gemm, seconds in samples.items() if not cached(gemm, seconds)}


def cold_calls(hardware: Hardware, samples: dict[AttentionCall, float]) -> dict[AttentionCall, float]:
    """Leave out caches that the L2 cache holds, unless they are so small that reading hardly counts."""
    l2 = hardware.l2_bytes or 0
    return {call: seconds for call, seconds in samples.items() if not l2 / 16 < attention_bytes(call) <= 1.3 * l2}


def device(key: Key) -> Hardware:
    """The device of a key."""
    return load_hardware(key[0])


def _rows(path: Path) -> Iterator[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        yield from csv.DictReader(file)


def _keep(samples_by_key: dict[T, float], key: T, seconds: float) -> None:
    samples_by_key[key] = min(seconds, samples_by_key.get(key, math.inf))
