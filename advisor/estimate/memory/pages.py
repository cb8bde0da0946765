"""Pages of one size for all kinds of layer, as vLLM's hybrid cache manager allocates them.

Layers with the same cache form groups of equally many layers, each with its own block table. A block of any group takes the same
bytes: the pages of all layers of a group. Groups of windowed layers reserve the window and the tokens of the steps in flight.
"""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import ceil

from advisor.estimate.memory.rows import entry_bytes, index_key_bytes, row_bytes
from advisor.estimate.operators.structure import structure_of
from advisor.profiles.architectures.layers import LatentAttention, RecurrentMixer, SelfAttention
from advisor.profiles.architectures.spec import ModelSpec
from advisor.profiles.engine_parts import CompressedPages
from advisor.profiles.engines import load_engine

STATE_BYTES = 4
"""States of a compressor are fp32."""


@dataclass(frozen=True, slots=True)
class LayerPages:
    """The cache of one kind of layer in blocks of `block_tokens`."""

    page_bytes: float
    """Bytes of one layer's part of a block."""
    block_tokens: int
    window: int | None = None
    """Newest tokens that are cached; `None` for all, 0 for a state of fixed size."""
    chunked: bool = False
    """The window is a chunk with fixed borders."""

    def blocks(self, tokens: int, step_tokens: int) -> int:
        """Blocks of a sequence of `tokens` tokens, of which up to `step_tokens` are being computed."""
        if self.window == 0:
            return 1
        if self.window is None:
            return ceil(tokens / self.block_tokens)
        # A window may begin in the middle of a block.
        spare = 0 if self.chunked else 1
        return ceil(min(self.window - spare + step_tokens, tokens) / self.block_tokens) + spare


@dataclass(frozen=True, slots=True)
class PagePool:
    """A pool of blocks of one size that the groups of a model's layers share."""

    block_bytes: float
    """Bytes of a block on one device."""
    groups: tuple[tuple[LayerPages, int], ...]
    """Kinds of layers, and how many groups each is divided into."""
    least_share: float = 1.0
    """Bytes of a block in versions that pack the pages of a group, as a share of `block_bytes`."""

    def sequence_bytes(self, tokens: int, step_tokens: int) -> float:
        """Bytes of a sequence of `tokens` tokens on one device, of which up to `step_tokens` are being computed."""
        return self.block_bytes * sum(count * pages.blocks(tokens, step_tokens) for pages, count in self.groups)


@lru_cache(maxsize=1024)
def page_pool(model: ModelSpec, kv_format: str, engine: str, ranks: int, block_tokens: int) -> PagePool | None:
    """The pool of a model's cache on one device of a tensor-parallel group of `ranks`, in an engine's layout.

    `None` where the engine has no such pool, or where all layers cache all tokens: pages of several sizes are no matter then.
    """
    pages = load_engine(engine).pages
    mixers = [mixer for mixer, _ in structure_of(model).mixers]
    windowed = any(isinstance(mixer, SelfAttention | LatentAttention) and mixer.window for mixer in mixers)
    if pages is None or not (windowed or any(isinstance(mixer, RecurrentMixer) for mixer in mixers)):
        return None
    if any(isinstance(mixer, LatentAttention) and mixer.window for mixer in mixers):
        return _compressed_pool(model, kv_format, engine, pages.compressed) if pages.compressed is not None else None
    return _unified_pool(_layer_pages(model, kv_format, engine, ranks, block_tokens))


def _layer_pages(model: ModelSpec, kv_format: str, engine: str, ranks: int, block_tokens: int) -> Counter[LayerPages]:
    """Layers by the kind of their pages, before the sizes are made equal."""
    rows, kinds = load_engine(engine).kv_rows, Counter[LayerPages]()
    for mixer, count in structure_of(model).mixers:
        if isinstance(mixer, RecurrentMixer):
            kinds[LayerPages(mixer.state_bytes / ranks, block_tokens, 0)] += count
        elif isinstance(mixer, SelfAttention) and mixer.reuses_cache:
            continue
        elif isinstance(mixer, SelfAttention):
            size = row_bytes(mixer, kv_format, rows, ranks) + index_key_bytes(mixer, kv_format, rows)
            kinds[LayerPages(block_tokens * size, block_tokens, mixer.window, mixer.chunked)] += count
        else:
            size = entry_bytes(mixer, kv_format, rows) + index_key_bytes(mixer, kv_format, rows)
            kinds[LayerPages(block_tokens * size, block_tokens)] += count
    return kinds


def _unified_pool(kinds: Counter[LayerPages]) -> PagePool:
    """Pages of the largest size: smaller ones hold more tokens where they divide it, else they are padded.

    Groups have as many layers as the rarest kind, or as the commonest where that has less than half as many again.
    """
    page = max(pages.page_bytes for pages in kinds)
    layers = Counter[LayerPages]()
    for pages, count in kinds.items():
        ratio = page / pages.page_bytes
        tokens = pages.block_tokens * (int(ratio) if ratio == int(ratio) and pages.window != 0 else 1)
        layers[LayerPages(page, tokens, pages.window, pages.chunked)] += count
    fewest, most = min(layers.values()), max(layers.values())
    size = most if most < 1.5 * fewest else fewest
    return PagePool(size * page, tuple((pages, ceil(count / size)) for pages, count in layers.items()))


def _compressed_pool(model: ModelSpec, kv_format: str, engine: str, layout: CompressedPages) -> PagePool:
    """The pool of DeepSeek V4: compressed entries, windows and the states of compressors, in tuples of layers with different pages.

    A block holds one page of each size for as many layers as the fullest group has.
    """
    rows, entries, windows, states = load_engine(engine).kv_rows, Counter[float](), Counter[LayerPages](), Counter[LayerPages]()
    for mixer, count in structure_of(model).mixers:
        assert isinstance(mixer, LatentAttention)
        size, key = entry_bytes(mixer, kv_format, rows), index_key_bytes(mixer, kv_format, rows)
        windows[LayerPages(layout.aligned(layout.window_block_tokens * size), layout.window_block_tokens, mixer.window)] += count
        if mixer.compression is not None:
            stored = layout.block_tokens // mixer.compression
            for part in filter(None, (size, key)):
                entries[layout.aligned(stored * part)] += count
            states.update(dict.fromkeys(_state_pages(mixer, mixer.compression, layout), count))
    tuples = [max(entries.values()), *windows.values(), *states.values()]
    layers = min(range(tuples[0], max(tuples) + 1), key=lambda size: (sum(-count % size for count in tuples), -size))
    kinds = [(pages, ceil(count / layers), count) for pages, count in (*windows.items(), *states.items())]
    fullest = max(tuples[0], *(ceil(count / groups) for _, groups, count in kinds))
    whole, block_bytes = LayerPages(sum(entries), layout.block_tokens), sum(entries) * fullest
    packed = (ceil(count / groups) * pages.page_bytes for pages, groups, count in kinds)
    least = max(sum(page * count for page, count in entries.items()), *packed)
    return PagePool(block_bytes, ((whole, 1), *((pages, groups) for pages, groups, _ in kinds)), least / block_bytes)


def _state_pages(mixer: LatentAttention, compression: int, layout: CompressedPages) -> Iterator[LayerPages]:
    """The states of a layer's compressor: those of the span being compressed, and of the one before where spans overlap.

    The compressor of an indexer shares the block table of the layer's own.
    """
    overlap = 2 if mixer.index_dim else 1
    block = layout.state_block_tokens[compression]
    yield LayerPages(layout.aligned(block * 2 * overlap * mixer.kv_rank * STATE_BYTES), block, overlap * compression)
