"""Readers of decoders with multi-head latent attention (MLA) and routed experts: DeepSeek V2 to V4, Kimi K2, GLM 5
and 4.7 Flash, LongCat-Flash; MiniCPM 3 and Youtu have MLPs instead.

Keys: `kv_lora_rank`, `q_lora_rank`, `qk_rope_head_dim`, `qk_nope_head_dim`, `v_head_dim`, `n_routed_experts`, `n_shared_experts`,
`first_k_dense_replace`; of the sparse indexer `index_topk`, `index_n_heads`, `index_head_dim`; of V4 `layer_types` or `compress_ratios`.
"""

from collections.abc import Callable
from dataclasses import replace

from advisor.profiles.architectures.fields import Fields
from advisor.profiles.architectures.layers import LatentAttention, Layer, Matrix
from advisor.profiles.architectures.parts import Blocks, blocks, experts, gated_mlp, kinds, layer, router, sparse_layers

_RATIOS = {"sliding_attention": 0, "compressed_sparse_attention": 4, "heavily_compressed_attention": 128}
"""Tokens per compressed entry of DeepSeek V4's layer types; 0 has a window only."""
_FIRST_DENSE = {"deepseek_v2": 0, "glm4_moe_lite": 1}
"""Dense layers at the start where a config names none; 3 in other families."""


def deepseek(fields: Fields) -> Blocks:
    """DeepSeek V3 and V3.2, Kimi K2, GLM 5: dense layers first, then shared and routed experts; an indexer where the family has one."""
    hidden = fields.count("hidden_size")
    mlp_bias = fields.flag("mlp_bias", default=False)
    moe = latent_experts(fields, hidden)
    indexers = _indexers(fields)
    layers = []
    first_dense = _FIRST_DENSE.get(str(fields.values["model_type"]), 3)
    for sparse, indexer in zip(sparse_layers(fields, first_dense=first_dense), indexers, strict=True):
        mixer = latent_attention(fields, indexer=indexer)
        mlp = moe if sparse else gated_mlp(hidden, fields.count("intermediate_size"), bias=mlp_bias)
        index = _index_matrices(fields, mixer, hidden)
        vectors = 2 * hidden + latent_vectors(fields) + 2 * mixer.index_dim
        layers.append(layer(mixer, latent_matrices(fields, mixer, hidden), index, mlp, vectors=vectors))
    return blocks(fields, "mla-moe", layers)


def minicpm3(fields: Fields) -> Blocks:
    """MiniCPM 3 and Youtu: latent attention with a gated MLP in every layer."""
    hidden, mixer = fields.count("hidden_size"), latent_attention(fields)
    mlp = gated_mlp(hidden, fields.count("intermediate_size"), bias=fields.flag("mlp_bias", default=False))
    decoder_layer = layer(mixer, latent_matrices(fields, mixer, hidden), mlp, vectors=2 * hidden + latent_vectors(fields))
    return blocks(fields, "mla", [decoder_layer] * fields.layer_count(), tied=True)


