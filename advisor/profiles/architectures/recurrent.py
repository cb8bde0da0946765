"""Readers of decoders with a state of fixed size: Mamba 1 and 2, RWKV 4, and hybrids with attention (Nemotron-H, Qwen 3.5, Kimi Linear).

Keys: `state_size`, `conv_kernel`, `time_step_rank` (Mamba), `hybrid_override_pattern` (Nemotron-H), `linear_num_value_heads`,
`linear_key_head_dim`, `full_attention_interval` (Qwen), `linear_attn_config` (Kimi), `mamba_ssm_cache_dtype` for the state's format.
Operations per token of a recurrence are counted per element of its state: decay, update and read-out, two for a multiply-add.
"""

from collections.abc import Callable
from math import ceil

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.latent import latent_attention, latent_experts, latent_matrices, latent_vectors
from advisor.profiles.architectures.layers import Layer, Matrix, RecurrentMixer
from advisor.profiles.architectures.parts import (
    Blocks,
    attention_matrices,
    blocks,
    experts,
    gated_mlp,
    grouped_attention,
    kinds,
    layer,
    plain_mlp,
    router,
    sparse_layers,
)

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
_NEMOTRON = {
    "M": "mamba", "E": "moe", "*": "attention", "-": "mlp", "linear_attention": "mamba", "full_attention": "attention",
    "mamba": "mamba", "moe": "moe", "attention": "attention", "mlp": "mlp",
}  # fmt: skip


def mamba(fields: Fields) -> Blocks:
    """Mamba 1: one selective scan per channel, no attention, no MLP."""
    hidden = fields.count("hidden_size")
    inner = fields.count("intermediate_size", default=fields.count("expand", default=2) * hidden)
    decoder_layer = mamba_layer(fields, hidden, inner)
    return _stateful(fields, "mamba", [decoder_layer] * fields.layer_count(), tied=True)


def mamba_layer(fields: Fields, hidden: int, inner: int, *parts: tuple[Matrix, ...], norms: bool = False) -> Layer:
    """A Mamba 1 layer of `inner` channels with a norm before it; `norms` are over steps, inputs and outputs of the scan (Jamba)."""
    states, kernel = fields.count("state_size", default=16), fields.count("conv_kernel", default=4)
    rank = ceil(hidden / 16) if fields.values.get("time_step_rank", "auto") == "auto" else fields.count("time_step_rank")
    bias, conv_bias = fields.flag("use_bias", default=False), fields.flag("use_conv_bias", default=True)
    matrices = (
        Matrix(name="in_proj", n=2 * inner, k=hidden, kind="mixer", bias=bias),
        Matrix(name="x_proj", n=rank + 2 * states, k=inner, kind="mixer"),
        Matrix(name="dt_proj", n=inner, k=rank, kind="mixer", bias=True),
        Matrix(name="out_proj", n=hidden, k=inner, kind="mixer", bias=bias),
    )
    mixer = recurrent_mixer("mamba", fields, state=inner * states, channels=inner, kernel=kernel, operations=7)
    vectors = hidden + inner * states + inner + inner * (kernel + conv_bias) + (rank + 2 * states if norms else 0)
    return layer(mixer, matrices, *parts, vectors=vectors)


def mamba2(fields: Fields) -> Blocks:
    """Mamba 2: heads with a matrix state, no attention, no MLP."""
    hidden = fields.count("hidden_size")
    heads, dim = fields.count("num_heads"), fields.count("head_dim", default=64)
    decoder_layer = mamba2_layer(fields, hidden, heads=heads, dim=dim, states=fields.count("state_size", default=128))
    return _stateful(fields, "mamba", [decoder_layer] * fields.layer_count(), tied=False)


def rwkv(fields: Fields) -> Blocks:
    """RWKV 4: time mixing with three values per channel, channel mixing, an additional norm in the first layer."""
    hidden = fields.count("hidden_size")
    width = fields.count("attention_hidden_size", default=hidden)
    inner = fields.count("intermediate_size", default=4 * hidden)
    time = (
        *(Matrix(name=name, n=width, k=hidden, kind="mixer") for name in ("key", "value", "receptance")),
        Matrix(name="output", n=hidden, k=width, kind="mixer"),
    )
    channel = (
        Matrix(name="ffn_key", n=inner, k=hidden, kind="mlp"),
        Matrix(name="ffn_receptance", n=hidden, k=hidden, kind="mlp"),
        Matrix(name="ffn_value", n=hidden, k=inner, kind="mlp"),
    )
    # Numerator, denominator and running maximum; the previous inputs of both mixings count as a convolution's state.
    mixer = RecurrentMixer(
        kind="rwkv4", state_elements=3 * width, state_bytes_per_element=4, conv_elements=2 * hidden, flops_per_token=14 * width
    )
    vectors = 4 * hidden + 2 * width + 5 * hidden
    first = layer(mixer, time, channel, vectors=vectors + 2 * hidden)
    rest = layer(mixer, time, channel, vectors=vectors)
    layers = [first] + [rest] * (fields.layer_count() - 1)
    return Blocks(
        family="rwkv",
        hidden_size=hidden,
        vocab_size=fields.count("vocab_size"),
        max_context_tokens=fields.count("context_length", "max_position_embeddings", default=1024),
        layers=tuple(layers),
        vector_parameters=2 * hidden,
        tied=fields.flag("tie_word_embeddings", default=False),
    )


