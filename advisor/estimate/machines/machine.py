"""What operators take on a machine: measured tables where there are some, rooflines with published efficiency elsewhere."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Protocol

from advisor.backends.deployment import AttentionBackend
from advisor.estimate.operators.types import AllReduce, AttentionCall, Exchange, Gemm, Operator, Phase, Traffic
from advisor.profiles.engines import Overheads
from advisor.profiles.formats import weight_format
from advisor.profiles.metrics import Basis

STREAM_EFFICIENCY = 0.8
"""Share of the peak bandwidth that element-wise kernels reach (aiconfigurator's constant for memory-bound operators)."""


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

    def cost_equivalent(self, implementation: AttentionBackend) -> AttentionBackend:
        """The implementation of attention by whose times this one is priced, whatever the call; itself unless that is so."""

    def traffic_s(self, traffic: Traffic) -> float:
        """Seconds of one place."""

    def all_reduce_s(self, reduce: AllReduce) -> float:
        """Seconds of one sum."""

    def exchange_s(self, exchange: Exchange) -> float:
        """Seconds of one exchange of tokens between the holders of experts."""

    def latency_s(self, gemm: Gemm) -> float:
        """Seconds of `gemm_s` that are latency: kernels that follow one another hide a part of it."""

    def expert_scale(self, format: str, prefills: bool) -> float:
        """How long grouped products over weights of a format take as a multiple of what `gemm_s` says."""


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


def price(machine: Machine, operators: Iterable[Operator], working_set_bytes: float, prefills: bool) -> Shares:
    """Seconds of operators that run one after another in a step that prefills or only decodes, without the engine's overheads."""
    overheads = machine.overheads
    scales = overheads.scales(prefills)
    products = attention = other = collectives = 0.0
    for operator in operators:
        seconds = operator_s(machine, operator, working_set_bytes)
        match term_of(operator):
            case "products" | "experts" as term:
                assert isinstance(operator, Gemm)
                latency = machine.latency_s(operator)
                scale = scales.products if term == "products" else machine.expert_scale(operator.format, prefills)
                products += operator.count * (scale * (seconds - latency) + overheads.latency * latency)
            case "attention":
                attention += scales.attention * operator.count * seconds
            case "latent":
                attention += scales.latent * operator.count * seconds
            case "recurrent":
                other += scales.recurrent * operator.count * seconds
            case "traffic":
                other += scales.traffic * operator.count * seconds
            case "collectives":
                collectives += scales.collectives * operator.count * seconds
    return Shares(products, attention, other, collectives)


def term_of(operator: Operator) -> str:
    """The field of `Scales` that says how an engine's operators of this kind compare with the measured kernels."""
    match operator:
        case Gemm():
            return "experts" if operator.routed else "products"
        case AttentionCall():
            return "latent" if operator.latent else "attention"
        case Traffic():
            return "recurrent" if operator.flops else "traffic"
        case AllReduce() | Exchange():
            return "collectives"


def operator_s(machine: Machine, operator: Operator, working_set_bytes: float) -> float:
    """Seconds of an operator once, as measured kernels take them."""
    match operator:
        case Gemm():
            return machine.gemm_s(operator, working_set_bytes)
        case AttentionCall():
            return machine.attention_s(operator)
        case Traffic():
            return machine.traffic_s(operator)
        case AllReduce():
            return machine.all_reduce_s(operator)
        case Exchange():
            return machine.exchange_s(operator)


def gemm_bytes(gemm: Gemm) -> float:
    """Bytes of one product, all its groups: weights once, activations in and out in two bytes."""
    per_weight = weight_format(gemm.format).bytes_per_element(row_elements=gemm.k)
    return gemm.groups * (gemm.n * gemm.k * per_weight + 2.0 * gemm.m * (gemm.n + gemm.k))


def attention_flops(call: AttentionCall) -> float:
    """Operations of scores and their product with the values; a prefill sees the causal half of its own tokens."""
    seen = call.kv_tokens - (call.q_tokens - 1) / 2
    return 2.0 * call.computed_share * call.sequences * call.q_tokens * max(seen, 1.0) * call.q_heads * (call.head_dim + call.value_dim)


def attention_bytes(call: AttentionCall) -> float:
    """Bytes of the cache that one layer reads."""
    per_element = weight_format(call.kv_format).bytes_per_element(row_elements=call.head_dim)
    elements = call.head_dim if call.latent and call.phase == Phase.DECODE else call.head_dim + call.value_dim
    heads = call.q_heads if call.backend == AttentionBackend.UNSHARED and call.phase == Phase.DECODE else call.kv_heads
    return call.sequences * call.kv_tokens * heads * elements * per_element


def score_bytes(call: AttentionCall) -> float:
    """Bytes that scores move when they are written out: made, masked and normalised in fp32, read again for the values.

    Sixteen bytes a score: written, read and written by the softmax, read (llama.cpp without -fa, transformers' eager attention).
    """
    return 16.0 * call.sequences * call.q_heads * call.q_tokens * call.kv_tokens
