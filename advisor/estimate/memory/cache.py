"""Bytes of keys and values: of a row, of a sequence, of a sequence on the fullest device."""

from functools import lru_cache

from advisor.backends.deployment import Deployment
from advisor.estimate.memory.sharding import heads_per_rank, stage_share
from advisor.estimate.operators.structure import structure_of
from advisor.profiles.architectures.layers import LatentAttention, RecurrentMixer, SelfAttention
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import CacheRows, load_engine
from advisor.profiles.formats import CONTIGUOUS_PAGE_TOKENS, RECENT_PAGES, weight_format

KV_SCALE_BYTES = 2
"""A 16-bit scale for the keys, and for the values, of a token and head, or of each group of their elements."""


def kv_bytes_per_token(deployment: Deployment) -> float:
    """Bytes of one more token of a sequence, in layers that cache the whole context."""
    return kv_bytes_of_sequence(deployment, 2) - kv_bytes_of_sequence(deployment, 1)


def kv_bytes_of_sequence(deployment: Deployment, tokens: int) -> float:
    """Bytes of the cache and recurrent states of a sequence, over all devices; sliding windows count, rounding to blocks does not."""
    model = deployment.model
    states = sum(count * mixer.state_bytes for mixer, count in structure_of(model).mixers if isinstance(mixer, RecurrentMixer))
    return model_kv_bytes(model, tokens, deployment.kv.format, deployment.engine) + states


@lru_cache(maxsize=4096)
def model_kv_bytes(model: ModelSpec, tokens: int, kv_format: str, engine: str, ranks: int = 1) -> float:
    """Bytes of the keys and values of a sequence of `tokens` tokens, on one device of a tensor-parallel group of `ranks`.

    A group divides heads, never one head; every device holds the compressed vectors of latent attention whole. `engine` names the
    engine whose layout of rows is used.
    """
    rows, total = load_engine(engine).kv_rows, 0.0
    for mixer, count in structure_of(model).mixers:
        if isinstance(mixer, SelfAttention):
            cached = min(tokens, mixer.window) if mixer.window else tokens
            total += count * cached * (row_bytes(mixer, kv_format, rows, ranks) + index_key_bytes(mixer, kv_format, rows))
        elif isinstance(mixer, LatentAttention):
            entries, in_window = mixer.entries(tokens), min(tokens, mixer.window or 0)
            total += count * (in_window + entries) * entry_bytes(mixer, kv_format, rows)
            total += count * entries * index_key_bytes(mixer, kv_format, rows)
    return total


def row_bytes(mixer: SelfAttention, kv_format: str, rows: CacheRows, ranks: int = 1) -> float:
    """Bytes of the keys and values of one token in a layer, on one device of a tensor-parallel group; without an indexer's key."""
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


def device_kv_bytes(deployment: Deployment, tokens: int) -> float:
    """Bytes of the cache and recurrent states of a sequence on the fullest device of its replica."""
    ranks = deployment.parallel.tensor
    states = sum(count * mixer.state_bytes for mixer, count in structure_of(deployment.model).mixers if isinstance(mixer, RecurrentMixer))
    cache = model_kv_bytes(deployment.model, tokens, deployment.kv.format, deployment.engine, ranks)
    return (cache + recent_bytes(deployment) / ranks + states / ranks) * stage_share(deployment)


def recent_bytes(deployment: Deployment) -> float:
    """Bytes of the newest pages of a sequence where the engine keeps them in 16 bits in addition to a quantised cache."""
    if deployment.kv.format not in load_engine(deployment.engine).kv_rows.recent:
        return 0.0
    tokens = RECENT_PAGES * (deployment.kv.block_tokens or CONTIGUOUS_PAGE_TOKENS)
    mixers = ((mixer, count) for mixer, count in structure_of(deployment.model).mixers if isinstance(mixer, SelfAttention))
    return sum(2.0 * count * tokens * mixer.kv_heads * (mixer.head_dim + mixer.value_dim) for mixer, count in mixers)
