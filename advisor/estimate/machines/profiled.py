"""A machine with a measured profile: products, attention and overheads are interpolated in its tables."""

from collections.abc import Iterable
from dataclasses import replace

from advisor.backends.deployment import AttentionBackend, KvLayout
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.machines.machine import attention_bytes
from advisor.estimate.operators.types import EXACT, AllReduce, AttentionCall, Exchange, Gemm, Operator, Traffic
from advisor.profiles.engines import Overheads
from advisor.profiles.formats import weight_format
from advisor.profiles.hardware import DTYPES, fastest_first
from advisor.profiles.interpolate import AttentionTable, GemmTable
from advisor.profiles.machine import MachineProfile
from advisor.profiles.metrics import Basis

PROMPT_PRODUCT = (256, 1024, 1024)
"""Rows, outputs and inputs of a product that arithmetic bounds."""


class ProfiledMachine:
    """Prices operators from measured points. A format that was not measured uses the times of the nearest one, scaled by bytes."""

    def __init__(self, profile: MachineProfile) -> None:
        self.profile = profile
        fitted, refit = profile.runtime, profile.refit
        self._operators = refit.operators if refit else 1.0
        scale = refit.overheads if refit else 1.0
        self.overheads = Overheads(
            step_s=scale * fitted.step_s,
            layer_s=scale * fitted.layer_s,
            sequence_s=scale * fitted.sequence_s,
            element_s=scale * fitted.element_s,
            joins=True,
            source=f"profile {profile.name}",
        )
        self._gemm = GemmTable(profile.gemm)
        self._attention = AttentionTable(profile.attention)
        self._dtype = next((dtype for dtype in DTYPES for variant in self._attention.variants if variant[2] == dtype), "bf16")
        self._stand_ins_by_variant = _stand_ins(self._attention.variants, self._dtype)
        self._fallback = CatalogueMachine(profile.hardware, self.overheads)

    @property
    def basis(self) -> Basis:
        """Measured on the machine that is planned for."""
        return Basis.PROFILED

    @property
    def speed_spread(self) -> tuple[float, float]:
        """None: a profile has the power limit that it was measured under."""
        return 1.0, 1.0

    @property
    def contended(self) -> bool:
        """Whether other processes used the machine while it was measured."""
        return self.profile.shared

    @property
    def working_memory_bytes(self) -> int:
        """Bytes of usable memory of one device."""
        return self.profile.hardware.memory_bytes

    def roofline(self, operators: Iterable[Operator]) -> None:
        """None: the tables were measured here."""

    def dtypes(self, own: str) -> tuple[str, ...]:
        """By the measured times of one product of many rows, as in a prompt; types that were not measured are left out."""
        measured = [dtype for dtype in DTYPES if dtype in self._gemm.formats]
        return fastest_first({dtype: self._gemm.seconds(dtype, *PROMPT_PRODUCT, 0) for dtype in measured}, own)

    def gemm_s(self, gemm: Gemm, working_set_bytes: float) -> float:
        """Seconds by the table of the format; of the nearest measured format, scaled by bytes, where it was not measured."""
        if gemm.format in self._gemm.formats:
            return self._operators * gemm.groups * self._gemm.seconds(gemm.format, gemm.m, gemm.n, gemm.k, working_set_bytes)
        nearest = self._nearest(gemm.format)
        ratio = weight_format(gemm.format).bytes_per_element(row_elements=gemm.k) / weight_format(nearest).bytes_per_element(
            row_elements=gemm.k
        )
        return self._operators * gemm.groups * max(ratio, 0.5) * self._gemm.seconds(nearest, gemm.m, gemm.n, gemm.k, working_set_bytes)

    def attention_s(self, call: AttentionCall) -> float:
        """Seconds by the table of this backend, layout and cache format.

        Where it was not measured, another backend or layout with that cache format stands in, times the ratio of the two without
        quantisation. A cache that is not quantised is priced as in the measured type, longer where it has more bytes.
        `AUTO` is the faster of the exact backends.
        """
        if call.kv_format in DTYPES and call.kv_format != self._dtype:
            ratio = weight_format(call.kv_format).bits / weight_format(self._dtype).bits
            return max(ratio, 1.0) * self.attention_s(replace(call, kv_format=self._dtype))
        if call.backend == AttentionBackend.AUTO:
            return min(self.attention_s(replace(call, backend=name)) for name in EXACT)
        if _variant(call) in self._attention.variants:
            return call.computed_share * self._measured_s(call)
        stand_in = self._stand_ins_by_variant.get(_variant(call))
        if stand_in is None:
            return attention_bytes(call) / self.profile.read_bytes_per_s + self._fallback.attention_s(call)
        measured = replace(call, backend=AttentionBackend(stand_in[0]), layout=KvLayout(stand_in[1]))
        own_s, stand_in_s = (self._measured_s(replace(variant, kv_format=self._dtype)) for variant in (call, measured))
        return call.computed_share * self._measured_s(measured) * own_s / stand_in_s

    def _measured_s(self, call: AttentionCall) -> float:
        return self._operators * self._attention.seconds(
            *_variant(call),
            batch=call.sequences,
            q_tokens=call.q_tokens,
            kv_tokens=call.kv_tokens,
            q_heads=call.q_heads,
            kv_heads=call.kv_heads,
            head_dim=call.head_dim,
        )

    def cost_equivalent(self, backend: AttentionBackend) -> AttentionBackend:
        """The backend itself: each has its own table, and which is fastest depends on the shape."""
        return backend

    def traffic_s(self, traffic: Traffic) -> float:
        """Seconds of recurrent states at the measured copy bandwidth; 0 for element-wise work, which the fitted overheads contain."""
        if traffic.flops == 0:
            return 0.0
        return max(traffic.moved_bytes / self.profile.copy_bytes_per_s, traffic.flops / self.profile.hardware.peak("fp32"))

    def all_reduce_s(self, reduce: AllReduce) -> float:
        """Seconds of one all-reduce by the catalogue: profiles are of one device."""
        return self._fallback.all_reduce_s(reduce)

    def exchange_s(self, exchange: Exchange) -> float:
        """Seconds of one all-to-all by the catalogue: profiles are of one device."""
        return self._fallback.exchange_s(exchange)

    def latency_s(self, gemm: Gemm) -> float:
        """0: the measured tables do not separate latency."""
        return 0.0

    def expert_scale(self, format: str, prefills: bool) -> float:
        """Time of grouped expert products as a multiple of `gemm_s`."""
        return self.overheads.expert_scale(self.profile.hardware.arch, format, prefills)

    def _nearest(self, format: str) -> str:
        """The measured format with the nearest number of bits."""
        bits = weight_format(format).bits
        return min(sorted(self._gemm.formats), key=lambda measured: abs(weight_format(measured).bits - bits))


Variant = tuple[str, str, str, str]
"""Backend, layout, cache format and phase of attention."""


def _variant(call: AttentionCall) -> Variant:
    return call.backend, call.layout, call.kv_format, call.phase


def _stand_ins(measured: frozenset[Variant], dtype: str) -> dict[Variant, tuple[str, str]]:
    """For each variant that was not measured, the backend and layout that stand in: the same backend first, then the same layout.

    Both must have been measured with the cache in `dtype`.
    """
    plain = {(name, layout, phase) for name, layout, kv_format, phase in measured if kv_format == dtype}
    narrow = sorted(variant for variant in measured if variant[2] != dtype and (variant[0], variant[1], variant[3]) in plain)
    stand_ins: dict[Variant, tuple[str, str]] = {}
    for name, layout, phase in sorted(plain):
        for kv_format in {variant[2] for variant in narrow}:
            options = [(variant[0], variant[1]) for variant in narrow if variant[2:] == (kv_format, phase)]
            if options and (name, layout) not in options:
                stand_ins[name, layout, kv_format, phase] = min(
                    options, key=lambda option: (option[0] != name, option[1] != layout, option)
                )
    return stand_ins
