"""Readers of decoders with grouped attention and routed experts.

Families: Mixtral, Qwen 2 and 3 MoE, GLM 4.5 to 4.7, MiniMax M2 and M3, gpt-oss, Llama 4, MiMo V2, Step 3.5 and 3.7. Keys besides
those of dense decoders: `num_experts`, `num_local_experts` or `n_routed_experts`, `num_experts_per_tok`, `moe_intermediate_size`, the width
of a shared expert, and the layers with experts: `decoder_sparse_step`, `mlp_only_layers`, `first_k_dense_replace`, `moe_layer_freq`,
`mlp_layer_types`.
"""

from collections.abc import Callable
from dataclasses import replace

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.layers import Matrix, SelfAttention
from advisor.profiles.architectures.parts import (
    Blocks,
    attention_matrices,
    blocks,
    experts,
    gated_mlp,
    grouped_attention,
    kinds,
    layer,
    qwen_windows,
    router,
    sparse_layers,
    windows,
)


def mixtral(fields: Fields) -> Blocks:
    """Mixtral: experts in every layer."""
    hidden, inner = fields.count("hidden_size"), fields.count("intermediate_size")
    attention = grouped_attention(fields, kv_heads=8, window=fields.size("sliding_window") or None)
    copies, active = fields.count("num_local_experts", default=8), fields.count("num_experts_per_tok", default=2)
    moe = (*router(hidden, copies), *experts(hidden, inner, copies=copies, active=active))
    decoder_layer = layer(attention, attention_matrices(attention, hidden), moe, vectors=2 * hidden)
    return blocks(fields, "moe", [decoder_layer] * fields.layer_count())


def qwen3_moe(fields: Fields) -> Blocks:
    """Qwen 3 MoE: head norms; `mlp_only_layers` and `decoder_sparse_step` name the dense layers."""
    hidden, bias = fields.count("hidden_size"), fields.flag("attention_bias", default=False)
    attention = grouped_attention(fields, kv_heads=4)
    copies = fields.count("num_experts", "num_local_experts", default=128)
    active = fields.count("num_experts_per_tok", default=8)
    moe = (*router(hidden, copies), *experts(hidden, fields.count("moe_intermediate_size"), copies=copies, active=active))
    step, dense = fields.count("decoder_sparse_step", default=1), fields.items("mlp_only_layers") or []
    projections = attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias)
    layers = []
    for index in range(fields.layer_count()):
        sparse = index not in dense and (index + 1) % step == 0
        mlp = moe if sparse else gated_mlp(hidden, fields.count("intermediate_size"))
        layers.append(layer(attention, projections, mlp, vectors=2 * hidden + 2 * attention.head_dim))
    return blocks(fields, "moe", layers)


def qwen2_moe(fields: Fields) -> Blocks:
    """Qwen 2 MoE: biases of queries, keys and values, a gated shared expert."""
    hidden, bias = fields.count("hidden_size"), fields.flag("qkv_bias", default=True)
    copies, active = fields.count("num_experts", default=60), fields.count("num_experts_per_tok", default=4)
    moe = (
        *router(hidden, copies),
        *experts(hidden, fields.count("moe_intermediate_size"), copies=copies, active=active),
        *gated_mlp(hidden, fields.count("shared_expert_intermediate_size"), kind="shared-expert"),
        Matrix(name="shared_expert_gate", n=1, k=hidden, kind="router"),
    )
    step, dense = fields.count("decoder_sparse_step", default=1), fields.items("mlp_only_layers") or []
    layers = []
    for index, window in enumerate(qwen_windows(fields)):
        attention = grouped_attention(fields, kv_heads=16, window=window)
        sparse = index not in dense and (index + 1) % step == 0
        mlp = moe if sparse else gated_mlp(hidden, fields.count("intermediate_size"))
        layers.append(layer(attention, attention_matrices(attention, hidden, qkv_bias=bias), mlp, vectors=2 * hidden))
    return blocks(fields, "moe", layers)


def glm4_moe(fields: Fields) -> Blocks:
    """GLM 4.5 to 4.7: dense layers first, then routed and shared experts; head norms where `use_qk_norm` is set."""
    hidden, bias = fields.count("hidden_size"), fields.flag("attention_bias", default=False)
    copies, active = fields.count("n_routed_experts", default=128), fields.count("num_experts_per_tok", default=8)
    inner = fields.count("moe_intermediate_size", default=1408)
    moe = (
        *router(hidden, copies),
        *experts(hidden, inner, copies=copies, active=active),
        *gated_mlp(hidden, inner * fields.count("n_shared_experts", default=1), kind="shared-expert"),
    )
    attention = grouped_attention(fields, kv_heads=8)
    norms = 2 * attention.head_dim if fields.flag("use_qk_norm", default=False) else 0
    projections = attention_matrices(attention, hidden, qkv_bias=bias)
    layers = [
        layer(attention, projections, moe if sparse else gated_mlp(hidden, fields.count("intermediate_size")), vectors=2 * hidden + norms)
        for sparse in sparse_layers(fields, first_dense=1)
    ]
    return blocks(fields, "moe", layers)


