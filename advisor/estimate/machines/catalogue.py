"""A machine that was not measured: its data sheet, and constants fitted to published kernel measurements."""

from collections.abc import Iterable
from dataclasses import replace

from advisor.backends.deployment import AttentionBackend
from advisor.estimate.machines.attention_time import AttentionConstants, attention_constants
from advisor.estimate.machines.collective_time import Fabric
from advisor.estimate.machines.engine_kernels import attention_s, product_s
from advisor.estimate.machines.gemm_time import ProductConstants, measured_format, peak, product_constants, product_work
from advisor.estimate.machines.machine import STREAM_EFFICIENCY, Roofline, score_bytes
from advisor.estimate.machines.power_limit import power_limit_of, under_power_limit
from advisor.estimate.machines.roofline import roofline
from advisor.estimate.operators.types import EXACT, AllReduce, AttentionCall, Exchange, Gemm, Operator, Phase, Traffic
from advisor.profiles.engines import EngineProfile, Overheads
from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Basis

KERNEL_FLOOR_S = 2e-6
"""Shortest element-wise kernel in a captured graph: launch gap and drain (Hazy Research: 1.3 us a node on H100, plus execution)."""
EAGER_LAUNCHES = 3
"""Kernels of eager attention beyond those of fused attention: mask and softmax, the second product, a copy."""


