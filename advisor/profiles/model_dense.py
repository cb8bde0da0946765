"""Layers of decoders with self-attention and a dense MLP."""

from collections.abc import Callable
from dataclasses import dataclass

from advisor.profiles.layers import SelfAttention
from advisor.profiles.model_fields import Fields
from advisor.profiles.model_parts import (
    Blocks,
    asked_windows,
    attention_matrices,
    blocks,
    gated_mlp,
    grouped_attention,
    head_size,
    layer,
    plain_mlp,
    windows,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Llama:
    """A family of Llama's shape: grouped attention, gated MLP, norms without bias. The fields are how it differs from Llama."""

    qkv_bias: bool | None = None
    """`None` follows `attention_bias`, for the output projection too."""
    head_dim: int | None = None
    kv_heads: int | None = None
    head_norms: bool = False
    """Queries and keys have a norm over each head."""
    wide_norms: bool = False
    """Queries and keys have a norm over all heads together."""
    norms: int = 2
    windows: Callable[[Fields], list[int | None]] | None = None
    """How layers get windows; `None` ignores `sliding_window`, as the family's own code does."""
    tied: bool = False

    def __call__(self, fields: Fields) -> Blocks:
        """The blocks of a config of this family."""
        hidden, inner = fields.count("hidden_size"), fields.count("intermediate_size")
        follow, mlp_bias = fields.flag("attention_bias", default=False), fields.flag("mlp_bias", default=False)
        layers = []
        for window in self.windows(fields) if self.windows else [None] * fields.layer_count():
            attention = grouped_attention(fields, head_dim=self.head_dim, kv_heads=self.kv_heads, window=window)
            projections = attention_matrices(
                attention,
                hidden,
                qkv_bias=follow if self.qkv_bias is None else self.qkv_bias,
                out_bias=follow if self.qkv_bias is None else False,
            )
            vectors = self.norms * hidden + self._query_key_norms(attention)
            layers.append(layer(attention, projections, gated_mlp(hidden, inner, bias=mlp_bias), vectors=vectors))
        return blocks(fields, "dense", layers, tied=self.tied)

    def _query_key_norms(self, attention: SelfAttention) -> int:
        if self.wide_norms:
            return (attention.q_heads + attention.kv_heads) * attention.head_dim
        return 2 * attention.head_dim if self.head_norms else 0


def falcon(fields: Fields) -> Blocks:
    """Falcon: fused projections, plain MLP, one or two layer norms before parallel attention."""
    hidden, heads, count = fields.count("hidden_size"), fields.count("num_attention_heads"), fields.layer_count()
    new, bias = fields.flag("new_decoder_architecture", default=False), fields.flag("bias", default=False)
    shared_keys = fields.flag("multi_query", default=True)
    kv_heads = fields.count("num_kv_heads", default=heads) if new or not shared_keys else 1
    dim = head_size(fields, "hidden_size", "num_attention_heads")
    attention = SelfAttention(q_heads=heads, kv_heads=kv_heads, head_dim=dim, value_dim=dim)
    two = (new and fields.size("num_ln_in_parallel_attn", 2) == 2) or not fields.flag("parallel_attn", default=True)
    mlp = plain_mlp(hidden, fields.count("ffn_hidden_size", default=4 * hidden), bias=bias)
    projections = attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias)
    return Blocks(
        family="dense",
        hidden_size=hidden,
        vocab_size=fields.count("vocab_size"),
        max_context_tokens=fields.count("max_position_embeddings", default=2048),
        layers=(layer(attention, projections, mlp, vectors=2 * hidden * (1 + two)),) * count,
        vector_parameters=2 * hidden,
        tied=fields.flag("tie_word_embeddings", default=True),
    )


def mpt(fields: Fields) -> Blocks:
    """MPT: plain MLP, ALiBi positions, norms without bias. transformers builds no bias at all, whatever `no_bias` says."""
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
    """GPT-J: one norm, attention and a plain MLP with biases side by side."""
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


DENSE_READERS: dict[str, Callable[[Fields], Blocks]] = {
    "llama": Llama(),
    "mistral": Llama(qkv_bias=False, kv_heads=8, windows=windows),
    "qwen2": Llama(qkv_bias=True, kv_heads=32, windows=asked_windows),
    "qwen3": Llama(head_norms=True, head_dim=128, kv_heads=32, windows=asked_windows),
    "qwen3_vl_text": Llama(head_norms=True, head_dim=128, kv_heads=32),
    "mimo": Llama(qkv_bias=True, windows=asked_windows),
    "falcon": falcon,
    "mpt": mpt,
    "gptj": gptj,
}
