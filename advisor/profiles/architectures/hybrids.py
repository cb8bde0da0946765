"""Readers of decoders that mix state-space, convolution or linear-attention layers with attention, each with an MLP or experts.

Families: Falcon-H1, Granite 4 H, Bamba, Jamba, LFM 2, MiniMax Text. Keys: `mamba_n_heads`, `mamba_d_head`, `mamba_d_state`, `mamba_d_conv`,
`mamba_n_groups`, `mamba_expand`, `mamba_dt_rank`; the layers with attention: `layer_types`, `layers_block_type`, `attn_layer_indices`,
`attn_layer_period`, `full_attn_idxs`, `attn_type_list`.
"""

from collections.abc import Callable
from dataclasses import replace

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.layers import Layer, Matrix
from advisor.profiles.architectures.parts import (
    Blocks,
    attention_matrices,
    blocks,
    experts,
    gated_mlp,
    grouped_attention,
    kinds,
    layer,
    router,
)
from advisor.profiles.architectures.recurrent import mamba2_layer, mamba_layer, recurrent_mixer

_ATTENTION = {"attention", "full_attention"}
_RECURRENT = {"mamba", "linear_attention", "conv"}


def falcon_h1(fields: Fields) -> Blocks:
    """Falcon-H1: Mamba 2 and attention beside each other in every layer, then an MLP: two entries of `layers`."""
    hidden, bias = fields.count("hidden_size"), fields.flag("attention_bias", default=False)
    norm = fields.flag("mamba_rms_norm", default=False)
    described = Fields({**fields.values, "out_bias": fields.flag("projectors_bias", default=False)}, fields.where)
    mamba = _mamba2(described, hidden, inner=fields.size("mamba_d_ssm"), gated_norm=norm)
    attention = grouped_attention(fields, kv_heads=8)
    projections = attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias)
    mlp = gated_mlp(hidden, fields.count("intermediate_size"), bias=fields.flag("mlp_bias", default=False))
    # One norm before both mixers is counted with Mamba's layer, that of the MLP here.
    halves = [mamba, layer(attention, projections, mlp, vectors=hidden)]
    return replace(blocks(fields, "hybrid", halves * fields.layer_count()), layers_per_block=2)


def granite_hybrid(fields: Fields) -> Blocks:
    """Granite 4 H: Mamba 2 or attention, then a shared MLP, with routed experts where `num_local_experts` is set."""
    hidden, copies = fields.count("hidden_size"), fields.size("num_local_experts", 8)
    shared = gated_mlp(hidden, fields.count("shared_intermediate_size", default=1024), kind="shared-expert" if copies else "mlp")
    moe: tuple[Matrix, ...] = ()
    if copies:
        active = fields.count("num_experts_per_tok", default=2)
        moe = (*router(hidden, copies), *experts(hidden, fields.count("intermediate_size"), copies=copies, active=active))
    types = kinds(fields, "layer_types", fields.layer_count(), _ATTENTION | _RECURRENT)
    types = types or kinds(fields, "layers_block_type", fields.layer_count(), _ATTENTION | _RECURRENT)
    by_kind = {
        True: _attention_layer(fields, hidden, *moe, *shared),
        False: _followed(_mamba2(fields, hidden), hidden, *moe, *shared),
    }
    layers = [by_kind[kind in _ATTENTION] for kind in types or ["mamba"] * fields.layer_count()]
    return blocks(fields, "hybrid-moe" if copies else "hybrid", layers)


def bamba(fields: Fields) -> Blocks:
    """Bamba: Mamba 2, or attention in the layers of `attn_layer_indices`, each with an MLP."""
    hidden, full = fields.count("hidden_size"), fields.items("attn_layer_indices") or []
    mlp = gated_mlp(hidden, fields.count("intermediate_size"), bias=fields.flag("mlp_bias", default=False))
    attention, mamba = _attention_layer(fields, hidden, *mlp), _followed(_mamba2(fields, hidden), hidden, *mlp)
    return blocks(fields, "hybrid", [attention if index in full else mamba for index in range(fields.layer_count())])


