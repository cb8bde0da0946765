"""What operators take on a machine: measured tables where there are some, rooflines with published efficiency elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from advisor.estimate.operators import AllReduce, AttentionCall, Exchange, Gemm, Operator, Traffic
from advisor.profiles.engines import Overheads, Scales
from advisor.profiles.formats import weight_format
from advisor.profiles.metrics import Basis


class Machine(Protocol):
    """A device that prices operators."""

    overheads: Overheads

    @property
    def basis(self) -> Basis:
        """How well its times are known."""

    @property
    def working_memory_bytes(self) -> int:
        """Usable memory of one device."""

    def gemm_s(self, gemm: Gemm, working_set_bytes: float) -> float:
        """Seconds of one of the products, the step touching so many bytes of weights in all."""

    def attention_s(self, call: AttentionCall) -> float:
        """Seconds of one layer."""

    def traffic_s(self, traffic: Traffic) -> float:
        """Seconds of one place."""

    def all_reduce_s(self, reduce: AllReduce) -> float:
        """Seconds of one sum."""

    def exchange_s(self, exchange: Exchange) -> float:
        """Seconds of one exchange of tokens between the holders of experts."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Where the time of a step goes, seconds."""

    products_s: float = 0.0
    attention_s: float = 0.0
    other_s: float = 0.0
    collectives_s: float = 0.0
    overhead_s: float = 0.0

    @property
    def total_s(self) -> float:
        """The whole step."""
        return self.products_s + self.attention_s + self.other_s + self.collectives_s + self.overhead_s


def price(machine: Machine, operators: Iterable[Operator], working_set_bytes: float, scales: Scales) -> Shares:
    """Seconds of operators that run one after another, without the engine's overheads."""
    products = experts = attention = other = collectives = 0.0
    for operator in operators:
        match operator:
            case Gemm():
                seconds = operator.count * machine.gemm_s(operator, working_set_bytes)
                if operator.routed:
                    experts += seconds
                else:
                    products += seconds
            case AttentionCall():
                attention += operator.count * machine.attention_s(operator)
            case Traffic():
                other += operator.count * machine.traffic_s(operator)
            case AllReduce():
                collectives += operator.count * machine.all_reduce_s(operator)
            case Exchange():
                collectives += operator.count * machine.exchange_s(operator)
    return Shares(
        scales.products * products + scales.experts * experts, scales.attention * attention, other, scales.collectives * collectives
    )


def gemm_bytes(gemm: Gemm) -> float:
    """Bytes of one product, all its groups: weights once, activations in and out in two bytes."""
    per_weight = weight_format(gemm.format).bytes_per_element(row_elements=gemm.k)
    return gemm.groups * (gemm.n * gemm.k * per_weight + 2.0 * gemm.m * (gemm.n + gemm.k))


def attention_flops(call: AttentionCall) -> float:
    """Operations of scores and their product with the values; a prefill sees the causal half of its own tokens."""
    seen = call.kv_tokens - (call.q_tokens - 1) / 2
    return 2.0 * call.sequences * call.q_tokens * max(seen, 1.0) * call.q_heads * (call.head_dim + call.value_dim)


def attention_bytes(call: AttentionCall) -> float:
    """Bytes of the cache that one layer reads."""
    per_element = weight_format(call.kv_format).bytes_per_element(row_elements=call.head_dim)
    elements = call.head_dim if call.latent and call.phase == "decode" else call.head_dim + call.value_dim
    return call.sequences * call.kv_tokens * call.kv_heads * elements * per_element
