"""Layers of decoders with self-attention and a dense MLP: Llama, Mistral, Qwen 2 and 3."""

from dataclasses import dataclass

from advisor.profiles.layers import Layer, Matrix, SelfAttention
from advisor.profiles.model_fields import Fields


@dataclass(frozen=True, slots=True)
class Blocks:
    """What a family's reader returns: the layers and what belongs to none of them."""

    family: str
    layers: tuple[Layer, ...]
    vector_parameters: int
    tied: bool = False


def llama_blocks(fields: Fields) -> Blocks:
    """Llama, Mistral and Qwen: RMSNorm, gated MLP, rotary positions."""
    hidden = fields.count("hidden_size")
    kind = fields.values["model_type"]
    bias = fields.flag("attention_bias", default=kind == "qwen2")
    attention = grouped_attention(fields)
    layer = Layer(
        mixer=attention,
        matrices=(*attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias and kind != "qwen2"), *gated_mlp(fields, hidden)),
        vector_parameters=2 * hidden + (2 * attention.head_dim if kind == "qwen3" else 0),
    )
    layers = (layer,) * fields.count("num_hidden_layers")
    return Blocks("dense", layers, hidden, fields.flag("tie_word_embeddings", default=False))


def grouped_attention(fields: Fields) -> SelfAttention:
    """Attention over the full context with `num_key_value_heads` groups."""
    heads = fields.count("num_attention_heads")
    head_dim = fields.count("head_dim", default=fields.count("hidden_size") // heads)
    return SelfAttention(q_heads=heads, kv_heads=fields.count("num_key_value_heads", default=heads), head_dim=head_dim, value_dim=head_dim)


def attention_matrices(attention: SelfAttention, hidden: int, *, qkv_bias: bool = False, out_bias: bool = False) -> tuple[Matrix, ...]:
    """The four projections of self-attention."""
    queries, keys = attention.q_heads * attention.head_dim, attention.kv_heads * attention.head_dim
    values, mixed = attention.kv_heads * attention.value_dim, attention.q_heads * attention.value_dim
    return (
        Matrix(name="q_proj", n=queries, k=hidden, kind="attention", bias=qkv_bias),
        Matrix(name="k_proj", n=keys, k=hidden, kind="attention", bias=qkv_bias),
        Matrix(name="v_proj", n=values, k=hidden, kind="attention", bias=qkv_bias),
        Matrix(name="o_proj", n=hidden, k=mixed, kind="attention", bias=out_bias),
    )


def gated_mlp(fields: Fields, hidden: int) -> tuple[Matrix, ...]:
    """Gate, up and down projections."""
    inner, bias = fields.count("intermediate_size"), fields.flag("mlp_bias", default=False)
    return (
        Matrix(name="gate_proj", n=inner, k=hidden, kind="mlp", bias=bias),
        Matrix(name="up_proj", n=inner, k=hidden, kind="mlp", bias=bias),
        Matrix(name="down_proj", n=hidden, k=inner, kind="mlp", bias=bias),
    )
