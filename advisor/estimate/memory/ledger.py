"""The memory ledger: what each device holds, part by part, and how many requests fit."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from advisor.backends.deployment import Deployment, KvLayout, Parallel, Weights
from advisor.estimate.memory.activations import activation_bytes
from advisor.estimate.memory.retention import retained_tokens, retention_of, transient_tokens
from advisor.estimate.operators.structure import expert_devices, is_routed, stored_format, structure_of
from advisor.profiles.architectures.layers import LatentAttention, Matrix, RecurrentMixer, SelfAttention
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import EngineProfile, load_engine
from advisor.profiles.formats import CONTIGUOUS_PAGE_TOKENS, GIB, RECENT_PAGES, weight_format
from advisor.profiles.request import Workload

KV_SCALE_BITS = 16
"""One fp16 scale per token, head and side of a quantised cache, where an engine keeps one for every row."""


@dataclass(frozen=True, slots=True)
class Ledger:
    """Bytes per device."""

    weights_bytes: float
    draft_bytes: float
    kv_bytes: float
    activation_bytes: float
    context_bytes: float
    transient_bytes: float = 0.0
    """The part of the cache that does not grow with the requests: what prompts hold beyond what stays of them."""

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
    """Bytes of the weights on the fullest device.

    Experts may be spread over more devices than the rest; heads of keys and values that do not divide are repeated; stages of a
    pipeline hold whole layers, the first one the embedding, the last one the head.
    """
    return _device_weight_bytes(deployment.model, deployment.weights, deployment.parallel)


@lru_cache(maxsize=4096)
def _device_weight_bytes(model: ModelSpec, weights: Weights, parallel: Parallel) -> float:
    deployment = Deployment(model, weights, parallel=parallel)
    experts, others = _weight_bytes(model, weights)
    ends = [_outside_bytes(deployment, matrix) for matrix in (model.embedding, model.head) if matrix is not None]
    inside = others - sum(ends) + _repeated_bytes(model, deployment.weights, parallel.tensor)
    layers = (inside / parallel.tensor + experts / expert_devices(parallel)) * stage_share(deployment)
    return layers + (sum(ends) if parallel.pipeline == 1 else max(ends)) / parallel.tensor


def _left_on_host_bytes(deployment: Deployment) -> float:
    """Bytes that the fullest device does without when the host looks embeddings up; a tied head stays.

    Of several stages the last one holds the head in the place of a layer, where layers do not divide.
    """
    model, parallel = deployment.model, deployment.parallel
    if model.head is None or model.embedding is None:
        return 0.0
    embedding, head = (_outside_bytes(deployment, matrix) / parallel.tensor for matrix in (model.embedding, model.head))
    if parallel.pipeline == 1:
        return embedding
    if len(model.layers) % parallel.pipeline == 0:
        return max(embedding, head) - head
    layer = device_weight_bytes(replace(deployment, parallel=replace(parallel, pipeline=1))) - embedding - head
    return max(embedding, head) - max(head - layer / len(model.layers), 0.0)


def stage_share(deployment: Deployment) -> float:
    """The share of the layers that the fullest stage of a pipeline holds: whole layers only."""
    layers = len(deployment.model.layers)
    return math.ceil(layers / deployment.parallel.pipeline) / layers


def _outside_bytes(deployment: Deployment, matrix: Matrix) -> float:
    return _matrix_bytes(matrix.n, matrix.k, stored_format(deployment, matrix))


@lru_cache(maxsize=1024)
def _repeated_bytes(model: ModelSpec, weights: Weights, ranks: int) -> float:
    """Bytes of key and value projections that a group holds more than once, as it has more devices than there are heads."""
    deployment, total = Deployment(model, weights), 0.0
    for layer, count in model.layer_counts() if ranks > 1 else ():
        if isinstance(layer.mixer, SelfAttention):
            surplus = heads_per_rank(layer.mixer.kv_heads, ranks) * ranks / layer.mixer.kv_heads - 1
            pair = (matrix for matrix in layer.matrices if matrix.name in ("k_proj", "v_proj"))
            total += surplus * count * sum(_outside_bytes(deployment, matrix) for matrix in pair)
    return total


def heads_per_rank(heads: int, ranks: int) -> int:
    """Heads that one device of a tensor-parallel group holds: whole ones, repeated where there are fewer than devices."""
    return math.ceil(heads / ranks)


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


def shared_tokens(deployment: Deployment, workload: Workload, engine: EngineProfile) -> int:
    """Tokens of the shared prefix that stand in full blocks, and so in the cache once for all requests; 0 where none are shared."""
    if workload.shared_prefix_tokens is None or not deployment.kv.prefix_reuse:
        return 0
    return full_blocks(workload.shared_prefix_tokens, block_tokens(deployment, engine))


def reused_tokens(shared: int, prompt: int, block: int) -> int:
    """Tokens of a prompt that it finds in the cache, of so many that are shared: the last one is always computed."""
    return min(shared, full_blocks(prompt - 1, block))


def full_blocks(tokens: int, block: int) -> int:
    """Tokens in full blocks."""
    return tokens // block * block


def kv_bytes_per_token(deployment: Deployment) -> float:
    """Bytes that one more token of one sequence takes in the layers that keep the whole context."""
    return kv_bytes_of_sequence(deployment, 2) - kv_bytes_of_sequence(deployment, 1)


def kv_bytes_of_sequence(deployment: Deployment, tokens: int) -> float:
    """Bytes of one sequence's cache and states, windows respected, without rounding to blocks."""
    model = deployment.model
    states = sum(count * mixer.state_bytes for mixer, count in structure_of(model).mixers if isinstance(mixer, RecurrentMixer))
    return model_kv_bytes(model, tokens, deployment.kv.format, has_scales=_has_scales(deployment)) + states


