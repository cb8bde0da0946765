"""Memory of a deployment on its fullest device, part by part, and how many requests fit.

`ledger` adds up the parts; the functions below it compute each.
"""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

from advisor.backends.deployment import Deployment, KvLayout, Parallel, Weights
from advisor.estimate.memory.activations import activation_bytes, most_step_tokens
from advisor.estimate.memory.cache import block_tokens, device_kv_bytes, model_kv_bytes
from advisor.estimate.memory.loading import padding_bytes, tower_bytes
from advisor.estimate.memory.retention import retained_tokens, retention_of, transient_tokens
from advisor.estimate.memory.sharding import heads_per_rank, stage_share
from advisor.estimate.operators.structure import expert_devices, is_routed, stored_format, structure_of
from advisor.profiles.architectures.layers import Matrix, SelfAttention
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import EngineProfile
from advisor.profiles.formats import GIB, weight_format
from advisor.profiles.request import Workload


@dataclass(frozen=True, slots=True)
class Ledger:
    """Bytes on the fullest device."""

    weights_bytes: float
    draft_bytes: float
    """Weights of a draft model."""
    kv_bytes: float
    """Caches and recurrent states of all sequences, a draft's included."""
    activation_bytes: float
    context_bytes: float
    """Driver context, libraries and communication buffers."""
    transient_bytes: float = 0.0
    """The part of `kv_bytes` that does not grow with the sequences: prompts being prefilled, beyond what their caches retain."""
    padding_bytes: tuple[float, float] = (0.0, 0.0)
    """How much less and how much more than in `weights_bytes` kernels may pad the weights."""

    @property
    def total_bytes(self) -> float:
        """Sum of all parts."""
        return self.exact_bytes + self.activation_bytes + self.context_bytes

    @property
    def exact_bytes(self) -> float:
        """The parts that follow from shapes and formats alone: weights and caches."""
        return self.weights_bytes + self.draft_bytes + self.kv_bytes


def weight_bytes(deployment: Deployment) -> float:
    """Bytes of all weights of one replica, scales included, before they are divided over devices."""
    return sum(_weight_bytes(deployment.model, deployment.weights))


def device_weight_bytes(deployment: Deployment) -> float:
    """Bytes of the weights on the fullest device.

    Experts may be divided over more devices than the other weights; key-value heads are replicated where there are fewer than ranks;
    a pipeline stage holds whole layers, the first one also the embedding, the last one the head.
    """
    return _device_weight_bytes(deployment.model, deployment.weights, deployment.parallel)


@lru_cache(maxsize=4096)
def _device_weight_bytes(model: ModelSpec, weights: Weights, parallel: Parallel) -> float:
    deployment = Deployment(model, weights, parallel=parallel)
    experts, others = _weight_bytes(model, weights)
    ends = [_stored_bytes(deployment, matrix) for matrix in (model.embedding, model.head) if matrix is not None]
    inside = others - sum(ends) + _replicated_bytes(model, deployment.weights, parallel.tensor)
    layers = (inside / parallel.tensor + experts / expert_devices(parallel)) * stage_share(deployment)
    return layers + (sum(ends) if parallel.pipeline == 1 else max(ends)) / parallel.tensor


def _embedding_on_host_bytes(deployment: Deployment) -> float:
    """Bytes that the fullest device saves where the host holds the embedding (llama.cpp); none where the head is tied to it.

    With several stages, the last one holds the head, and one layer less where layers do not divide evenly.
    """
    model, parallel = deployment.model, deployment.parallel
    if model.head is None or model.embedding is None:
        return 0.0
    embedding, head = (_stored_bytes(deployment, matrix) / parallel.tensor for matrix in (model.embedding, model.head))
    if parallel.pipeline == 1:
        return embedding
    if len(model.layers) % parallel.pipeline == 0:
        return max(embedding, head) - head
    layer = device_weight_bytes(replace(deployment, parallel=replace(parallel, pipeline=1))) - embedding - head
    return max(embedding, head) - max(head - layer / len(model.layers), 0.0)


def _stored_bytes(deployment: Deployment, matrix: Matrix) -> float:
    return _matrix_bytes(matrix.n, matrix.k, stored_format(deployment, matrix))