class CatalogueMachine:
    """Prices operators by constants fitted to published kernel measurements of this device, or of the most similar devices.

    An engine with kernels of its own (llama.cpp) on devices of this vendor is priced by those kernels' constants instead.
    """

    def __init__(self, hardware: Hardware, overheads: Overheads) -> None:
        self.power_limit = power_limit_of(hardware)
        self._data_sheet = hardware
        self.hardware = hardware = under_power_limit(hardware).emulating(overheads.emulated_share)
        self._engine_kernels = overheads.kernels_on(hardware.vendor)
        self.overheads = overheads.model_copy(update={"layer_s": self._engine_kernels.layer_s}) if self._engine_kernels else overheads
        self._products: dict[str, tuple[ProductConstants, Basis]] = {}
        self._attention: dict[str, tuple[AttentionConstants, Basis]] = {}
        self._fabric = Fabric(hardware)
        self._stream_bytes_per_s = STREAM_EFFICIENCY * hardware.memory_bandwidth_bytes_per_s
        self._gemms: dict[Gemm, tuple[float, float]] = {}

    @property
    def basis(self) -> Basis:
        """The tier of the constants of bf16 products."""
        return self.basis_of("bf16")

    @property
    def contended(self) -> bool:
        """Never: published measurements are of idle devices."""
        return False

    @property
    def speed_spread(self) -> tuple[float, float]:
        """Factors of a power limit's published effects around their mean; 1 without a limit."""
        return self.power_limit.spread if self.power_limit is not None else (1.0, 1.0)

    def basis_of(self, format: str) -> Basis:
        """The tier of the constants of products in a format: weaker where another format's are used."""
        return self._constants_of(format)[1]

    @property
    def working_memory_bytes(self) -> int:
        """Bytes of usable memory of one device."""
        return self.hardware.memory_bytes

    def dtypes(self, own: str) -> tuple[str, ...]:
        """By the peaks of the data sheet."""
        return self.hardware.dtypes(own)

    def gemm_s(self, gemm: Gemm, working_set_bytes: float) -> float:
        """Seconds of the product. Weights always come from memory, as a step reads far more of them than a cache holds."""
        return self._product(gemm)[0]

    def attention_s(self, call: AttentionCall) -> float:
        """Seconds of attention in one layer. Eager attention adds kernels and materialised scores to the fused one."""
        if call.backend == AttentionBackend.AUTO:
            return min(self.attention_s(replace(call, backend=name)) for name in EXACT)
        if self._engine_kernels is not None and call.backend == AttentionBackend.EAGER:
            return attention_s(self.hardware, self._engine_kernels, call)
        if call.kv_format not in self._attention:
            self._attention[call.kv_format] = attention_constants(self.hardware, call.kv_format)
        constants, _ = self._attention[call.kv_format]
        seconds = constants.prefill_s(self.hardware, call) if call.phase == Phase.PREFILL else constants.decode_s(self.hardware, call)
        if call.backend == AttentionBackend.EAGER:
            seconds += EAGER_LAUNCHES * KERNEL_FLOOR_S + score_bytes(call) / self._stream_bytes_per_s
        return seconds

    def cost_equivalent(self, backend: AttentionBackend) -> AttentionBackend:
        """FlexAttention is priced as fused attention, and so is the fastest backend unless the engine has kernels of its own."""
        fused = backend == AttentionBackend.FLEX or (backend == AttentionBackend.AUTO and self._engine_kernels is None)
        return AttentionBackend.SDPA if fused else backend

    def traffic_s(self, traffic: Traffic) -> float:
        """Bytes over bandwidth, or operations over the scalar peak."""
        moved = traffic.moved_bytes / self._stream_bytes_per_s
        return max(moved, traffic.flops / peak(self.hardware, "fp32")) + KERNEL_FLOOR_S

    def expert_scale(self, format: str, prefills: bool) -> float:
        """Time of the engine's grouped expert products on this architecture, as a multiple of `gemm_s`."""
        return self.overheads.expert_scale(self.hardware.arch.split()[0], measured_format(self.hardware, format), prefills)

    def roofline(self, operators: Iterable[Operator]) -> Roofline | None:
        """The least seconds of operators; `None` for a processor, whose caches and clock the data sheet does not describe."""
        if self.hardware.kind == "cpu":
            return None
        timed = ((operator, self.traffic_s(operator) if isinstance(operator, Traffic) else 0.0) for operator in operators)
        return roofline(self._data_sheet, timed, own_kernels=self._engine_kernels is not None, sums=self.overheads.sums)

    def latency_s(self, gemm: Gemm) -> float:
        """The part of `gemm_s` that is latency; 0 for an engine's own kernels, whose latency is in the overhead of a layer."""
        return self._product(gemm)[1]

    def all_reduce_s(self, reduce: AllReduce) -> float:
        """Seconds of one all-reduce, from curves measured over links of the same kind."""
        return self._fabric.all_reduce_s(reduce.payload_bytes, reduce.ranks)

    def exchange_s(self, exchange: Exchange) -> float:
        """Seconds of one all-to-all, from curves measured over links of the same kind."""
        return self._fabric.exchange_s(exchange.payload_bytes, exchange.ranks)

    def _product(self, gemm: Gemm) -> tuple[float, float]:
        """Seconds of a product, and the part of them that is latency; cached."""
        seconds = self._gemms.get(gemm)
        if seconds is None:
            seconds = self._gemms[gemm] = self._product_s(gemm)
        return seconds

    def _product_s(self, gemm: Gemm) -> tuple[float, float]:
        if self._engine_kernels is not None:
            return product_s(self.hardware, self._engine_kernels, gemm), 0.0
        constants, _ = self._constants_of(gemm.format)
        work = product_work(self.hardware, gemm, self.overheads.sums)
        return constants.seconds(work), constants.latency_s(work)

    def _constants_of(self, format: str) -> tuple[ProductConstants, Basis]:
        """Constants of products in a format with their tier; cached."""
        cached = self._products.get(format)
        if cached is None:
            constants, basis = product_constants(self.hardware, format, sums=self.overheads.sums)
            plain, _ = product_constants(self.hardware, "bf16", sums=self.overheads.sums)
            cached = self._products[format] = constants.fused(plain), basis
        return cached


def catalogue_machine(hardware: Hardware, engine: EngineProfile) -> CatalogueMachine:
    """A device with an engine's overheads for its kind: CPU or GPU."""
    return CatalogueMachine(hardware, engine.cpu if hardware.kind == "cpu" else engine.gpu)
