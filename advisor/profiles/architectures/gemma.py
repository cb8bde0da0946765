"""Readers of Gemma 3n and 4: embeddings of every layer, layers that reuse an earlier layer's keys and values, experts beside an MLP.

Keys: `hidden_size_per_layer_input`, `vocab_size_per_layer_input`, `num_kv_shared_layers`, `use_double_wide_mlp`, `global_head_dim`,
`num_global_key_value_heads`, `attention_k_eq_v`, `enable_moe_block`; of Gemma 3n `altup_num_inputs`, `laurel_rank`.
"""

from collections.abc import Callable
from dataclasses import replace

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.layers import Layer, Matrix, SelfAttention
from advisor.profiles.architectures.parts import (
    Blocks,
    attention_matrices,
    blocks,
    experts,
    gated_mlp,
    grouped_attention,
    layer,
    router,
    windows,
)


def gemma4(fields: Fields) -> Blocks:
    """Gemma 4: wider heads and shared key-value projections in full layers, experts parallel to an MLP, embeddings per layer (E2B, E4B)."""
    hidden, inner = fields.count("hidden_size"), fields.count("intermediate_size")
    moe = _gemma4_experts(fields, hidden) if fields.flag("enable_moe_block", default=False) else ()
    copies = fields.count("num_experts") if moe else 0
    wide = 2 if fields.flag("use_double_wide_mlp", default=False) else 1
    layers: list[Layer] = []
    layer_windows = _last_full(windows(fields, full_every=6, default=512))
    for window, reuses in zip(layer_windows, _reusing(fields, layer_windows, 0), strict=True):
        attention, projections = _gemma4_attention(fields, hidden, window, reuses=reuses)
        mlp = gated_mlp(hidden, inner * (wide if reuses else 1))
        vectors = (7 if moe else 4) * hidden + _head_norms(attention) + (hidden + copies if moe else 0)
        layers.append(layer(attention, projections, mlp, moe, vectors=vectors))
    read = blocks(fields, "moe" if moe else "dense", layers, tied=True)
    return _with_layer_embeddings(read, fields, fields.size("hidden_size_per_layer_input", 256))


def gemma3n(fields: Fields) -> Blocks:
    """Gemma 3n: four residual streams (AltUp), low-rank residuals (LAuReL), embeddings per layer."""
    hidden, streams = fields.count("hidden_size", default=2048), fields.count("altup_num_inputs", default=4)
    rank, listed = fields.count("laurel_rank", default=64), fields.values.get("intermediate_size", 16384)
    widths = listed if isinstance(listed, list) else [fields.count("intermediate_size", default=16384)] * fields.layer_count()
    layer_windows = windows(fields, full_every=5, default=512)
    if len(widths) < len(layer_windows):
        raise fields.problem(f"`intermediate_size` has {len(widths)} entries for {len(layer_windows)} layers")
    extra = (
        Matrix(name="laurel.linear_left", n=rank, k=hidden, kind="mlp"),
        Matrix(name="laurel.linear_right", n=hidden, k=rank, kind="mlp"),
        Matrix(name="altup.modality_router", n=streams, k=hidden, kind="router"),
        Matrix(name="altup.correction_coefs", n=streams, k=streams, kind="router"),
        Matrix(name="altup.prediction_coefs", n=streams**2, k=streams, kind="router"),
    )
    layers: list[Layer] = []
    for width, window, reuses in zip(widths, layer_windows, _reusing(fields, layer_windows, 15), strict=False):
        attention = replace(grouped_attention(fields, head_dim=256, kv_heads=2, window=window), reuses_cache=reuses)
        bias = fields.flag("attention_bias", default=False)
        projections = _own_projections(attention, attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias))
        inner = Fields({"intermediate_size": width}, fields.where).count("intermediate_size")
        vectors = 7 * hidden + _head_norms(attention)
        layers.append(layer(attention, projections, gated_mlp(hidden, inner), extra, vectors=vectors))
    sides = tuple(
        Matrix(name=name, n=hidden, k=hidden, kind="router", copies=streams - 1, active=streams - 1)
        for name in ("altup_projections", "altup_unembed_projections")
        if streams > 1
    )
    layers[0] = replace(layers[0], matrices=(*layers[0].matrices, *sides))
    described = Fields({"max_position_embeddings": 32768, "vocab_size": 262400, "hidden_size": 2048, **fields.values}, fields.where)
    return _with_layer_embeddings(blocks(described, "dense", layers, tied=True), fields, fields.size("hidden_size_per_layer_input", 256))


