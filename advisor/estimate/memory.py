"""The memory ledger: what each device holds, part by part, and how many requests fit."""

import math
from dataclasses import dataclass
from functools import lru_cache

from advisor.backends.deployment import Deployment, Weights
from advisor.estimate.operators import expert_devices, is_routed, stored_format, structure_of
from advisor.profiles.engines import EngineProfile
from advisor.profiles.formats import weight_format
from advisor.profiles.layers import LatentAttention, RecurrentMixer, SelfAttention
from advisor.profiles.models import ModelSpec
from advisor.profiles.request import Workload

GIB = 2**30
ACTIVATION_PASSES = 11
"""Hidden-sized buffers alive at once per token of a step (aiconfigurator's c = 11 for Llama at TP 1)."""
LOGIT_BYTES = 4
KV_SCALE_BITS = 16
"""One fp16 scale per token, head and side of a quantised cache, as the runtime keeps it."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Bytes per device."""

    weights_bytes: float
    draft_bytes: float
    kv_bytes: float
    activation_bytes: float
    context_bytes: float

    @property
    def total_bytes(self) -> float:
        """Everything the process holds."""
        return self.exact_bytes + self.activation_bytes + self.context_bytes

    @property
    def exact_bytes(self) -> float:
        """What follows from shapes and formats alone."""
        return self.weights_bytes + self.draft_bytes + self.kv_bytes


def weight_bytes(deployment: Deployment) -> float:
    """Bytes of all weights of one replica, scales included, before they are spread over devices."""
    return sum(_weight_bytes(deployment.model, deployment.weights))


def device_weight_bytes(deployment: Deployment) -> float:
    """Bytes of the weights on each device: experts may be spread over more devices than the rest."""
    parallel = deployment.parallel
    experts, others = _weight_bytes(deployment.model, deployment.weights)
    return (others / parallel.tensor + experts / expert_devices(parallel)) / parallel.pipeline


@lru_cache(maxsize=1024)
def _weight_bytes(model: ModelSpec, weights: Weights) -> tuple[float, float]:
    """Bytes of routed experts and of everything else."""
    deployment, structure = Deployment(model, weights), structure_of(model)
    experts = others = 0.0
    for matrix, count in structure.matrices:
        size = count * matrix.copies * _matrix_bytes(matrix.n, matrix.k, stored_format(deployment, matrix))
        size += 2.0 * count * matrix.copies * matrix.n * matrix.bias
        if is_routed(matrix):
            experts += size
        else:
            others += size
    for outside in (model.embedding, model.head):
        if outside is not None:
            others += _matrix_bytes(outside.n, outside.k, stored_format(deployment, outside))
    native = 4.0 if model.weight_format == "fp32" else 2.0
    return experts, others + native * structure.vector_parameters


def kv_bytes_per_token(deployment: Deployment) -> float:
    """Bytes that one more token of one sequence takes in the layers that keep the whole context."""
    return kv_bytes_of_sequence(deployment, 2) - kv_bytes_of_sequence(deployment, 1)


def kv_bytes_of_sequence(deployment: Deployment, tokens: int) -> float:
    """Bytes of one sequence's cache and states, windows respected, without rounding to blocks."""
    model = deployment.model
    states = sum(count * mixer.state_bytes for mixer, count in structure_of(model).mixers if isinstance(mixer, RecurrentMixer))
    return model_kv_bytes(model, tokens, deployment.kv.format) + states


@lru_cache(maxsize=4096)
def model_kv_bytes(model: ModelSpec, tokens: int, kv_format: str) -> float:
    """Bytes of the keys and values of one sequence of `tokens` tokens."""
    format, total = weight_format(kv_format), 0.0
    for mixer, count in structure_of(model).mixers:
        if isinstance(mixer, SelfAttention):
            kept = min(tokens, mixer.window) if mixer.window else tokens
            scales = 2 * mixer.kv_heads * KV_SCALE_BITS / 8 if format.bits < 16 and kv_format != "fp8" else 0.0
            total += count * kept * (mixer.cache_elements * format.bits / 8 + scales)
        elif isinstance(mixer, LatentAttention):
            total += count * mixer.cached_elements(tokens) * format.bits / 8
    return total