def glm4v_moe(fields: Fields) -> Blocks:
    """GLM 4.5V: the language model of GLM 4.5, with biases unless the config says otherwise."""
    return glm4_moe(Fields({"attention_bias": True, **fields.values}, fields.where))


def minimax_m2(fields: Fields) -> Blocks:
    """MiniMax M2: one norm over all query heads and one over all key heads."""
    hidden, inner = fields.count("hidden_size"), fields.count("intermediate_size")
    attention = grouped_attention(fields, head_dim=128, kv_heads=8)
    copies, active = fields.count("num_local_experts", default=256), fields.count("num_experts_per_tok", default=8)
    moe = (*router(hidden, copies), *experts(hidden, inner, copies=copies, active=active))
    vectors = 2 * hidden + (attention.q_heads + attention.kv_heads) * attention.head_dim
    decoder_layer = layer(attention, attention_matrices(attention, hidden), moe, vectors=vectors)
    return blocks(fields, "moe", [decoder_layer] * fields.layer_count())


def minimax_m3(fields: Fields) -> Blocks:
    """MiniMax M3: head norms, a shared expert, and layers in which an indexer chooses blocks of keys."""
    hidden, count = fields.count("hidden_size"), fields.layer_count()
    sparse_attention = fields.inner("sparse_attention_config")
    indexed = (sparse_attention.items("sparse_attention_freq") if sparse_attention else None) or [0] * count
    if len(indexed) < count:
        raise fields.problem(f"`sparse_attention_config.sparse_attention_freq` has {len(indexed)} entries for {count} layers")
    layers = []
    for sparse, has_indexer in zip(sparse_layers(fields), indexed, strict=False):
        attention = grouped_attention(fields, head_dim=128, kv_heads=4)
        index: tuple[Matrix, ...] = ()
        if has_indexer and sparse_attention:
            attention = _with_block_index(attention, sparse_attention)
            index = (
                Matrix(name="indexer.q_proj", n=attention.index_heads * attention.index_dim, k=hidden, kind="attention"),
                Matrix(name="indexer.k_proj", n=attention.index_dim, k=hidden, kind="attention"),
            )
        mlp = _m3_experts(fields, hidden) if sparse else gated_mlp(hidden, fields.count("dense_intermediate_size", default=12288))
        vectors = 2 * hidden + 2 * attention.head_dim + 2 * attention.index_dim
        layers.append(layer(attention, attention_matrices(attention, hidden), index, mlp, vectors=vectors))
    return blocks(fields, "moe", layers)


def _with_block_index(attention: SelfAttention, fields: Fields) -> SelfAttention:
    top_k = fields.count("sparse_topk_blocks", default=16) * fields.count("sparse_block_size", default=128)
    heads, dim = fields.count("sparse_num_index_heads", default=4), fields.count("sparse_index_dim", default=128)
    return replace(attention, index_topk=top_k, index_heads=heads, index_dim=dim)


def _m3_experts(fields: Fields, hidden: int) -> tuple[Matrix, ...]:
    copies, active = fields.count("num_local_experts", default=128), fields.count("num_experts_per_tok", default=4)
    routed = experts(hidden, fields.count("intermediate_size"), copies=copies, active=active)
    return (
        *router(hidden, copies),
        *routed,
        *gated_mlp(hidden, fields.count("shared_intermediate_size", default=3072), kind="shared-expert"),
    )


def gpt_oss(fields: Fields) -> Blocks:
    """gpt-oss: biases everywhere, attention sinks, alternating sliding and full layers."""
    hidden, inner = fields.count("hidden_size"), fields.count("intermediate_size", default=2880)
    copies = fields.count("num_local_experts", default=128)
    active = fields.count("num_experts_per_tok", "experts_per_token", default=4)
    moe = (*router(hidden, copies, bias=True), *experts(hidden, inner, copies=copies, active=active, bias=True))
    bias = fields.flag("attention_bias", default=True)
    layers = []
    for window in windows(fields, full_every=2, default=128):
        attention = replace(grouped_attention(fields, head_dim=64, kv_heads=8, window=window), sinks=True)
        projections = attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias)
        layers.append(layer(attention, projections, moe, vectors=2 * hidden + attention.q_heads))
    return blocks(fields, "moe", layers)


def llama4(fields: Fields) -> Blocks:
    """Llama 4: chunked attention except in every fourth layer; one shared expert and routed ones."""
    hidden, count = fields.count("hidden_size"), fields.layer_count()
    bias = fields.flag("attention_bias", default=False)
    copies, active = fields.count("num_local_experts", default=16), fields.count("num_experts_per_tok", default=1)
    inner = fields.count("intermediate_size")
    moe = (
        *router(hidden, copies),
        *experts(hidden, inner, copies=copies, active=active),
        *gated_mlp(hidden, inner, kind="shared-expert"),
    )
    step, listed = fields.count("interleave_moe_layer_step", default=1), fields.items("moe_layers")
    layers = []
    for index, full in enumerate(_llama4_full_layers(fields, count)):
        sparse = index in listed if listed else (index + 1) % step == 0
        attention = grouped_attention(fields, head_dim=128, kv_heads=8)
        if not full:
            attention = replace(attention, window=fields.count("attention_chunk_size", default=8192), chunked=True)
        mlp = moe if sparse else gated_mlp(hidden, fields.count("intermediate_size_mlp", default=16384))
        projections = attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias)
        layers.append(layer(attention, projections, mlp, vectors=2 * hidden))
    return blocks(fields, "moe", layers)