def nemotron_h(fields: Fields) -> Blocks:
    """Nemotron-H: each layer is one of Mamba 2, attention, MLP or experts, as `hybrid_override_pattern` lists."""
    hidden = fields.count("hidden_size")
    readers: dict[str, Callable[[], Layer]] = {
        "mamba": lambda: mamba2_layer(
            fields,
            hidden,
            heads=fields.count("mamba_num_heads"),
            dim=fields.count("mamba_head_dim"),
            states=fields.count("ssm_state_size", default=128),
        ),
        "attention": lambda: _nemotron_attention(fields, hidden),
        "mlp": lambda: _nemotron_mlp(fields, hidden),
        "moe": lambda: _nemotron_experts(fields, hidden),
    }
    pattern = _nemotron_pattern(fields)
    by_kind = {kind: readers[kind]() for kind in set(pattern)}
    family = "hybrid-moe" if "moe" in by_kind else "hybrid"
    return blocks(fields, family, [by_kind[kind] for kind in pattern])


def _nemotron_pattern(fields: Fields) -> list[str]:
    listed = fields.word("hybrid_override_pattern") or fields.items("layers_block_type") or fields.items("layer_types")
    if listed is None:
        raise fields.problem("`hybrid_override_pattern` is missing")
    for kind in listed:
        if not isinstance(kind, str) or kind not in _NEMOTRON:
            raise fields.problem(f"`hybrid_override_pattern` holds {kind!r}", "known layer types: " + " ".join(_NEMOTRON))
    return [_NEMOTRON[kind] for kind in listed]


def _nemotron_attention(fields: Fields, hidden: int) -> Layer:
    attention = grouped_attention(fields, head_dim=128, kv_heads=8)
    bias = fields.flag("attention_bias", default=False)
    return layer(attention, attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias), vectors=hidden)


def _nemotron_mlp(fields: Fields, hidden: int) -> Layer:
    bias = fields.flag("mlp_bias", default=False)
    return layer(None, plain_mlp(hidden, fields.count("intermediate_size"), bias=bias), vectors=hidden)


def _nemotron_experts(fields: Fields, hidden: int) -> Layer:
    latent = fields.size("moe_latent_size")
    copies, active = fields.count("n_routed_experts"), fields.count("num_experts_per_tok")
    inner, bias = fields.count("moe_intermediate_size"), fields.flag("mlp_bias", default=False)
    routed = experts(latent or hidden, inner, copies=copies, active=active, gated=False)
    # transformers builds one shared MLP of this width, whatever `n_shared_experts` is.
    shared_part = plain_mlp(hidden, fields.count("moe_shared_expert_intermediate_size"), kind="shared-expert", bias=bias)
    return layer(None, router(hidden, copies), routed, shared_part, _latent_projections(hidden, latent, bias), vectors=hidden)


def _latent_projections(hidden: int, latent: int, bias: bool = False) -> tuple[Matrix, ...]:
    """Projections into and out of the latent space of the routed experts."""
    if not latent:
        return ()
    return (
        Matrix(name="fc1_latent_proj", n=latent, k=hidden, kind="shared-expert", bias=bias),
        Matrix(name="fc2_latent_proj", n=hidden, k=latent, kind="shared-expert", bias=bias),
    )


