"""A machine that was never measured here: its data sheet and the efficiency published for it or its architecture."""

from dataclasses import replace

from advisor.backends.deployment import AttentionBackend
from advisor.estimate.machines.attention_time import AttentionConstants, attention_constants
from advisor.estimate.machines.collective_time import Fabric
from advisor.estimate.machines.engine_kernels import attention_s, product_s
from advisor.estimate.machines.gemm_time import ProductConstants, measured_format, peak, product_constants, product_work
from advisor.estimate.machines.machine import STREAM_EFFICIENCY, score_bytes
from advisor.estimate.operators.types import EXACT, AllReduce, AttentionCall, Exchange, Gemm, Phase, Traffic
from advisor.profiles.engines import EngineProfile, Overheads
from advisor.profiles.hardware import Hardware
from advisor.profiles.metrics import Basis

KERNEL_FLOOR_S = 2e-6
"""Shortest element-wise kernel in a captured graph: launch gap and drain (Hazy Research: 1.3 us a node on H100, plus execution)."""
EAGER_LAUNCHES = 3
"""Operators that attention written out takes beyond a fused one: mask and softmax, the second product, a copy."""


class CatalogueMachine:
    """Prices operators by constants fitted to published kernel measurements of this device, or of the most similar ones."""

    def __init__(self, hardware: Hardware, overheads: Overheads) -> None:
        self.hardware = hardware
        self._own = overheads.kernels_on(hardware.vendor)
        self.overheads = overheads.model_copy(update={"layer_s": self._own.layer_s}) if self._own else overheads
        self._products: dict[str, tuple[ProductConstants, Basis]] = {}
        self._attention: dict[str, tuple[AttentionConstants, Basis]] = {}
        self._fabric = Fabric(hardware)
        self._stream_bytes_per_s = STREAM_EFFICIENCY * hardware.memory_bandwidth_bytes_per_s
        self._gemms: dict[Gemm, tuple[float, float]] = {}

    @property
    def basis(self) -> Basis:
        """The tier that the efficiency of bf16 products was found at."""
        return self.basis_of("bf16")

    def basis_of(self, format: str) -> Basis:
        """The tier that the efficiency of products of a format was found at: weaker where the format is borrowed."""
        return self._known_products(format)[1]

    @property
    def working_memory_bytes(self) -> int:
        """Usable memory of one device."""
        return self.hardware.memory_bytes

    def gemm_s(self, gemm: Gemm, working_set_bytes: float) -> float:
        """Seconds of the product, its weights read from memory: a step touches far more than a cache holds."""
        return self._product(gemm)[0]

    def attention_s(self, call: AttentionCall) -> float:
        """Seconds of one layer; the fastest of all exact implementations is the fused one, or the engine's own."""
        if call.backend == AttentionBackend.AUTO:
            return min(self.attention_s(replace(call, backend=name)) for name in EXACT)
        if self._own is not None and call.backend == AttentionBackend.EAGER:
            return attention_s(self.hardware, self._own, call)
        known = self._attention.get(call.kv_format)
        if known is None:
            known = self._attention[call.kv_format] = attention_constants(self.hardware, call.kv_format)
        constants, _ = known
        seconds = constants.prefill_s(self.hardware, call) if call.phase == Phase.PREFILL else constants.decode_s(self.hardware, call)
        if call.backend == AttentionBackend.EAGER:
            seconds += EAGER_LAUNCHES * KERNEL_FLOOR_S + score_bytes(call) / self._stream_bytes_per_s
        return seconds

    def cost_equivalent(self, implementation: AttentionBackend) -> AttentionBackend:
        """No published constants tell exact implementations apart but by what they add to the fused one."""
        alike = implementation == AttentionBackend.FLEX or (implementation == AttentionBackend.AUTO and self._own is None)
        return AttentionBackend.SDPA if alike else implementation

    def traffic_s(self, traffic: Traffic) -> float:
        """Bytes over bandwidth, or operations over the scalar peak."""
        moved = traffic.moved_bytes / self._stream_bytes_per_s
        return max(moved, traffic.flops / peak(self.hardware, "fp32")) + KERNEL_FLOOR_S

    def expert_scale(self, format: str, prefills: bool) -> float:
        """The engine's grouped products on this architecture."""
        return self.overheads.expert_scale(self.hardware.arch.split()[0], measured_format(self.hardware, format), prefills)

    def latency_s(self, gemm: Gemm) -> float:
        """Seconds of `gemm_s` that are latency; an engine's own kernels count theirs by the layer."""
        return self._product(gemm)[1]

    def all_reduce_s(self, reduce: AllReduce) -> float:
        """Seconds of one sum, as measured over links of the same kind."""
        return self._fabric.all_reduce_s(reduce.payload_bytes, reduce.ranks)

    def exchange_s(self, exchange: Exchange) -> float:
        """Seconds of one all-to-all."""
        return self._fabric.exchange_s(exchange.payload_bytes, exchange.ranks)

    def _product(self, gemm: Gemm) -> tuple[float, float]:
        """Seconds of a product, and what of them is latency."""
        known = self._gemms.get(gemm)
        if known is None:
            known = self._gemms[gemm] = self._product_s(gemm)
        return known

    def _product_s(self, gemm: Gemm) -> tuple[float, float]:
        if self._own is not None:
            return product_s(self.hardware, self._own, gemm), 0.0
        constants, _ = self._known_products(gemm.format)
        work = product_work(self.hardware, gemm, self.overheads.sums)
        return constants.seconds(work), constants.latency_s(work)

    def _known_products(self, format: str) -> tuple[ProductConstants, Basis]:
        known = self._products.get(format)
        if known is None:
            constants, basis = product_constants(self.hardware, format, sums=self.overheads.sums)
            plain, _ = product_constants(self.hardware, "bf16", sums=self.overheads.sums)
            known = self._products[format] = constants.fused(plain), basis
        return known


def catalogue_machine(hardware: Hardware, engine: EngineProfile) -> CatalogueMachine:
    """A device as an engine uses it, by the engine's constants for devices of its kind."""
    return CatalogueMachine(hardware, engine.cpu if hardware.kind == "cpu" else engine.gpu)