def _llama4_full_layers(fields: Fields, count: int) -> list[bool]:
    types = kinds(fields, "layer_types", count, {"full_attention", "chunked_attention"})
    if types is not None:
        return [kind == "full_attention" for kind in types]
    rotary = fields.items("no_rope_layers")
    interval = fields.count("no_rope_layer_interval", default=4)
    return [not rotary[index] if rotary and index < len(rotary) else (index + 1) % interval == 0 for index in range(count)]


def mimo_v2(fields: Fields) -> Blocks:
    """MiMo V2: sliding layers with more key heads and sinks than full ones, keys wider than values."""
    hidden, count = fields.count("hidden_size"), fields.layer_count()
    pattern = fields.items("hybrid_layer_pattern")
    if pattern is None or len(pattern) < count:
        raise fields.problem(f"`hybrid_layer_pattern` needs {count} entries")
    copies, active = fields.count("n_routed_experts"), fields.count("num_experts_per_tok")
    moe = (*router(hidden, copies), *experts(hidden, fields.count("moe_intermediate_size"), copies=copies, active=active))
    bias = fields.flag("attention_bias", default=False)
    layers = []
    for sliding, sparse in zip(pattern, sparse_layers(fields), strict=False):
        attention = _mimo_attention(fields, sliding=bool(sliding))
        mlp = moe if sparse else gated_mlp(hidden, fields.count("intermediate_size"))
        vectors = 2 * hidden + (attention.q_heads if attention.sinks else 0)
        layers.append(layer(attention, attention_matrices(attention, hidden, qkv_bias=bias), mlp, vectors=vectors))
    return blocks(fields, "moe", layers)


def _mimo_attention(fields: Fields, *, sliding: bool) -> SelfAttention:
    prefix = "swa_" if sliding else ""
    sinks = fields.flag("add_swa_attention_sink_bias" if sliding else "add_full_attention_sink_bias", default=sliding)
    return SelfAttention(
        q_heads=fields.count(f"{prefix}num_attention_heads"),
        kv_heads=fields.count(f"{prefix}num_key_value_heads"),
        head_dim=fields.count(f"{prefix}head_dim"),
        value_dim=fields.count(f"{prefix}v_head_dim"),
        window=fields.count("sliding_window", "sliding_window_size") if sliding else None,
        sinks=sinks,
    )


def step3(fields: Fields) -> Blocks:
    """Step 3.5 and 3.7: head norms, a gate per head, sliding layers, a shared expert."""
    hidden = fields.count("hidden_size")
    copies, active = fields.count("n_routed_experts", "num_experts", default=288), fields.count("num_experts_per_tok", default=8)
    moe = (
        *router(hidden, copies),
        *experts(hidden, fields.count("moe_intermediate_size", default=1280), copies=copies, active=active),
        *gated_mlp(hidden, fields.count("share_expert_dim", default=1280), kind="shared-expert"),
    )
    bias = fields.flag("attention_bias", default=False)
    other = fields.inner("attention_other_setting")
    layers = []
    for window, sparse in zip(windows(fields, full_every=1), sparse_layers(fields, first_dense=3), strict=False):
        attention = grouped_attention(fields, head_dim=128, kv_heads=8, window=window)
        heads = fields.count("num_sliding_attention_heads", default=(other.count("num_attention_heads") if other else attention.q_heads))
        attention = replace(attention, q_heads=heads) if window else attention
        gate = (Matrix(name="g_proj", n=attention.q_heads, k=hidden, kind="attention"),)
        projections = attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias)
        mlp = moe if sparse else gated_mlp(hidden, fields.count("intermediate_size", default=11264))
        layers.append(layer(attention, projections, gate, mlp, vectors=2 * hidden + 2 * attention.head_dim))
    return blocks(fields, "moe", layers)


MOE_READERS: dict[str, Callable[[Fields], Blocks]] = {
    "mixtral": mixtral,
    "qwen2_moe": qwen2_moe,
    "qwen3_moe": qwen3_moe,
    "glm4_moe": glm4_moe,
    "qwen3_vl_moe_text": qwen3_moe,
    "qwen3_omni_moe_text": qwen3_moe,
    "glm4v_moe_text": glm4v_moe,
    "minimax_m2": minimax_m2,
    "minimax_m3": minimax_m3,
    "minimax_m3_vl_text": minimax_m3,
    "gpt_oss": gpt_oss,
    "llama4_text": llama4,
    "mimo_v2_flash": mimo_v2,
    "step3p5": step3,
    "step3p7": step3,
}