def ledger(deployment: Deployment, workload: Workload, engine: EngineProfile, sequences: int) -> Ledger:
    """What one device holds while `sequences` requests of the workload are in flight on its replica."""
    held_tokens = sequence_tokens(deployment, workload)
    kv = sequences * kv_bytes_of_sequence(deployment, held_tokens) / _kv_shards(deployment)
    draft_weights = draft_kv = 0.0
    draft = deployment.decoding.draft_model
    if draft is not None:
        draft_weights = 2.0 * draft.parameters
        draft_kv = sequences * model_kv_bytes(draft, held_tokens, "bf16")
    return Ledger(
        weights_bytes=device_weight_bytes(deployment),
        draft_bytes=draft_weights,
        kv_bytes=kv + draft_kv,
        activation_bytes=_activation_bytes(deployment, workload, engine, sequences),
        context_bytes=engine.context_gib * GIB,
    )


def sequence_tokens(deployment: Deployment, workload: Workload) -> int:
    """Tokens of the pool that one request may need: the longest, or its own rounded to blocks where a paged pool may run dry."""
    slack = deployment.decoding.draft_tokens
    if deployment.kv.layout == "contiguous":
        return workload.longest_tokens + slack
    block = deployment.kv.block_tokens
    needed = workload.context_tokens if workload.oversubscribe else workload.longest_tokens
    return math.ceil((needed + slack) / block) * block


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of each device as a straight line over the requests in flight."""

    fixed_bytes: float
    sequence_bytes: float
    rest_fixed_bytes: float = 0.0
    rest_sequence_bytes: float = 0.0
    """The part of each that shapes do not give exactly: activations, libraries."""

    def rest_bytes(self, sequences: int) -> float:
        """The part of the total that is not exact."""
        return self.rest_fixed_bytes + sequences * self.rest_sequence_bytes

    def total_bytes(self, sequences: int) -> float:
        """Bytes with so many requests in flight."""
        return self.fixed_bytes + sequences * self.sequence_bytes

    def fitting(self, budget_bytes: float) -> int:
        """Most requests within a budget; 0 when not even one fits."""
        if self.total_bytes(1) > budget_bytes:
            return 0
        return max(int((budget_bytes - self.fixed_bytes) / max(self.sequence_bytes, 1.0)), 1)


def footprint(deployment: Deployment, workload: Workload, engine: EngineProfile) -> Footprint:
    """The ledger's totals at any number of requests: every part of it is linear."""
    empty, one = (ledger(deployment, workload, engine, n) for n in (0, 1))
    rests = [held.total_bytes - held.exact_bytes for held in (empty, one)]
    return Footprint(empty.total_bytes, one.total_bytes - empty.total_bytes, rests[0], rests[1] - rests[0])


def _kv_shards(deployment: Deployment) -> float:
    """A tensor-parallel group splits heads, never one head; latent caches are repeated on every rank."""
    parallel = deployment.parallel
    return parallel.pipeline * min(parallel.tensor, structure_of(deployment.model).kv_heads)


def _matrix_bytes(n: int, k: int, format: str) -> float:
    return n * k * weight_format(format).bytes_per_element(row_elements=k)


def _activation_bytes(deployment: Deployment, workload: Workload, engine: EngineProfile, sequences: int) -> float:
    budget = deployment.batching.token_budget or engine.token_budget
    tokens = min(workload.prompt_tokens, budget) + sequences
    model, ranks = deployment.model, deployment.parallel.tensor
    hidden = 2.0 * tokens * (ACTIVATION_PASSES * model.hidden_size + 2 * structure_of(model).widest / ranks)
    positions = deployment.decoding.draft_tokens + 1
    return hidden + LOGIT_BYTES * sequences * positions * model.vocab_size
