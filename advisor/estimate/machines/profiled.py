"""A machine with a measured profile: products, attention and overheads read from its tables."""

from dataclasses import replace

from advisor.backends.deployment import AttentionBackend, KvLayout
from advisor.estimate.machines.catalogue import CatalogueMachine
from advisor.estimate.machines.machine import attention_bytes
from advisor.estimate.operators.types import EXACT, AllReduce, AttentionCall, Exchange, Gemm, Traffic
from advisor.profiles.engines import Overheads
from advisor.profiles.formats import weight_format
from advisor.profiles.interpolate import AttentionTable, GemmTable
from advisor.profiles.machine import MachineProfile
from advisor.profiles.metrics import Basis


class ProfiledMachine:
    """Prices operators from measured points; a format that was not measured borrows the nearest one's efficiency."""

    def __init__(self, profile: MachineProfile) -> None:
        self.profile = profile
        fitted, taught = profile.runtime, profile.refit
        self._operators = taught.operators if taught else 1.0
        beyond = taught.overheads if taught else 1.0
        self.overheads = Overheads(
            step_s=beyond * fitted.step_s,
            layer_s=beyond * fitted.layer_s,
            sequence_s=beyond * fitted.sequence_s,
            element_s=beyond * fitted.element_s,
            joins=True,
            source=f"profile {profile.name}",
        )
        self._gemm = GemmTable(profile.gemm)
        self._attention = AttentionTable(profile.attention)
        self._stand_ins_by_variant = _stand_ins(self._attention.variants)
        self._fallback = CatalogueMachine(profile.hardware, self.overheads)

    @property
    def basis(self) -> Basis:
        """Measured on the machine that is planned for."""
        return Basis.PROFILED

    @property
    def working_memory_bytes(self) -> int:
        """Usable memory of one device."""
        return self.profile.hardware.memory_bytes

    def gemm_s(self, gemm: Gemm, working_set_bytes: float) -> float:
        """The table's time; for a format that was not measured, the nearest measured one scaled by its bytes."""
        if gemm.format in self._gemm.formats:
            return self._operators * gemm.groups * self._gemm.seconds(gemm.format, gemm.m, gemm.n, gemm.k, working_set_bytes)
        nearest = self._nearest(gemm.format)
        ratio = weight_format(gemm.format).bytes_per_element(row_elements=gemm.k) / weight_format(nearest).bytes_per_element(
            row_elements=gemm.k
        )
        return self._operators * gemm.groups * max(ratio, 0.5) * self._gemm.seconds(nearest, gemm.m, gemm.n, gemm.k, working_set_bytes)

    def attention_s(self, call: AttentionCall) -> float:
        """The table's time for this implementation, layout and cache format; a stand-in where none was measured.

        A cache format borrows from another implementation or layout that it was measured in, times what the two differ by in bf16.
        The fastest of all takes what the fastest of those that were measured takes.
        """
        if call.backend == AttentionBackend.AUTO:
            return min(self.attention_s(replace(call, backend=name)) for name in EXACT)
        if _variant(call) in self._attention.variants:
            return call.computed_share * self._measured_s(call)
        lender = self._stand_ins_by_variant.get(_variant(call))
        if lender is None:
            return attention_bytes(call) / self.profile.read_bytes_per_s + self._fallback.attention_s(call)
        known = replace(call, backend=AttentionBackend(lender[0]), layout=KvLayout(lender[1]))
        ours, theirs = (self._measured_s(replace(each, kv_format="bf16")) for each in (call, known))
        return call.computed_share * self._measured_s(known) * ours / theirs

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

    def cost_equivalent(self, implementation: AttentionBackend) -> AttentionBackend:
        """Each has its own table; the fastest of all is another one from shape to shape."""
        return implementation

    def traffic_s(self, traffic: Traffic) -> float:
        """Recurrent states at the measured copy bandwidth; element-wise work is in the fitted overheads."""
        if traffic.flops == 0:
            return 0.0
        return max(traffic.moved_bytes / self.profile.copy_bytes_per_s, traffic.flops / self.profile.hardware.peak("fp32"))

    def all_reduce_s(self, reduce: AllReduce) -> float:
        """Not measured on one machine: as the data sheet has it."""
        return self._fallback.all_reduce_s(reduce)

    def exchange_s(self, exchange: Exchange) -> float:
        """Not measured on one machine: as the data sheet has it."""
        return self._fallback.exchange_s(exchange)

    def latency_s(self, gemm: Gemm) -> float:
        """Not told apart in the measured tables."""
        return 0.0

    def expert_scale(self, format: str, prefills: bool) -> float:
        """Grouped products were measured as plain ones."""
        return self.overheads.expert_scale(self.profile.hardware.arch, format, prefills)

    def _nearest(self, format: str) -> str:
        wanted = weight_format(format).bits
        return min(sorted(self._gemm.formats), key=lambda known: abs(weight_format(known).bits - wanted))


Variant = tuple[str, str, str, str]
"""Implementation, layout, cache format and phase of attention."""


def _variant(call: AttentionCall) -> Variant:
    return call.backend, call.layout, call.kv_format, call.phase


def _stand_ins(measured: frozenset[Variant]) -> dict[Variant, tuple[str, str]]:
    """For each variant that was not measured, the way in which its format was: the same implementation first, then the same layout.

    Both ways must be known in bf16.
    """
    plain = {(name, layout, phase) for name, layout, kv_format, phase in measured if kv_format == "bf16"}
    narrow = sorted(variant for variant in measured if variant[2] != "bf16" and (variant[0], variant[1], variant[3]) in plain)
    found: dict[Variant, tuple[str, str]] = {}
    for name, layout, phase in sorted(plain):
        for kv_format in {variant[2] for variant in narrow}:
            known = [(each[0], each[1]) for each in narrow if each[2:] == (kv_format, phase)]
            if known and (name, layout) not in known:
                found[name, layout, kv_format, phase] = min(known, key=lambda way: (way[0] != name, way[1] != layout, way))
    return found