def _has_scales(deployment: Deployment) -> bool:
    """Whether the engine keeps a scale for every row of this cache."""
    return deployment.kv.format in load_engine(deployment.engine).kv_rows.scaled


@lru_cache(maxsize=4096)
def model_kv_bytes(model: ModelSpec, tokens: int, kv_format: str, ranks: int = 1, *, has_scales: bool = False) -> float:
    """Bytes of the keys and values of one sequence of `tokens` tokens, on one device of a tensor-parallel group of `ranks`.

    A group splits heads, never one head; compressed vectors of latent attention are kept whole by every device. `has_scales` adds
    a scale for each token and head.
    """
    format, total = weight_format(kv_format), 0.0
    for mixer, count in structure_of(model).mixers:
        if isinstance(mixer, SelfAttention):
            kept = min(tokens, mixer.window) if mixer.window else tokens
            heads = heads_per_rank(mixer.kv_heads, ranks)
            scales = 2 * heads * KV_SCALE_BITS / 8 if has_scales else 0.0
            elements = heads * (mixer.head_dim + mixer.value_dim) + mixer.index_dim
            total += count * kept * (elements * format.bits / 8 + scales)
        elif isinstance(mixer, LatentAttention):
            total += count * mixer.cached_elements(tokens) * format.bits / 8
    return total


def device_kv_bytes(deployment: Deployment, tokens: int) -> float:
    """Bytes of one sequence's cache and states on the fullest device of its replica."""
    ranks = deployment.parallel.tensor
    states = sum(count * mixer.state_bytes for mixer, count in structure_of(deployment.model).mixers if isinstance(mixer, RecurrentMixer))
    kept = model_kv_bytes(deployment.model, tokens, deployment.kv.format, ranks, has_scales=_has_scales(deployment))
    return (kept + recent_bytes(deployment) / ranks + states / ranks) * stage_share(deployment)


def recent_bytes(deployment: Deployment) -> float:
    """Bytes of the newest pages of one sequence that its engine keeps in 16 bits beside this cache."""
    if deployment.kv.format not in load_engine(deployment.engine).kv_rows.recent:
        return 0.0
    tokens = RECENT_PAGES * (deployment.kv.block_tokens or CONTIGUOUS_PAGE_TOKENS)
    mixers = ((mixer, count) for mixer, count in structure_of(deployment.model).mixers if isinstance(mixer, SelfAttention))
    return sum(2.0 * count * tokens * mixer.kv_heads * (mixer.head_dim + mixer.value_dim) for mixer, count in mixers)


def ledger(deployment: Deployment, workload: Workload, engine: EngineProfile, sequences: int) -> Ledger:
    """What one device holds while `sequences` requests of the workload are in flight on its replica."""
    held_tokens = sequence_tokens(deployment, workload, engine)
    passing = device_kv_bytes(deployment, transient_tokens(deployment, workload, engine)) if retention_of(deployment) is not None else 0.0
    shared = shared_bytes(deployment, workload, engine) if sequences else 0.0
    kv = sequences * (device_kv_bytes(deployment, retained_tokens(deployment, held_tokens)) - shared) + shared + passing
    draft_weights = draft_kv = 0.0
    draft = deployment.decoding.draft_model
    if draft is not None:
        draft_weights = 2.0 * _parameters(draft)
        draft_kv = sequences * model_kv_bytes(draft, held_tokens, "bf16")
    return Ledger(
        weights_bytes=device_weight_bytes(deployment) - (_left_on_host_bytes(deployment) if engine.embedding_on_host else 0.0),
        draft_bytes=draft_weights,
        kv_bytes=kv + draft_kv,
        activation_bytes=activation_bytes(deployment, workload, engine, sequences),
        context_bytes=_context_bytes(deployment, engine),
        transient_bytes=passing,
    )