def longcat_flash(fields: Fields) -> Blocks:
    """LongCat-Flash: two attentions and two MLPs in a layer, with experts beside them; some experts pass their input on."""
    hidden, mixer = fields.count("hidden_size"), latent_attention(fields)
    copies, idle, active = fields.count("n_routed_experts"), fields.size("zero_expert_num"), fields.count("moe_topk")
    moe = (
        *router(hidden, copies + idle, bias=fields.flag("router_bias", default=False)),
        # Of the experts that a token chooses, those that pass it on compute nothing: as many as their share on average.
        *experts(hidden, fields.count("expert_ffn_hidden_size"), copies=copies, active=max(active * copies // (copies + idle), 1)),
    )
    projections, mlp = latent_matrices(fields, mixer, hidden), gated_mlp(hidden, fields.count("ffn_hidden_size"))
    vectors = 2 * hidden + latent_vectors(fields)
    halves = [layer(mixer, projections, moe, mlp, vectors=vectors), layer(mixer, projections, mlp, vectors=vectors)]
    count = fields.layer_count("num_layers" if "num_layers" in fields.values else "num_hidden_layers")
    return replace(blocks(fields, "mla-moe", halves * count), layers_per_block=2)


def latent_attention(fields: Fields, *, indexer: str = "none") -> LatentAttention:
    """The attention of a layer whose indexer is its own (`full`), an earlier layer's (`shared`) or absent (`none`)."""
    own = indexer == "full"
    return LatentAttention(
        heads=fields.count("num_attention_heads"),
        kv_rank=fields.count("kv_lora_rank"),
        rope_dim=fields.count("qk_rope_head_dim"),
        nope_dim=fields.count("qk_nope_head_dim"),
        value_dim=fields.count("v_head_dim"),
        index_topk=None if indexer == "none" else fields.count("index_topk"),
        index_heads=fields.count("index_n_heads") if own else 0,
        index_dim=fields.count("index_head_dim") if own else 0,
    )


def latent_matrices(fields: Fields, mixer: LatentAttention, hidden: int) -> tuple[Matrix, ...]:
    """Projections into and out of the latent space; queries are compressed too where `q_lora_rank` is set."""
    bias, rank = fields.flag("attention_bias", default=False), fields.size("q_lora_rank")
    queries = mixer.heads * (mixer.nope_dim + mixer.rope_dim)
    compressed = (
        Matrix(name="kv_a_proj_with_mqa", n=mixer.kv_rank + mixer.rope_dim, k=hidden, kind="attention", bias=bias),
        Matrix(name="kv_b_proj", n=mixer.heads * (mixer.nope_dim + mixer.value_dim), k=mixer.kv_rank, kind="attention"),
        Matrix(name="o_proj", n=hidden, k=mixer.heads * mixer.value_dim, kind="attention", bias=bias),
    )
    if not rank:
        return (Matrix(name="q_proj", n=queries, k=hidden, kind="attention"), *compressed)
    return (
        Matrix(name="q_a_proj", n=rank, k=hidden, kind="attention", bias=bias),
        Matrix(name="q_b_proj", n=queries, k=rank, kind="attention"),
        *compressed,
    )


def latent_vectors(fields: Fields) -> int:
    """Parameters of the norms of compressed queries and keys."""
    return fields.size("q_lora_rank") + fields.count("kv_lora_rank")


def latent_experts(fields: Fields, hidden: int) -> tuple[Matrix, ...]:
    """Router, routed experts and the shared ones as one MLP of their summed width."""
    copies = fields.count("n_routed_experts", "num_experts")
    active = fields.count("num_experts_per_tok", "num_experts_per_token")
    inner = fields.count("moe_intermediate_size")
    shared_experts = fields.size("n_shared_experts", fields.size("num_shared_experts"))
    shared_part = gated_mlp(hidden, inner * shared_experts, kind="shared-expert") if shared_experts else ()
    return (*router(hidden, copies), *experts(hidden, inner, copies=copies, active=active), *shared_part)


def _indexers(fields: Fields) -> list[str]:
    """The indexer of each layer: `none`, `full` (its own) or `shared` (that of an earlier layer)."""
    count = fields.layer_count()
    if fields.values["model_type"] not in ("deepseek_v32", "glm_moe_dsa"):
        return ["none"] * count
    types = kinds(fields, "indexer_types", count, {"full", "shared"})
    if types is not None:
        return types
    every, offset = fields.count("index_topk_freq", default=1), fields.size("index_skip_topk_offset", 2)
    return ["shared" if max(index - offset + 1, 0) % every else "full" for index in range(count)]


def _index_matrices(fields: Fields, mixer: LatentAttention, hidden: int) -> tuple[Matrix, ...]:
    if not mixer.index_heads:
        return ()
    width = mixer.index_heads * mixer.index_dim
    return (
        Matrix(name="indexer.wq_b", n=width, k=fields.count("q_lora_rank"), kind="attention"),
        Matrix(name="indexer.wk", n=mixer.index_dim, k=hidden, kind="attention"),
        Matrix(name="indexer.weights_proj", n=mixer.index_heads, k=hidden, kind="router"),
    )


def deepseek_v4(fields: Fields) -> Blocks:
    """DeepSeek V4: keys that are the values, a window plus compressed context, grouped output projection, `hc_mult` residual streams."""
    hidden, streams = fields.count("hidden_size"), fields.count("hc_mult", default=4)
    moe = latent_experts(fields, hidden)
    by_ratio: dict[int, Layer] = {}
    layers = []
    for ratio in _compression(fields):
        if ratio not in by_ratio:
            by_ratio[ratio] = _v4_layer(fields, hidden, streams, ratio, moe)
        layers.append(by_ratio[ratio])
    head = streams * streams * hidden + streams + 1
    return blocks(fields, "mla-moe", layers, vectors=hidden + head)


def _compression(fields: Fields) -> list[int]:
    """Tokens per compressed entry of each layer; 0 caches the window only."""
    count = fields.layer_count()
    types = kinds(fields, "layer_types", count, set(_RATIOS))
    if types is not None:
        return [_RATIOS[kind] for kind in types]
    ratios = fields.items("compress_ratios")
    if ratios is None or len(ratios) < count or not all(ratio in (0, 4, 128) for ratio in ratios[:count]):
        raise fields.problem(f"`compress_ratios` needs {count} entries, each 0, 4 or 128")
    return ratios[:count]


def _v4_layer(fields: Fields, hidden: int, streams: int, ratio: int, moe: tuple[Matrix, ...]) -> Layer:
    mixer = _v4_attention(fields, ratio)
    rank, out_rank, groups = fields.count("q_lora_rank"), fields.count("o_lora_rank"), fields.count("o_groups")
    dim = mixer.kv_rank
    projections = (
        Matrix(name="q_a_proj", n=rank, k=hidden, kind="attention"),
        Matrix(name="q_b_proj", n=mixer.heads * dim, k=rank, kind="attention"),
        Matrix(name="kv_proj", n=dim, k=hidden, kind="attention"),
        Matrix(name="o_a_proj", n=out_rank, k=mixer.heads * dim // groups, kind="attention", copies=groups, active=groups),
        Matrix(name="o_b_proj", n=hidden, k=groups * out_rank, kind="attention"),
    )
    index, index_vectors = _v4_compressor(mixer, hidden, rank, ratio)
    mixing = (2 + streams) * streams
    residual = Matrix(name="hc", n=mixing, k=streams * hidden, kind="router", copies=2, active=2)
    vectors = 2 * hidden + rank + dim + mixer.heads + index_vectors + 2 * (mixing + 3)
    return layer(mixer, projections, index, (residual,), moe, vectors=vectors)


def _v4_attention(fields: Fields, ratio: int) -> LatentAttention:
    dim = fields.count("head_dim", default=512)
    sparse = ratio == 4
    return LatentAttention(
        heads=fields.count("num_attention_heads"),
        kv_rank=dim,
        rope_dim=0,
        nope_dim=dim,
        value_dim=dim,
        window=fields.count("sliding_window", default=128),
        compression=ratio or None,
        sinks=True,
        index_topk=fields.count("index_topk") if sparse else None,
        index_heads=fields.count("index_n_heads") if sparse else 0,
        index_dim=fields.count("index_head_dim") if sparse else 0,
        rotary_in_rank=fields.count("qk_rope_head_dim", default=64),
    )


def _v4_compressor(mixer: LatentAttention, hidden: int, rank: int, ratio: int) -> tuple[tuple[Matrix, ...], int]:
    """Matrices and vector parameters that compress the context; with an indexer compressed spans overlap, so they are twice as wide."""
    if not ratio:
        return (), 0
    dim, overlap = mixer.kv_rank, 2 if mixer.index_heads else 1
    matrices = [
        Matrix(name="compressor.kv_proj", n=overlap * dim, k=hidden, kind="attention"),
        Matrix(name="compressor.gate_proj", n=overlap * dim, k=hidden, kind="attention"),
    ]
    vectors = ratio * overlap * dim + dim
    if mixer.index_heads:
        width = mixer.index_heads * mixer.index_dim
        matrices += [
            Matrix(name="indexer.kv_proj", n=overlap * mixer.index_dim, k=hidden, kind="attention"),
            Matrix(name="indexer.gate_proj", n=overlap * mixer.index_dim, k=hidden, kind="attention"),
            Matrix(name="indexer.q_b_proj", n=width, k=rank, kind="attention"),
            Matrix(name="indexer.weights_proj", n=mixer.index_heads, k=hidden, kind="router"),
        ]
        vectors += ratio * overlap * mixer.index_dim + mixer.index_dim
    return tuple(matrices), vectors


LATENT_READERS: dict[str, Callable[[Fields], Blocks]] = {
    "deepseek_v2": deepseek,
    "deepseek_v3": deepseek,
    "deepseek_v32": deepseek,
    "glm_moe_dsa": deepseek,
    "kimi_k2": deepseek,
    "glm4_moe_lite": deepseek,
    "minicpm3": minicpm3,
    "youtu": minicpm3,
    "longcat_flash": longcat_flash,
    "deepseek_v4": deepseek_v4,
    "deepseek_ref": deepseek_v4,
}
