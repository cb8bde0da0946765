"""Bytes of keys and values: of a row, of a sequence, of a sequence on the fullest device."""

from functools import lru_cache
from math import ceil

from advisor.backends.deployment import Deployment, KvLayout
from advisor.estimate.memory.pages import PagePool, page_pool
from advisor.estimate.memory.rows import KV_SCALE_BYTES, entry_bytes, index_key_bytes, row_bytes
from advisor.estimate.memory.sharding import stage_share
from advisor.estimate.operators.structure import structure_of
from advisor.profiles.architectures.layers import LatentAttention, RecurrentMixer, SelfAttention
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engines import EngineProfile, load_engine
from advisor.profiles.formats import CONTIGUOUS_PAGE_TOKENS, RECENT_PAGES, weight_format

ASSUMED_GROUP = 32
"""Fewest elements of a row that share a scale in the caches of public engines (llama.cpp, ExLlamaV2)."""


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
    profile, total = load_engine(engine), 0.0
    rows = profile.kv_rows
    for mixer, count in structure_of(model).mixers:
        if isinstance(mixer, SelfAttention):
            cached = _window_tokens(mixer, tokens, profile) if mixer.window else tokens
            total += count * cached * (row_bytes(mixer, kv_format, rows, ranks) + index_key_bytes(mixer, kv_format, rows))
        elif isinstance(mixer, LatentAttention):
            entries, in_window = mixer.entries(tokens), _window_tokens(mixer, tokens, profile)
            total += count * (in_window + entries) * entry_bytes(mixer, kv_format, rows)
            total += count * entries * index_key_bytes(mixer, kv_format, rows)
    return total


def _window_tokens(mixer: SelfAttention | LatentAttention, tokens: int, engine: EngineProfile) -> int:
    """Tokens of a sequence that the cache of windowed layers has cells for: those in the window, with a step, or a share of all."""
    window, share = min(tokens, mixer.window or 0), engine.window_share
    if window and engine.window_cells is not None:
        return min(tokens, engine.window_cells.cells(mixer.window or 0))
    if share is None or not window:
        return window
    return max(window, ceil(tokens * (share.sliding if isinstance(mixer, SelfAttention) else share.compressed)))


def device_kv_bytes(deployment: Deployment, tokens: int, step_tokens: int | None = None) -> float:
    """Bytes of the cache and recurrent states of a sequence on the fullest device of its replica.

    `step_tokens` are the newest tokens, which windows hold beside their own where pages are unified; `None` for those of a decoding step.
    """
    ranks, pool = deployment.parallel.tensor, _page_pool(deployment)
    if pool is not None:
        step = step_tokens or deployment.decoding.draft_tokens + 1
        return pool.sequence_bytes(tokens, step) * stage_share(deployment)
    states = sum(count * mixer.state_bytes for mixer, count in structure_of(deployment.model).mixers if isinstance(mixer, RecurrentMixer))
    cache = model_kv_bytes(deployment.model, tokens, deployment.kv.format, deployment.engine, ranks)
    return (cache + recent_bytes(deployment) / ranks + states / ranks) * stage_share(deployment)


def _page_pool(deployment: Deployment) -> PagePool | None:
    kv, engine = deployment.kv, load_engine(deployment.engine)
    if engine.pages is None or kv.layout == KvLayout.CONTIGUOUS:
        return None
    return page_pool(deployment.model, kv.format, engine.name, deployment.parallel.tensor, block_tokens(deployment, engine))


def block_tokens(deployment: Deployment, engine: EngineProfile) -> int:
    """Tokens of one block of a paged cache.

    Where recurrent states share a pool with keys and values, all pages have the size of the larger (vLLM's hybrid cache manager).
    """
    block, kv = max(deployment.kv.block_tokens, 1), deployment.kv
    if engine.pages is None:
        return block
    return max(block, _state_tokens(deployment.model, kv.format, engine.name, deployment.parallel.tensor, block))


@lru_cache(maxsize=256)
def _state_tokens(model: ModelSpec, kv_format: str, engine: str, ranks: int, block: int) -> int:
    """Tokens, in whole blocks, whose keys and values in one layer take at least as much as the largest state; 0 without either."""
    rows, mixers = load_engine(engine).kv_rows, [mixer for mixer, _ in structure_of(model).mixers]
    states = [mixer.state_bytes / ranks for mixer in mixers if isinstance(mixer, RecurrentMixer)]
    keys = [row_bytes(mixer, kv_format, rows, ranks) for mixer in mixers if isinstance(mixer, SelfAttention)]
    keys += [entry_bytes(mixer, kv_format, rows) for mixer in mixers if isinstance(mixer, LatentAttention)]
    if not states or not keys:
        return 0
    return ceil(max(states) / max(keys) / block) * block


def cache_spread(deployment: Deployment) -> tuple[float, float]:
    """The least and the most that a cache may take as a multiple of the predicted bytes; both 1 where the engine's layout is known.

    An integer cache whose scales are assumed may have none, or a scale and a zero point for every `ASSUMED_GROUP` elements.
    """
    pool, kv_format = _page_pool(deployment), weight_format(deployment.kv.format)
    if pool is not None:
        return pool.least_share, 1.0
    if deployment.kv.format not in ("int8", "int4") or load_engine(deployment.engine).kv_rows.source is not None:
        return 1.0, 1.0
    heads = (mixer.head_dim for mixer, _ in structure_of(deployment.model).mixers if isinstance(mixer, SelfAttention))
    scale_bits = 8 * KV_SCALE_BYTES
    assumed_bits = kv_format.bits + scale_bits / max(heads, default=ASSUMED_GROUP)
    return kv_format.bits / assumed_bits, max((kv_format.bits + 2 * scale_bits / ASSUMED_GROUP) / assumed_bits, 1.0)


def recent_bytes(deployment: Deployment) -> float:
    """Bytes of the newest pages of a sequence where the engine keeps them in 16 bits in addition to a quantised cache."""
    if deployment.kv.format not in load_engine(deployment.engine).kv_rows.recent:
        return 0.0
    tokens = RECENT_PAGES * (deployment.kv.block_tokens or CONTIGUOUS_PAGE_TOKENS)
    mixers = ((mixer, count) for mixer, count in structure_of(deployment.model).mixers if isinstance(mixer, SelfAttention))
    return sum(deployment.element_bytes * count * tokens * mixer.kv_heads * (mixer.head_dim + mixer.value_dim) for mixer, count in mixers)