@lru_cache(maxsize=1024)
def _replicated_bytes(model: ModelSpec, weights: Weights, ranks: int) -> float:
    """Bytes of the copies of key and value projections in a tensor-parallel group with more ranks than key-value heads."""
    deployment, total = Deployment(model, weights), 0.0
    for layer, count in model.layer_counts() if ranks > 1 else ():
        if isinstance(layer.mixer, SelfAttention):
            surplus = heads_per_rank(layer.mixer.kv_heads, ranks) * ranks / layer.mixer.kv_heads - 1
            pair = (matrix for matrix in layer.matrices if matrix.name in ("k_proj", "v_proj"))
            total += surplus * count * sum(_stored_bytes(deployment, matrix) for matrix in pair)
    return total


@lru_cache(maxsize=1024)
def _weight_bytes(model: ModelSpec, weights: Weights) -> tuple[float, float]:
    """Bytes of routed experts, and of all other weights."""
    deployment, structure = Deployment(model, weights), structure_of(model)
    experts = others = 0.0
    for matrix, count in structure.matrices:
        size = count * matrix.copies * _matrix_bytes(matrix.n, matrix.k, stored_format(deployment, matrix))
        size += deployment.element_bytes * count * matrix.copies * matrix.n * matrix.bias
        if is_routed(matrix):
            experts += size
        else:
            others += size
    others += sum(_stored_bytes(deployment, matrix) for matrix in model.outside)
    others += deployment.element_bytes * structure.vector_parameters
    # What the checkpoint's files hold is known better than what its config says.
    share = model.file_share if weights.format == model.weight_format else 1.0
    return share * experts, share * others


def shared_tokens(deployment: Deployment, workload: Workload, engine: EngineProfile) -> int:
    """Tokens of the shared prefix in full blocks, which the cache holds once for all requests; 0 without prefix caching."""
    if workload.shared_prefix_tokens is None or not deployment.kv.prefix_reuse:
        return 0
    return full_blocks(workload.shared_prefix_tokens, block_tokens(deployment, engine))


def reused_tokens(shared: int, prompt: int, block: int) -> int:
    """Tokens of a prompt that prefix caching finds, where the cache holds `shared` tokens: in full blocks, never the last token."""
    return min(shared, full_blocks(prompt - 1, block))


def full_blocks(tokens: int, block: int) -> int:
    """`tokens` rounded down to whole blocks."""
    return tokens // block * block


def ledger(deployment: Deployment, workload: Workload, engine: EngineProfile, sequences: int) -> Ledger:
    """Bytes on the fullest device while `sequences` requests of the workload run on its replica."""
    tokens = sequence_tokens(deployment, workload, engine)
    transient = device_kv_bytes(deployment, transient_tokens(deployment, workload, engine)) if retention_of(deployment) is not None else 0.0
    shared = shared_bytes(deployment, workload, engine) if sequences else 0.0
    kv = sequences * (device_kv_bytes(deployment, retained_tokens(deployment, tokens)) - shared) + shared + transient
    draft_weights = draft_kv = 0.0
    draft = deployment.decoding.draft_model
    if draft is not None:
        draft_weights = deployment.element_bytes * _parameters(draft)
        draft_kv = sequences * model_kv_bytes(draft, tokens, deployment.dtype, deployment.engine)
    on_host = _embedding_on_host_bytes(deployment) if engine.embedding_on_host else 0.0
    least, usual, most = padding_bytes(deployment)
    return Ledger(
        weights_bytes=device_weight_bytes(deployment) + tower_bytes(deployment) + usual - on_host,
        draft_bytes=draft_weights,
        kv_bytes=kv + draft_kv,
        activation_bytes=activation_bytes(deployment, workload, engine, sequences),
        context_bytes=_context_bytes(deployment, engine),
        transient_bytes=transient,
        padding_bytes=(usual - least, most - usual),
    )


@lru_cache(maxsize=64)
def _parameters(model: ModelSpec) -> int:
    return model.parameters


def shared_bytes(deployment: Deployment, workload: Workload, engine: EngineProfile) -> float:
    """Bytes on a device of the blocks of a shared prefix."""
    shared = shared_tokens(deployment, workload, engine)
    return device_kv_bytes(deployment, shared) if shared else 0.0


