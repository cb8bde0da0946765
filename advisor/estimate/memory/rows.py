"""Bytes of one cached token in one layer, as engines lay out rows and their scales."""

from advisor.estimate.memory.sharding import heads_per_rank
from advisor.profiles.architectures.layers import LatentAttention, SelfAttention
from advisor.profiles.engines import CacheRows
from advisor.profiles.formats import weight_format

KV_SCALE_BYTES = 2
"""A 16-bit scale for the keys, and for the values, of a token and head, or of each group of their elements."""


def row_bytes(mixer: SelfAttention, kv_format: str, rows: CacheRows, ranks: int = 1) -> float:
    """Bytes of the keys and values of one token in a layer, on one device of a tensor-parallel group; without an indexer's key."""
    if mixer.reuses_cache:
        return 0.0
    heads, elements = heads_per_rank(mixer.kv_heads, ranks), mixer.head_dim + mixer.value_dim
    groups = (2.0 if rows.group_elements is None else elements / rows.group_elements) if kv_format in rows.scaled else 0.0
    return heads * (elements * weight_format(kv_format).bits / 8 + KV_SCALE_BYTES * groups)


def entry_bytes(mixer: LatentAttention, kv_format: str, rows: CacheRows) -> float:
    """Bytes of one entry of latent attention in a layer, without an indexer's key."""
    elements, layout = mixer.kv_rank + mixer.rope_dim, rows.latent_fp8.get(mixer.layout)
    if kv_format == "fp8" and layout is not None:
        return layout.row_bytes(elements, mixer.rotary_elements)
    return elements * weight_format(kv_format).bits / 8


def index_key_bytes(mixer: SelfAttention | LatentAttention, kv_format: str, rows: CacheRows) -> float:
    """Bytes of an indexer's key of one entry in a layer; 0 without an indexer."""
    if isinstance(mixer, LatentAttention) and mixer.index_dim and rows.index_keys is not None:
        return rows.index_keys.row_bytes(mixer.index_dim)
    return mixer.index_dim * weight_format(kv_format).bits / 8