def jamba(fields: Fields) -> Blocks:
    """Jamba: Mamba 1 with norms, attention in every `attn_layer_period`-th layer, experts in every `expert_layer_period`-th."""
    hidden, inner = fields.count("hidden_size"), fields.count("mamba_expand", default=2) * fields.count("hidden_size")
    copies, mlp = fields.count("num_experts", default=16), gated_mlp(hidden, fields.count("intermediate_size"))
    active = fields.count("num_experts_per_tok", default=2)
    moe = (*router(hidden, copies), *experts(hidden, fields.count("intermediate_size"), copies=copies, active=active))
    described = _renamed(fields)
    layers = []
    for index in range(fields.layer_count()):
        sparse = copies > 1 and _periodic(fields, index, "expert_layer", 2, 1)
        parts = moe if sparse else mlp
        if _periodic(fields, index, "attn_layer", 8, 4):
            layers.append(_attention_layer(fields, hidden, *parts))
        else:
            layers.append(_followed(mamba_layer(described, hidden, inner, norms=True), hidden, *parts))
    return blocks(fields, "hybrid-moe" if copies > 1 else "hybrid", layers)


def _periodic(fields: Fields, index: int, name: str, period: int, offset: int) -> bool:
    period, offset = fields.count(f"{name}_period", default=period), fields.size(f"{name}_offset", offset)
    return index % period == offset


def lfm2(fields: Fields) -> Blocks:
    """LFM 2: short gated convolutions and attention with head norms; dense, or with experts after `num_dense_layers` layers."""
    hidden, count = fields.count("hidden_size"), fields.layer_count()
    types = kinds(fields, "layer_types", count, _ATTENTION | _RECURRENT)
    listed = fields.items("full_attn_idxs")
    full = [kind in _ATTENTION for kind in types] if types else [listed is None or index in listed for index in range(count)]
    copies = fields.size("num_experts")
    dense = gated_mlp(hidden, fields.count("intermediate_size", default=7168) if copies else _lfm2_width(fields))
    moe = _lfm2_experts(fields, hidden, copies) if copies else ()
    first_sparse = fields.size("num_dense_layers", 2)
    layers = []
    for index, attends in enumerate(full):
        mlp = moe if copies and index >= first_sparse else dense
        layers.append(_lfm2_attention(fields, hidden, mlp) if attends else _lfm2_convolution(fields, hidden, mlp))
    tied = fields.flag("tie_embedding", "tie_word_embeddings", default=True)
    described = Fields({**fields.values, "tie_word_embeddings": tied}, fields.where)
    return blocks(described, "hybrid-moe" if copies else "hybrid", layers)


def _lfm2_experts(fields: Fields, hidden: int, copies: int) -> tuple[Matrix, ...]:
    active, inner = fields.count("num_experts_per_tok", default=4), fields.count("moe_intermediate_size", default=1792)
    return (*router(hidden, copies), *experts(hidden, inner, copies=copies, active=active))