def qwen3_5(fields: Fields) -> Blocks:
    """Qwen 3 Next and 3.5: gated delta rule in most layers, gated attention in every fourth; dense or with experts."""
    hidden, count = fields.count("hidden_size"), fields.layer_count()
    every = fields.count("full_attention_interval", default=4)
    types = kinds(fields, "layer_types", count, {"full_attention", "linear_attention"})
    full = [kind == "full_attention" for kind in types] if types else [(index + 1) % every == 0 for index in range(count)]
    copies = fields.size("num_experts")
    mlp = _qwen3_5_experts(fields, hidden, copies) if copies else gated_mlp(hidden, fields.count("intermediate_size"))
    attention = grouped_attention(fields, head_dim=256, kv_heads=2)
    bias = fields.flag("attention_bias", default=False)
    projections = attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias, gated=True)
    attention_layer = layer(attention, projections, mlp, vectors=2 * hidden + 2 * attention.head_dim)
    delta_layer = _delta_layer(fields, hidden, mlp)
    family = "hybrid-moe" if copies else "hybrid"
    return blocks(fields, family, [attention_layer if is_full else delta_layer for is_full in full])


def _qwen3_5_experts(fields: Fields, hidden: int, copies: int) -> tuple[Matrix, ...]:
    active, inner = fields.count("num_experts_per_tok", default=8), fields.count("moe_intermediate_size", default=512)
    return (
        *router(hidden, copies),
        *experts(hidden, inner, copies=copies, active=active),
        *gated_mlp(hidden, fields.count("shared_expert_intermediate_size", default=512), kind="shared-expert"),
        Matrix(name="shared_expert_gate", n=1, k=hidden, kind="router"),
    )


def _delta_layer(fields: Fields, hidden: int, mlp: tuple[Matrix, ...]) -> Layer:
    """A layer of the gated delta rule: a state of key size by value size in each value head."""
    heads, dim = fields.count("linear_num_value_heads", default=32), fields.count("linear_value_head_dim", default=128)
    key_dim = fields.count("linear_key_head_dim", default=128)
    keys, values = fields.count("linear_num_key_heads", default=16) * key_dim, heads * dim
    kernel = fields.count("linear_conv_kernel_dim", default=4)
    channels = 2 * keys + values
    matrices = (
        Matrix(name="in_proj_qkv", n=channels, k=hidden, kind="mixer"),
        Matrix(name="in_proj_z", n=values, k=hidden, kind="mixer"),
        Matrix(name="in_proj_b", n=heads, k=hidden, kind="mixer"),
        Matrix(name="in_proj_a", n=heads, k=hidden, kind="mixer"),
        Matrix(name="out_proj", n=hidden, k=values, kind="mixer"),
    )
    mixer = recurrent_mixer("gated-delta", fields, state=heads * key_dim * dim, channels=channels, kernel=kernel, operations=7)
    return layer(mixer, matrices, mlp, vectors=2 * hidden + 2 * heads + channels * kernel + dim)


def kimi_linear(fields: Fields) -> Blocks:
    """Kimi Linear: delta rule with a decay per channel, latent attention in every fourth layer, experts.

    Kimi K3 adds experts in a latent space and gates of full rank (`routed_expert_hidden_size`, `use_full_rank_gate`,
    `mla_use_output_gate`), as far as the names of its keys say.
    """
    hidden, count = fields.count("hidden_size"), fields.layer_count()
    linear = fields.inner("linear_attn_config")
    if linear is None:
        raise fields.problem("`linear_attn_config` is missing")
    full = linear.items("full_attn_layers")
    if full is None:
        raise linear.problem("`full_attn_layers` is missing")
    moe = _kimi_experts(fields, hidden)
    layers = []
    for index, sparse in enumerate(sparse_layers(fields, first_dense=1)):
        mlp = moe if sparse else gated_mlp(hidden, fields.count("intermediate_size"))
        # The config numbers its layers from 1.
        attends = index + 1 in full
        layers.append(_kimi_attention(fields, hidden, mlp) if attends else _kimi_delta(fields, linear, hidden, mlp))
    if len(layers) != count:
        raise fields.problem(f"`num_hidden_layers` is {count} but {len(layers)} layers are described")
    context = fields.count("max_position_embeddings", "model_max_length", default=1048576)
    described = Fields({**fields.values, "max_position_embeddings": context}, fields.where)
    return blocks(described, "hybrid-moe", layers)


def _kimi_experts(fields: Fields, hidden: int) -> tuple[Matrix, ...]:
    latent = fields.size("routed_expert_hidden_size")
    matrices = latent_experts(fields, hidden)
    if not latent:
        return matrices
    inner, copies = fields.count("moe_intermediate_size"), fields.count("num_experts")
    routed = experts(latent, inner, copies=copies, active=fields.count("num_experts_per_token"))
    return (*(matrix for matrix in matrices if matrix.kind != "expert"), *routed, *_latent_projections(hidden, latent))