@lru_cache(maxsize=64)
def _parameters(model: ModelSpec) -> int:
    return model.parameters


def shared_bytes(deployment: Deployment, workload: Workload, engine: EngineProfile) -> float:
    """Bytes per device of the blocks that all requests share."""
    shared = shared_tokens(deployment, workload, engine)
    return device_kv_bytes(deployment, shared) if shared else 0.0


def sequence_tokens(deployment: Deployment, workload: Workload, engine: EngineProfile) -> int:
    """Tokens of the pool that one request may need: the longest, or its own rounded to blocks where a paged pool may run dry."""
    slack = deployment.decoding.draft_tokens
    if deployment.kv.layout == KvLayout.CONTIGUOUS:
        return workload.longest_tokens + slack
    block = block_tokens(deployment, engine)
    needed = workload.context_tokens if workload.oversubscribe else workload.longest_tokens
    return math.ceil((needed + slack) / block) * block


def block_tokens(deployment: Deployment, engine: EngineProfile) -> int:
    """Tokens of one block of a paged cache.

    Where states and keys share one pool, all its pages have one size: a block of keys and values grows until it holds a state.
    """
    usual = max(deployment.kv.block_tokens, 1)
    return max(usual, _state_tokens(deployment.model, deployment.kv.format, usual)) if engine.states_in_pool else usual


@lru_cache(maxsize=256)
def _state_tokens(model: ModelSpec, kv_format: str, block: int) -> int:
    """Tokens, in whole usual blocks, whose keys and values of one layer take as much as the largest state; 0 without either."""
    mixers = [mixer for mixer, _ in structure_of(model).mixers]
    states = [mixer.state_bytes for mixer in mixers if isinstance(mixer, RecurrentMixer)]
    keys = [mixer.cache_elements for mixer in mixers if isinstance(mixer, SelfAttention | LatentAttention)]
    if not states or not keys:
        return 0
    return math.ceil(max(states) / (max(keys) * weight_format(kv_format).bits / 8) / block) * block


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes of each device as a straight line over the requests in flight."""

    fixed_bytes: float
    sequence_bytes: float
    inexact_fixed_bytes: float = 0.0
    inexact_sequence_bytes: float = 0.0
    """The part of each that shapes do not give exactly: activations, libraries."""
    weights_bytes: float = 0.0
    """A draft's included."""

    def inexact_bytes(self, sequences: int) -> float:
        """The part of the total that is not exact."""
        return self.inexact_fixed_bytes + sequences * self.inexact_sequence_bytes

    def total_bytes(self, sequences: int) -> float:
        """Bytes with so many requests in flight."""
        return self.fixed_bytes + sequences * self.sequence_bytes

    def max_sequences(self, budget_bytes: float) -> int:
        """Most requests within a budget; 0 when not even one fits."""
        if self.total_bytes(1) > budget_bytes:
            return 0
        return max(int((budget_bytes - self.fixed_bytes) / max(self.sequence_bytes, 1.0)), 1)


def footprint(deployment: Deployment, workload: Workload, engine: EngineProfile) -> Footprint:
    """The ledger's totals at any number of requests: every part of it is linear."""
    one = ledger(deployment, workload, engine, 1)
    exact_bytes = one.weights_bytes + one.draft_bytes
    inexact_bytes = activation_bytes(deployment, workload, engine, 0) + one.context_bytes
    fixed_bytes = exact_bytes + one.transient_bytes + inexact_bytes + shared_bytes(deployment, workload, engine)
    total_bytes = one.total_bytes
    return Footprint(fixed_bytes, total_bytes - fixed_bytes, inexact_bytes, total_bytes - one.exact_bytes - inexact_bytes, exact_bytes)


def _context_bytes(deployment: Deployment, engine: EngineProfile) -> float:
    peers = engine.trial.peers_gib if engine.trial is not None and deployment.parallel.tensor > 1 else 0.0
    return (engine.context_gib + peers) * GIB


def _matrix_bytes(n: int, k: int, format: str) -> float:
    return n * k * weight_format(format).bytes_per_element(row_elements=k)