def sequence_tokens(deployment: Deployment, workload: Workload, engine: EngineProfile) -> int:
    """Cache tokens that one request reserves: those of the longest request, or its own in whole blocks where the pool is oversubscribed."""
    slack = deployment.decoding.draft_tokens
    if deployment.kv.layout == KvLayout.CONTIGUOUS:
        return workload.longest_tokens + slack
    block = block_tokens(deployment, engine)
    needed = workload.reserved_tokens(deployment.batching.max_sequences)
    return math.ceil((needed + slack) / block) * block


@dataclass(frozen=True, slots=True)
class Footprint:
    """Bytes on the fullest device as a linear function of the sequences that run."""

    fixed_bytes: float
    sequence_bytes: float
    inexact_fixed_bytes: float = 0.0
    """The part of `fixed_bytes` that does not follow from shapes alone: activations, libraries."""
    inexact_sequence_bytes: float = 0.0
    """The part of `sequence_bytes` that does not."""
    weights_bytes: float = 0.0
    """Weights of the model and of a draft model."""
    padding_bytes: tuple[float, float] = (0.0, 0.0)
    """How much less and how much more than in `weights_bytes` kernels may pad the weights."""
    reserved_bytes: tuple[float, float] = (0.0, 0.0)
    """Fewest and most bytes that the engine reserves for a sequence beyond `sequence_bytes` before it admits one."""

    def inexact_bytes(self, sequences: int) -> float:
        """The part of `total_bytes` that does not follow from shapes alone."""
        return self.inexact_fixed_bytes + sequences * self.inexact_sequence_bytes

    def total_bytes(self, sequences: int) -> float:
        """Bytes while `sequences` run."""
        return self.fixed_bytes + sequences * self.sequence_bytes

    def max_sequences(self, budget_bytes: float) -> int:
        """Most sequences whose total stays within a budget; 0 where not even one does."""
        if self.total_bytes(1) > budget_bytes:
            return 0
        return max(int(self.sequences_within(budget_bytes)), 1)

    def sequences_within(self, budget_bytes: float) -> float:
        """Sequences that fit in a budget, with the part of one more; negative where `fixed_bytes` do not fit."""
        return (budget_bytes - self.fixed_bytes) / max(self.sequence_bytes, 1.0)

    def reserving(self, *, most: bool = False) -> "Footprint":
        """The same with what the engine reserves for a sequence, at least or at most, as if it were used."""
        return replace(self, sequence_bytes=self.sequence_bytes + self.reserved_bytes[most], reserved_bytes=(0.0, 0.0))


def footprint(deployment: Deployment, workload: Workload, engine: EngineProfile) -> Footprint:
    """The totals of `ledger` at any number of sequences: every part of it is linear in them."""
    single = ledger(deployment, workload, engine, 1)
    exact_bytes = single.weights_bytes + single.draft_bytes
    inexact_bytes = activation_bytes(deployment, workload, engine, 0) + single.context_bytes
    fixed_bytes = exact_bytes + single.transient_bytes + inexact_bytes + shared_bytes(deployment, workload, engine)
    total_bytes = single.total_bytes
    return Footprint(
        fixed_bytes,
        total_bytes - fixed_bytes,
        inexact_bytes,
        total_bytes - single.exact_bytes - inexact_bytes,
        exact_bytes,
        single.padding_bytes,
        _reserved_bytes(deployment, workload, engine),
    )


def _reserved_bytes(deployment: Deployment, workload: Workload, engine: EngineProfile) -> tuple[float, float]:
    """Bytes on a device of the windows that one request reserves for the steps in flight, at least and at most, beyond those it holds."""
    if engine.pages is None:
        return 0.0, 0.0
    tokens = sequence_tokens(deployment, workload, engine)
    budget, used_bytes = most_step_tokens(deployment, workload, engine), device_kv_bytes(deployment, tokens)
    fewest, most = (device_kv_bytes(deployment, tokens, steps * budget) - used_bytes for steps in engine.pages.steps_in_flight)
    return fewest, most


def _context_bytes(deployment: Deployment, engine: EngineProfile) -> float:
    peers = engine.trial.peers_gib if engine.trial is not None and deployment.parallel.tensor > 1 else 0.0
    return (engine.context_gib + peers) * GIB


def _matrix_bytes(n: int, k: int, format: str) -> float:
    return weight_format(format).matrix_bytes(n, k)