def _kimi_attention(fields: Fields, hidden: int, mlp: tuple[Matrix, ...]) -> Layer:
    mixer = latent_attention(fields)
    gate = (Matrix(name="g_proj", n=mixer.heads * mixer.value_dim, k=hidden, kind="attention"),)
    gated = fields.flag("mla_use_output_gate", default=False)
    projections = latent_matrices(fields, mixer, hidden)
    return layer(mixer, projections, gate if gated else (), mlp, vectors=2 * hidden + latent_vectors(fields))


def _kimi_delta(fields: Fields, linear: Fields, hidden: int, mlp: tuple[Matrix, ...]) -> Layer:
    heads, dim = linear.count("num_heads"), linear.count("head_dim")
    kernel, width = linear.count("short_conv_kernel_size", default=4), heads * dim
    full_rank = linear.flag("use_full_rank_gate", default=False)
    gate = (
        (Matrix(name="g_proj", n=width, k=hidden, kind="mixer"),)
        if full_rank
        else (Matrix(name="g_a_proj", n=dim, k=hidden, kind="mixer"), Matrix(name="g_b_proj", n=width, k=dim, kind="mixer"))
    )
    matrices = (
        *(Matrix(name=name, n=width, k=hidden, kind="mixer") for name in ("q_proj", "k_proj", "v_proj")),
        Matrix(name="f_a_proj", n=dim, k=hidden, kind="mixer"),
        Matrix(name="f_b_proj", n=width, k=dim, kind="mixer"),
        Matrix(name="b_proj", n=heads, k=hidden, kind="mixer"),
        Matrix(name="o_proj", n=hidden, k=width, kind="mixer"),
    )
    mixer = recurrent_mixer("kimi-delta", fields, state=heads * dim * dim, channels=3 * width, kernel=kernel, operations=7)
    return layer(mixer, matrices, gate, mlp, vectors=2 * hidden + width + heads + 3 * width * kernel + dim)


def mamba2_layer(fields: Fields, hidden: int, *, heads: int, dim: int, states: int, gated_norm: bool = True) -> Layer:
    """A Mamba 2 layer: heads of `dim` channels, each channel with `states` values, keys shared in `n_groups`.

    `gated_norm` is the norm of the output, `out_bias` of `fields` the bias of the output projection where it is not `use_bias`.
    """
    groups, kernel = fields.count("n_groups", default=8), fields.count("conv_kernel", default=4)
    bias, conv_bias = fields.flag("use_bias", default=False), fields.flag("use_conv_bias", default=True)
    inner = heads * dim
    channels = inner + 2 * groups * states
    matrices = (
        Matrix(name="in_proj", n=inner + channels + heads, k=hidden, kind="mixer", bias=bias),
        Matrix(name="out_proj", n=hidden, k=inner, kind="mixer", bias=fields.flag("out_bias", default=bias)),
    )
    mixer = recurrent_mixer("mamba2", fields, state=inner * states, channels=channels, kernel=kernel, operations=5)
    return layer(mixer, matrices, vectors=hidden + 3 * heads + channels * (kernel + conv_bias) + inner * gated_norm)


def recurrent_mixer(kind: str, fields: Fields, *, state: int, channels: int, kernel: int, operations: int) -> RecurrentMixer:
    """A mixer of `state` elements and a causal convolution over `channels`; the state is fp32 unless the config says otherwise."""
    name = fields.word("mamba_ssm_cache_dtype") or fields.word("mamba_ssm_dtype") or "float32"
    if name not in _BYTES:
        raise fields.problem(f"`mamba_ssm_cache_dtype` is {name!r}; known are " + ", ".join(_BYTES))
    return RecurrentMixer(
        kind=kind,
        state_elements=state,
        state_bytes_per_element=_BYTES[name],
        conv_elements=channels * (kernel - 1),
        flops_per_token=operations * state + 2 * channels * kernel,
    )


def _stateful(fields: Fields, family: str, layers: list[Layer], *, tied: bool) -> Blocks:
    """Blocks of a model without positions, whose context is unlimited: `max_position_embeddings` if set, else 2**20 tokens."""
    context = fields.count("max_position_embeddings", default=1 << 20)
    described = Fields({**fields.values, "max_position_embeddings": context}, fields.where)
    return blocks(described, family, layers, tied=tied)


RECURRENT_READERS: dict[str, Callable[[Fields], Blocks]] = {
    "mamba": mamba,
    "falcon_mamba": mamba,
    "mamba2": mamba2,
    "rwkv": rwkv,
    "nemotron_h": nemotron_h,
    "qwen3_next": qwen3_5,
    "qwen3_5_text": qwen3_5,
    "qwen3_5_moe_text": qwen3_5,
    "kimi_linear": kimi_linear,
}
