"""The operators of one step of a deployment: matrix products, attention, recurrences, element-wise work, collectives.

Counts and shapes follow from the model's configuration and the deployment; `machines/machine.py` turns them into seconds.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from advisor.backends.deployment import AttentionBackend, Deployment
from advisor.estimate.operators.fusion import fused
from advisor.estimate.operators.structure import expert_devices, is_routed, stored_format, structure_of, touched_experts
from advisor.estimate.operators.types import AllReduce, AttentionCall, Exchange, Gemm, Operator, Phase, StepPart, Traffic
from advisor.estimate.operators.visible import computed_share, read_tokens
from advisor.profiles.architectures.layers import LatentAttention, Matrix, Mixer, SelfAttention
from advisor.profiles.architectures.spec import ModelSpec


@dataclass(frozen=True, slots=True)
class PricingModel:
    """A deployment prepared for pricing, once for all of its steps."""

    deployment: Deployment
    products: tuple[tuple[Matrix, int, str], ...]
    """Each distinct matrix, how often it occurs, and the format it is stored in."""
    head: Matrix
    """The language-model head, or the embedding that it is tied to."""
    head_format: str
    mixers: tuple[tuple[Mixer, int], ...]
    expert_layers: int

    @classmethod
    def of(cls, deployment: Deployment, *, joins: bool = False) -> "PricingModel":
        """Look up formats; `joins` says whether the engine computes projections of the same input as one product."""
        structure = structure_of(deployment.model)
        products = tuple((matrix, count, stored_format(deployment, matrix)) for matrix, count in structure.matrices)
        products = fused(products) if joins else products
        head = deployment.model.head or deployment.model.embedding
        return cls(deployment, products, head, stored_format(deployment, head), structure.mixers, structure.expert_layers)


def step_operators(pricing_model: PricingModel, parts: tuple[StepPart, ...]) -> Iterator[Operator]:
    """Every operator of a step with these parts, on one device of a tensor-parallel group. All parts share one reading of the weights."""
    yield from token_operators(pricing_model, sum(part.rows for part in parts), sum(part.logit_rows for part in parts))
    for part in parts:
        yield from mixing_operators(pricing_model, part)


def token_operators(pricing_model: PricingModel, rows: int, logit_rows: int) -> Iterator[Operator]:
    """Operators whose cost depends only on the number of new tokens: matrix products, element-wise work, collectives.

    `rows` new tokens, of which the head computes logits for `logit_rows`.
    """
    deployment = pricing_model.deployment
    model, ranks = deployment.model, deployment.parallel.tensor
    for matrix, count, format in pricing_model.products:
        yield _product(deployment, matrix, rows, count, format)
    if logit_rows:
        n, k = max(pricing_model.head.n // ranks, 1), pricing_model.head.k
        yield Gemm(logit_rows, n, k, pricing_model.head_format, 1, dtype=deployment.dtype)
    yield Traffic(elementwise_bytes(model, rows, deployment.element_bytes) / ranks, 0.0, len(model.layers))
    if pricing_model.expert_layers:
        yield Traffic(_routing_bytes(deployment, rows), 0.0, pricing_model.expert_layers)
    yield from _collectives(deployment, rows)


def mixing_operators(pricing_model: PricingModel, part: StepPart) -> Iterator[Operator]:
    """Attention and recurrences of one part: their cost depends on its sequences and lengths, not on the format of the weights."""
    for mixer, count in pricing_model.mixers:
        yield _mixer_call(pricing_model.deployment, mixer, part, count)
        if isinstance(mixer, SelfAttention | LatentAttention) and mixer.index_heads:
            yield _indexer_call(pricing_model.deployment, mixer, part, count)


def _collectives(deployment: Deployment, rows: int) -> Iterator[Operator]:
    """Two all-reduces a layer within a tensor-parallel group (Megatron-LM); two all-to-alls where several groups share experts."""
    model, parallel = deployment.model, deployment.parallel
    ranks, holders = parallel.tensor, expert_devices(parallel)
    moe = structure_of(model).expert_layers if holders > ranks else 0
    if ranks > 1:
        yield AllReduce(deployment.element_bytes * rows * model.hidden_size, ranks, 2 * len(model.layers) - moe)
    if moe:
        sent = deployment.element_bytes * rows * model.hidden_size * min(structure_of(model).experts_per_token, holders - 1)
        yield Exchange(sent / ranks, holders, 2 * moe)


def elementwise_bytes(model: ModelSpec, rows: int, element_bytes: float = 2.0) -> float:
    """Bytes that norms, residuals, rotary embedding and activations of one layer move, fused as engines do.

    Twelve passes over the hidden state: two norms (read, write, residual) and the gated activation.
    """
    return 12.0 * element_bytes * rows * model.hidden_size


def _routing_bytes(deployment: Deployment, rows: int) -> float:
    """Bytes that permuting tokens to experts and combining their outputs moves on one device, in one layer.

    Six passes over a hidden state per token and expert: sorting reads and writes, quantising and the products read
    and write, combining reads. Under tensor parallelism every device handles every token; expert parallelism divides them.
    """
    structure, parallel = structure_of(deployment.model), deployment.parallel
    groups = max(parallel.expert // parallel.tensor, 1)
    device_rows = rows * groups / max(parallel.expert, 1)
    return 6.0 * deployment.element_bytes * device_rows * structure.experts_per_token * deployment.model.hidden_size


def _product(deployment: Deployment, matrix: Matrix, rows: int, count: int, format: str) -> Gemm:
    """The product of a matrix on one device: output features are divided over the ranks, whole experts over `expert_devices`."""
    ranks = deployment.parallel.tensor
    if is_routed(matrix):
        devices = expert_devices(deployment.parallel)
        all_rows = rows * max(devices // ranks, 1)
        experts = touched_experts(matrix, all_rows)
        rows_per_expert = max(round(all_rows * matrix.active / experts), 1)
        return Gemm(rows_per_expert, matrix.n, matrix.k, format, count, experts / devices, routed=True, dtype=deployment.dtype)
    split = 1 if matrix.kind == "router" else ranks
    return Gemm(rows, max(matrix.n // split, 1), matrix.k, format, count, float(matrix.active), dtype=deployment.dtype)


def _mixer_call(deployment: Deployment, mixer: Mixer, part: StepPart, count: int) -> Operator:
    ranks = deployment.parallel.tensor
    if isinstance(mixer, SelfAttention):
        return AttentionCall(
            part.phase,
            part.sequences,
            part.q_tokens,
            _keys_read(deployment, mixer, part),
            -(-mixer.q_heads // ranks),
            -(-mixer.kv_heads // ranks),
            mixer.head_dim,
            mixer.value_dim,
            _backend(deployment, part),
            deployment.kv.layout,
            deployment.kv.format,
            count,
            computed_share=computed_share(deployment, part),
            dtype=deployment.dtype,
        )
    if isinstance(mixer, LatentAttention):
        return _mla_call(deployment, mixer, part, count)
    state = 2.0 * mixer.state_bytes * part.sequences
    return Traffic(state / ranks, float(mixer.flops_per_token) * part.rows / ranks, count)


def _backend(deployment: Deployment, part: StepPart) -> AttentionBackend:
    """The backend that a part is priced as: fused attention for prompts under a block pattern, else the deployment's own."""
    attention = deployment.attention
    return AttentionBackend.SDPA if part.phase == Phase.PREFILL and attention.pattern is not None else attention.backend


