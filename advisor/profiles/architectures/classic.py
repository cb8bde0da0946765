"""Readers of earlier dense decoders: MLPs without a gate, norms and projections with biases, learned, ALiBi or rotary positions.

Families: Falcon, MPT, GPT-J, GPT-2, BLOOM, OPT, GPT-NeoX (Pythia), Phi 1 and 2, StarCoder 2. Sizes are read from each family's own keys:
`n_embd`, `n_head`, `n_layer`, `n_positions` (GPT-2, GPT-J), `d_model`, `n_heads`, `n_layers`, `max_seq_len` (MPT), `hidden_size`,
`n_head`, `n_layer`, `seq_length` (BLOOM), `ffn_dim` (OPT), else `hidden_size`, `num_attention_heads`, `num_hidden_layers`.
"""

from collections.abc import Callable
from dataclasses import replace

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.layers import SelfAttention
from advisor.profiles.architectures.parts import Blocks, attention_matrices, blocks, grouped_attention, head_size, layer, plain_mlp, windows


def falcon(fields: Fields) -> Blocks:
    """Falcon: ungated MLP parallel to attention after one or two norms; `multi_query` or `num_kv_heads` give key-value heads."""
    hidden, heads, count = fields.count("hidden_size"), fields.count("num_attention_heads"), fields.layer_count()
    new_architecture, bias = fields.flag("new_decoder_architecture", default=False), fields.flag("bias", default=False)
    shared_keys = fields.flag("multi_query", default=True)
    kv_heads = fields.count("num_kv_heads", default=heads) if new_architecture or not shared_keys else 1
    dim = head_size(fields, "hidden_size", "num_attention_heads")
    attention = SelfAttention(q_heads=heads, kv_heads=kv_heads, head_dim=dim, value_dim=dim)
    two_norms = (new_architecture and fields.size("num_ln_in_parallel_attn", 2) == 2) or not fields.flag("parallel_attn", default=True)
    mlp = plain_mlp(hidden, fields.count("ffn_hidden_size", default=4 * hidden), bias=bias)
    projections = attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias)
    return Blocks(
        family="dense",
        hidden_size=hidden,
        vocab_size=fields.count("vocab_size"),
        max_context_tokens=fields.count("max_position_embeddings", default=2048),
        layers=(layer(attention, projections, mlp, vectors=2 * hidden * (1 + two_norms)),) * count,
        vector_parameters=2 * hidden,
        tied=fields.flag("tie_word_embeddings", default=True),
    )


def mpt(fields: Fields) -> Blocks:
    """MPT: ungated MLP, ALiBi positions, norms without bias. transformers builds no bias, whatever `no_bias` says."""
    hidden, heads = fields.count("d_model"), fields.count("n_heads")
    dim = head_size(fields, "d_model", "n_heads")
    attention = SelfAttention(q_heads=heads, kv_heads=heads, head_dim=dim, value_dim=dim)
    mlp = plain_mlp(hidden, hidden * fields.count("expansion_ratio", default=4))
    return Blocks(
        family="dense",
        hidden_size=hidden,
        vocab_size=fields.count("vocab_size"),
        max_context_tokens=fields.count("max_seq_len", default=2048),
        layers=(layer(attention, attention_matrices(attention, hidden), mlp, vectors=2 * hidden),) * fields.layer_count("n_layers"),
        vector_parameters=hidden,
        tied=fields.flag("tie_word_embeddings", default=True),
    )


def gptj(fields: Fields) -> Blocks:
    """GPT-J: attention parallel to an ungated MLP with biases after one norm, a head with bias."""
    hidden, heads = fields.count("n_embd"), fields.count("n_head")
    dim = head_size(fields, "n_embd", "n_head")
    attention = SelfAttention(q_heads=heads, kv_heads=heads, head_dim=dim, value_dim=dim)
    mlp = plain_mlp(hidden, fields.count("n_inner", default=4 * hidden), bias=True)
    return Blocks(
        family="dense",
        hidden_size=hidden,
        vocab_size=fields.count("vocab_size"),
        max_context_tokens=fields.count("n_positions"),
        layers=(layer(attention, attention_matrices(attention, hidden), mlp, vectors=2 * hidden),) * fields.layer_count("n_layer"),
        vector_parameters=2 * hidden,
        tied=fields.flag("tie_word_embeddings", default=False),
        head_bias=True,
    )


def gpt2(fields: Fields) -> Blocks:
    """GPT-2: learned positions, biases everywhere."""
    hidden, heads = fields.count("n_embd"), fields.count("n_head")
    dim, positions = head_size(fields, "n_embd", "n_head"), fields.count("n_positions", default=1024)
    attention = SelfAttention(q_heads=heads, kv_heads=heads, head_dim=dim, value_dim=dim)
    mlp = plain_mlp(hidden, fields.count("n_inner", default=4 * hidden), bias=True)
    projections = attention_matrices(attention, hidden, qkv_bias=True, out_bias=True)
    return Blocks(
        family="dense",
        hidden_size=hidden,
        vocab_size=fields.count("vocab_size"),
        max_context_tokens=positions,
        layers=(layer(attention, projections, mlp, vectors=4 * hidden),) * fields.layer_count("n_layer"),
        vector_parameters=2 * hidden + positions * hidden,
        tied=fields.flag("tie_word_embeddings", default=True),
    )