def _lfm2_width(fields: Fields) -> int:
    """Width of the MLP: two thirds of `block_ff_dim`, times a factor, rounded up to `block_multiple_of`, unless it is taken as it is."""
    width = fields.count("block_ff_dim", "intermediate_size", default=12288)
    if not fields.flag("block_auto_adjust_ff_dim", default=True):
        return width
    factor = fields.values.get("block_ffn_dim_multiplier", 1.0)
    if factor is not None and (isinstance(factor, bool) or not isinstance(factor, int | float) or not 0 < factor < 1000):
        raise fields.problem(f"`block_ffn_dim_multiplier` is {factor!r}; a positive number is needed")
    width = int(2 * width / 3)
    multiple = fields.count("block_multiple_of", default=256)
    return width if factor is None else -(-int(factor * width) // multiple) * multiple


def _lfm2_attention(fields: Fields, hidden: int, mlp: tuple[Matrix, ...]) -> Layer:
    attention = grouped_attention(fields, kv_heads=8)
    return layer(attention, attention_matrices(attention, hidden), mlp, vectors=2 * hidden + 2 * attention.head_dim)


def _lfm2_convolution(fields: Fields, hidden: int, mlp: tuple[Matrix, ...]) -> Layer:
    kernel, bias = fields.count("conv_L_cache", default=3), fields.flag("conv_bias", default=False)
    projections = (
        Matrix(name="in_proj", n=3 * hidden, k=hidden, kind="mixer", bias=bias),
        Matrix(name="out_proj", n=hidden, k=hidden, kind="mixer", bias=bias),
    )
    mixer = recurrent_mixer("short-convolution", fields, state=0, channels=hidden, kernel=kernel, operations=0)
    return layer(mixer, projections, mlp, vectors=2 * hidden + hidden * (kernel + bias))


def minimax(fields: Fields) -> Blocks:
    """MiniMax Text: lightning attention, a linear attention with a decay per head, softmax attention in some layers, experts."""
    hidden, count = fields.count("hidden_size"), fields.layer_count()
    copies, active = fields.count("num_local_experts", default=8), fields.count("num_experts_per_tok", default=2)
    moe = (*router(hidden, copies), *experts(hidden, fields.count("intermediate_size"), copies=copies, active=active))
    types, listed = kinds(fields, "layer_types", count, _ATTENTION | _RECURRENT), fields.items("attn_type_list")
    if listed is not None and len(listed) < count:
        raise fields.problem(f"`attn_type_list` has {len(listed)} entries for {count} layers")
    attention = grouped_attention(fields, kv_heads=8)
    width = attention.q_heads * attention.head_dim
    linear = (
        Matrix(name="qkv_proj", n=3 * width, k=hidden, kind="mixer"),
        Matrix(name="output_gate", n=width, k=hidden, kind="mixer"),
        Matrix(name="out_proj", n=hidden, k=width, kind="mixer"),
    )
    mixer = recurrent_mixer("lightning", fields, state=width * attention.head_dim, channels=0, kernel=1, operations=5)
    by_kind = {
        True: layer(attention, attention_matrices(attention, hidden), moe, vectors=2 * hidden),
        False: layer(mixer, linear, moe, vectors=2 * hidden + width),
    }
    full = [kind in _ATTENTION for kind in types] if types else [bool(kind) for kind in listed or [1, 0] * count]
    return blocks(fields, "hybrid-moe", [by_kind[attends] for attends in full[:count]])


def _attention_layer(fields: Fields, hidden: int, *matrices: Matrix) -> Layer:
    attention, bias = grouped_attention(fields, kv_heads=8), fields.flag("attention_bias", default=False)
    projections = attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias)
    return layer(attention, projections, matrices, vectors=2 * hidden)


def _mamba2(fields: Fields, hidden: int, *, inner: int = 0, gated_norm: bool = True) -> Layer:
    """A Mamba 2 layer under the keys of Granite, Bamba and Falcon-H1; `inner` channels, by default `mamba_expand` times the hidden size."""
    heads, width = fields.count("mamba_n_heads", default=128), inner or fields.count("mamba_expand", default=2) * hidden
    auto = fields.values.get("mamba_d_head", "auto") == "auto"
    dim = max(width // heads, 1) if auto else fields.count("mamba_d_head")
    states = fields.count("mamba_d_state", default=256)
    return mamba2_layer(_renamed(fields), hidden, heads=heads, dim=dim, states=states, gated_norm=gated_norm)


def _renamed(fields: Fields) -> Fields:
    """The config with Mamba's own names of its keys."""
    names = {
        "n_groups": "mamba_n_groups", "conv_kernel": "mamba_d_conv", "use_bias": "mamba_proj_bias", "use_conv_bias": "mamba_conv_bias",
        "state_size": "mamba_d_state", "time_step_rank": "mamba_dt_rank",
    }  # fmt: skip
    own = {name: fields.values[key] for name, key in names.items() if fields.values.get(key) is not None}
    return Fields({**fields.values, "n_groups": 1, **own}, fields.where)


def _followed(mixer: Layer, hidden: int, *matrices: Matrix) -> Layer:
    """A layer of a mixer alone with an MLP or experts after it, and their norm."""
    return replace(mixer, matrices=(*mixer.matrices, *matrices), vector_parameters=mixer.vector_parameters + hidden)


HYBRID_READERS: dict[str, Callable[[Fields], Blocks]] = {
    "falcon_h1": falcon_h1,
    "granitemoehybrid": granite_hybrid,
    "bamba": bamba,
    "jamba": jamba,
    "lfm2": lfm2,
    "lfm2_moe": lfm2,
    "minimax": minimax,
}
