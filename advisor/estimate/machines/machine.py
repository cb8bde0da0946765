"""Seconds of operators on a machine: the interface of machines, and the price of a step's operators.

`profiled.py` implements it by tables measured on the machine, `catalogue.py` by its data sheet and published kernel measurements.
"""

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


@dataclass(frozen=True, slots=True)
class Roofline:
    """Least seconds of operators on one device."""

    compute_s: float
    """Of all operations, at peak."""
    read_s: float
    """Of reading weights and cached keys and values, at the data sheet's bandwidth; 0 where a cache of the device holds all of them."""
    sequential_s: float
    """Of the operators one after another: each computes or reads, and element-wise ones move their activations."""


class Machine(Protocol):
    """A device that prices operators. Every time is that of one operator, whatever its `count`."""

    overheads: Overheads
    """Seconds that an engine adds to its operators on this device."""

    @property
    def basis(self) -> Basis:
        """Basis of the times: `profiled`, `catalogue`, `architecture` or `datasheet`."""

    @property
    def contended(self) -> bool:
        """Whether other processes used the device while its times were measured."""

    @property
    def speed_spread(self) -> tuple[float, float]:
        """Factors from the priced speed to the least and the greatest that a setting of the device, such as a power limit, leaves open."""

    @property
    def working_memory_bytes(self) -> int:
        """Usable memory of one device."""

    def dtypes(self, own: str) -> tuple[str, ...]:
        """Types of activations worth choosing from, the fastest first, for a checkpoint in `own`; see `fastest_first`."""

    def gemm_s(self, gemm: Gemm, working_set_bytes: float) -> float:
        """Seconds of a matrix product in a step that reads `working_set_bytes` of weights in all."""

    def attention_s(self, call: AttentionCall) -> float:
        """Seconds of attention in one layer."""

    def cost_equivalent(self, backend: AttentionBackend) -> AttentionBackend:
        """A backend whose times equal this one's for every call: the same for all such backends, or `backend` itself."""

    def traffic_s(self, traffic: Traffic) -> float:
        """Seconds of one operator that is bound by bandwidth or by scalar operations."""

    def all_reduce_s(self, reduce: AllReduce) -> float:
        """Seconds of one all-reduce."""

    def exchange_s(self, exchange: Exchange) -> float:
        """Seconds of one all-to-all between devices that hold experts."""

    def latency_s(self, gemm: Gemm) -> float:
        """The part of `gemm_s` that is latency, of which back-to-back kernels hide some."""

    def roofline(self, operators: Iterable[Operator]) -> Roofline | None:
        """The least seconds of operators by the data sheet; `None` where times were measured, which no data sheet overrules."""

    def expert_scale(self, format: str, prefills: bool) -> float:
        """Time of grouped expert products over weights of a format, as a multiple of `gemm_s`."""


@dataclass(frozen=True, slots=True)
class Shares:
    """Seconds of a step by kind of work."""

    products_s: float = 0.0
    attention_s: float = 0.0
    other_s: float = 0.0
    collectives_s: float = 0.0
    overhead_s: float = 0.0

    @property
    def total_s(self) -> float:
        """Seconds of the whole step."""
        return self.products_s + self.attention_s + self.other_s + self.collectives_s + self.overhead_s


def price(machine: Machine, operators: Iterable[Operator], working_set_bytes: float, prefills: bool) -> Shares:
    """Seconds of operators that run one after another; `prefills` says whether their step has prompt tokens. Overheads are left out.

    Kernel times are scaled by the engine's own factors: `Overheads.scales`.
    """
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
    """The field of `Scales` by which the time of an operator is multiplied."""
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
    """Seconds of one operator, whatever its count, before the engine's scales."""
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
    """Bytes of one product over all groups: weights once, activations in and out."""
    per_weight = weight_format(gemm.format).bytes_per_element(row_elements=gemm.k)
    per_activation = 4.0 if gemm.dtype == "fp32" else 2.0
    return gemm.groups * (gemm.n * gemm.k * per_weight + per_activation * gemm.m * (gemm.n + gemm.k))


def attention_flops(call: AttentionCall) -> float:
    """Operations of scores and of their product with the values; a new token attends to the new tokens before it only."""
    keys = call.kv_tokens - (call.q_tokens - 1) / 2
    return 2.0 * call.computed_share * call.sequences * call.q_tokens * max(keys, 1.0) * call.q_heads * (call.head_dim + call.value_dim)


def attention_bytes(call: AttentionCall) -> float:
    """Bytes of the cache that attention reads in one layer; once per query head for the backend that shares no heads."""
    per_element = weight_format(call.kv_format).bytes_per_element(row_elements=call.head_dim)
    elements = call.head_dim if call.latent and call.phase == Phase.DECODE else call.head_dim + call.value_dim
    heads = call.q_heads if call.backend == AttentionBackend.UNSHARED and call.phase == Phase.DECODE else call.kv_heads
    return call.sequences * call.kv_tokens * heads * elements * per_element


def score_bytes(call: AttentionCall) -> float:
    """Bytes that materialised scores move, as in llama.cpp without -fa or transformers' eager attention.

    Sixteen bytes a score in fp32: written, read and written by the softmax, read for the product with the values.
    """
    return 16.0 * call.sequences * call.q_heads * call.q_tokens * call.kv_tokens