def _with_layer_embeddings(read: Blocks, fields: Fields, width: int) -> Blocks:
    """The layers with an embedding of `width` elements for each, which a gate adds to the layer's output; 0 has none."""
    if not width:
        return read
    hidden, count = read.hidden_size, len(read.layers)
    gates = (
        Matrix(name="per_layer_input_gate", n=width, k=hidden, kind="mlp"),
        Matrix(name="per_layer_projection", n=hidden, k=width, kind="mlp"),
    )
    by_layer = {
        entry: replace(entry, matrices=(*entry.matrices, *gates), vector_parameters=entry.vector_parameters + hidden)
        for entry in dict.fromkeys(read.layers)
    }
    layers = [by_layer[entry] for entry in read.layers]
    # The projection of the input to the embeddings of all layers is counted with the first layer, before which it runs.
    projection = Matrix(name="per_layer_model_projection", n=count * width, k=hidden, kind="mlp")
    layers[0] = replace(layers[0], matrices=(*layers[0].matrices, projection))
    rows = fields.count("vocab_size_per_layer_input", default=262144)
    table = Matrix(name="embed_tokens_per_layer", n=rows, k=count * width, kind="embedding")
    return replace(read, layers=tuple(layers), lookups=(table,), vector_parameters=read.vector_parameters + width)


def _reusing(fields: Fields, layer_windows: list[int | None], default: int) -> list[bool]:
    """Which layers read the cache of the last layer of their kind before `num_kv_shared_layers` from the end."""
    count, shared = len(layer_windows), fields.size("num_kv_shared_layers", default)
    first = count - shared
    if shared and set(layer_windows) - set(layer_windows[: max(first, 0)]):
        raise fields.problem(f"`num_kv_shared_layers` is {shared} of {count} layers, which leaves a kind of layer without a cache")
    return [index >= first for index in range(count)]


def _last_full(layer_windows: list[int | None]) -> list[int | None]:
    return [*layer_windows[:-1], None]


def _head_norms(attention: SelfAttention) -> int:
    return attention.head_dim * (1 if attention.reuses_cache else 2)


def _own_projections(attention: SelfAttention, projections: tuple[Matrix, ...]) -> tuple[Matrix, ...]:
    """The projections without keys and values where an earlier layer's are read."""
    return tuple(matrix for matrix in projections if not (attention.reuses_cache and matrix.name in ("k_proj", "v_proj")))


def _gemma4_attention(fields: Fields, hidden: int, window: int | None, *, reuses: bool) -> tuple[SelfAttention, tuple[Matrix, ...]]:
    bias = fields.flag("attention_bias", default=False)
    attention = replace(grouped_attention(fields, head_dim=256, kv_heads=4, window=window), reuses_cache=reuses)
    one_projection = False
    if not window:
        dim, one_projection = fields.count("global_head_dim", default=512), fields.flag("attention_k_eq_v", default=False)
        groups = fields.count("num_global_key_value_heads", default=attention.kv_heads) if one_projection else attention.kv_heads
        attention = replace(attention, head_dim=dim, value_dim=dim, kv_heads=groups)
    projections = _own_projections(attention, attention_matrices(attention, hidden, qkv_bias=bias, out_bias=bias))
    return attention, tuple(matrix for matrix in projections if not (one_projection and matrix.name == "v_proj"))


def _gemma4_experts(fields: Fields, hidden: int) -> tuple[Matrix, ...]:
    copies, active = fields.count("num_experts"), fields.count("top_k_experts")
    return (*router(hidden, copies), *experts(hidden, fields.count("moe_intermediate_size"), copies=copies, active=active))


GEMMA_READERS: dict[str, Callable[[Fields], Blocks]] = {
    "gemma3n_text": gemma3n,
    "gemma4_text": gemma4,
}