def bloom(fields: Fields) -> Blocks:
    """BLOOM: ALiBi positions and a norm after the embedding. Its configs do not state the training length; the paper has 2048."""
    hidden, heads = fields.count("hidden_size", "n_embed"), fields.count("n_head", "num_attention_heads")
    if hidden < heads:
        raise fields.problem(f"`n_head` is {heads}, more than `hidden_size`")
    attention = SelfAttention(q_heads=heads, kv_heads=heads, head_dim=hidden // heads, value_dim=hidden // heads)
    projections = attention_matrices(attention, hidden, qkv_bias=True, out_bias=True)
    count = fields.layer_count("n_layer" if "n_layer" in fields.values else "num_hidden_layers")
    return Blocks(
        family="dense",
        hidden_size=hidden,
        vocab_size=fields.count("vocab_size"),
        max_context_tokens=fields.count("seq_length", default=2048),
        layers=(layer(attention, projections, plain_mlp(hidden, 4 * hidden, bias=True), vectors=4 * hidden),) * count,
        vector_parameters=4 * hidden,
        tied=fields.flag("tie_word_embeddings", default=True),
    )


def opt(fields: Fields) -> Blocks:
    """OPT: learned positions with an offset of two, biases everywhere."""
    hidden = fields.count("hidden_size")
    if fields.count("word_embed_proj_dim", default=hidden) != hidden:
        raise fields.problem("`word_embed_proj_dim` differs from `hidden_size`, which is not supported")
    bias = fields.flag("enable_bias", default=True)
    attention = grouped_attention(Fields({**fields.values, "num_key_value_heads": None, "head_dim": None}, fields.where))
    projections = attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias)
    decoder_layer = layer(attention, projections, plain_mlp(hidden, fields.count("ffn_dim"), bias=bias), vectors=4 * hidden)
    last_norm = fields.flag("do_layer_norm_before", default=True) and not fields.flag("_remove_final_layer_norm", default=False)
    vectors = (fields.count("max_position_embeddings") + 2) * hidden + (2 * hidden if last_norm else 0)
    return blocks(fields, "dense", [decoder_layer] * fields.layer_count(), tied=True, vectors=vectors)


def gpt_neox(fields: Fields) -> Blocks:
    """GPT-NeoX and Pythia: rotary positions, biases everywhere, an untied head."""
    hidden, bias = fields.count("hidden_size"), fields.flag("attention_bias", default=True)
    attention = grouped_attention(Fields({**fields.values, "num_key_value_heads": None, "head_dim": None}, fields.where))
    projections = attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias)
    decoder_layer = layer(attention, projections, plain_mlp(hidden, fields.count("intermediate_size"), bias=True), vectors=4 * hidden)
    return blocks(fields, "dense", [decoder_layer] * fields.layer_count(), vectors=2 * hidden)


def phi(fields: Fields) -> Blocks:
    """Phi 1 and 2: attention parallel to the MLP after one norm, a head with bias."""
    hidden = fields.count("hidden_size")
    if fields.flag("qk_layernorm", default=False):
        raise fields.problem("`qk_layernorm` is true, which is not supported")
    attention = grouped_attention(fields)
    projections = attention_matrices(attention, hidden, qkv_bias=True, out_bias=True)
    decoder_layer = layer(attention, projections, plain_mlp(hidden, fields.count("intermediate_size"), bias=True), vectors=2 * hidden)
    return replace(blocks(fields, "dense", [decoder_layer] * fields.layer_count(), vectors=2 * hidden), head_bias=True)


def starcoder2(fields: Fields) -> Blocks:
    """StarCoder 2: grouped attention with an ungated MLP, biases everywhere, a window where `sliding_window` is set."""
    hidden, bias = fields.count("hidden_size"), fields.flag("use_bias", default=True)
    mlp = plain_mlp(hidden, fields.count("intermediate_size"), bias=bias)
    layers = []
    for window in windows(fields):
        attention = grouped_attention(fields, kv_heads=2, window=window)
        layers.append(layer(attention, attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias), mlp, vectors=4 * hidden))
    return blocks(fields, "dense", layers, tied=True, vectors=2 * hidden)


CLASSIC_READERS: dict[str, Callable[[Fields], Blocks]] = {
    "falcon": falcon,
    "mpt": mpt,
    "gptj": gptj,
    "gpt2": gpt2,
    "bloom": bloom,
    "opt": opt,
    "gpt_neox": gpt_neox,
    "phi": phi,
    "starcoder2": starcoder2,
}