def _indexer_call(deployment: Deployment, mixer: SelfAttention | LatentAttention, part: StepPart, count: int) -> AttentionCall:
    """The indexer of sparse attention (DeepSeek-V3.2): scores of every cached entry against fp8 keys that all index heads share.

    Every rank computes all of it.
    """
    entries = max(mixer.entries(part.kv_tokens) if isinstance(mixer, LatentAttention) else part.kv_tokens, 1)
    shape = (mixer.index_heads, 1, mixer.index_dim, 0)
    return AttentionCall(
        part.phase, part.sequences, part.q_tokens, entries, *shape, AttentionBackend.SDPA, deployment.kv.layout, "fp8", count, latent=True
    )


def _keys_read(deployment: Deployment, mixer: SelfAttention | LatentAttention, part: StepPart) -> int:
    """Cached tokens that the queries of a part read: at most the layer's window or top-k, the cache's window, and the pattern's blocks."""
    kv, most = deployment.kv, mixer.attended_tokens(part.kv_tokens)
    if kv.window is not None:
        most = min(most, kv.window + kv.sink_tokens)
    if part.phase == Phase.DECODE:
        most = min(most, read_tokens(deployment, part.kv_tokens))
    return min(part.kv_tokens, most + part.q_tokens - 1)


def _mla_call(deployment: Deployment, mixer: LatentAttention, part: StepPart, count: int) -> AttentionCall:
    """Multi-head latent attention: decoding works on compressed vectors (absorbed weights), prefill expands them to full heads."""
    ranks = deployment.parallel.tensor
    heads = -(-mixer.heads // ranks)
    if part.phase == Phase.DECODE:
        shape = (heads, 1, mixer.kv_rank + mixer.rope_dim, mixer.kv_rank)
    else:
        shape = (heads, heads, mixer.nope_dim + mixer.rope_dim, mixer.value_dim)
    kv, attention = deployment.kv, deployment.attention
    keys = _keys_read(deployment, mixer, part)
    return AttentionCall(
        part.phase, part.sequences, part.q_tokens, keys, *shape, attention.backend, kv.layout, kv.format, count, latent=True,
        dtype=deployment.dtype,
    )  # fmt: skip
