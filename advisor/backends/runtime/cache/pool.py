"""The paged KV cache: a pool of blocks, the blocks of each sequence, and the memory rows of each token."""

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from advisor.backends.deployment import CacheRetention
from advisor.backends.runtime.cache.block_tables import BlockTables
from advisor.backends.runtime.cache.indices import Reading, Writing
from advisor.backends.runtime.cache.prefix import START, PrefixCache
from advisor.backends.runtime.cache.recent_pages import Span, ring_read, ring_write
from advisor.backends.runtime.cache.store import RING_FORMATS, KvBatch, Quantised, Store, new_quantised, new_store
from advisor.backends.runtime.device.memory import memory_errors
from advisor.backends.runtime.device.token_ring import upload
from advisor.profiles.formats import CONTIGUOUS_PAGE_TOKENS, RECENT_PAGES


@dataclass(frozen=True, slots=True)
class KvShape:
    """Shape of one token's keys and values in a layer."""

    kv_heads: int
    key_width: int
    value_width: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CacheConfig:
    """Size and format of a pool."""

    blocks: int
    block_tokens: int
    sequences: int
    max_tokens: int
    """Longest sequence. Blocks of this size make the layout contiguous: one block per sequence."""
    kv_format: str = "bf16"
    prefix_reuse: bool = False
    """Whether sequences with a common prefix share its full blocks."""
    retention: CacheRetention | None = None
    """Which tokens of a sequence are retained; `None` for all."""

    @property
    def is_contiguous(self) -> bool:
        """Whether a sequence is one block."""
        return self.block_tokens >= self.max_tokens

    @property
    def page_tokens(self) -> int:
        """Tokens of a page, of which the newest may be stored in full precision: a block, or a fixed number if contiguous."""
        return min(CONTIGUOUS_PAGE_TOKENS, self.max_tokens) if self.is_contiguous else self.block_tokens

    @property
    def has_ring(self) -> bool:
        """Whether the newest pages are also stored in full precision, in a ring of two pages a sequence."""
        return self.kv_format in RING_FORMATS


@dataclass(slots=True)
class SequenceBlocks:
    """The blocks of one sequence, in order, and how many of its tokens were written.

    Evicted blocks lie between those of the sink tokens and the others: the token at position p after them has index p - `evicted`
    in the remaining blocks.
    """

    row: int
    blocks: list[int] = field(default_factory=list)
    tokens: int = 0
    links: list[int] = field(default_factory=list)
    """Prefix-cache hashes of its first blocks, as far as they are in that cache."""
    evicted: int = 0
    """Tokens whose blocks were evicted."""


class Pool:
    """Blocks shared by all sequences; a block holds its tokens' keys [K, S, D] and values [K, S, E] in every layer."""

    def __init__(self, layers: tuple[KvShape, ...], config: CacheConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.config = config
        self.device = device
        self.dtype = dtype
        blocks, size = config.blocks, config.block_tokens

        with memory_errors(f"the allocation of a cache of {blocks} blocks of {size} tokens"):
            self._allocate(layers, dtype)
        self._block_bytes = sum(store.nbytes for store in (*self.keys, *self.values))
        self._ring_bytes = sum(store.ring_bytes for store in (*self.keys, *self.values))
        self.allocated_bytes = self._block_bytes + self._ring_bytes
        self.peak_blocks = self.peak_rows = 0
        keeps_all = not config.is_contiguous and config.retention is None
        self.prefixes = PrefixCache() if config.prefix_reuse and keeps_all else None
        self._tables = BlockTables(config.sequences, self.blocks_for(config.max_tokens), device)
        self._free = list(range(blocks - 1, -1, -1))
        self._free_rows = list(range(config.sequences - 1, -1, -1))

    def _allocate(self, layers: tuple[KvShape, ...], dtype: torch.dtype) -> None:
        """Quantised keys and values of equal width are allocated as one tensor: half as many calls write and read them."""
        config, self._both = self.config, list[Quantised]()
        self.keys, self.values = list[Store](), list[Store]()
        are_equal = all(heads.key_width == heads.value_width for heads in layers)
        for heads in layers:
            shape, ring = (config.blocks, heads.kv_heads, config.block_tokens), {"rows": config.sequences, "page": config.page_tokens}
            if config.kv_format != "bf16" and are_equal:
                twice = (2 * config.blocks, heads.kv_heads, config.block_tokens, heads.key_width)
                both = new_quantised(config.kv_format, twice, dtype, self.device, rows=2 * config.sequences, page=config.page_tokens)
                keys, values = both.halves()
                self._both.append(both)
                self.keys.append(keys)
                self.values.append(values)
            else:
                self.keys.append(new_store(config.kv_format, (*shape, heads.key_width), dtype, self.device, **ring))
                self.values.append(new_store(config.kv_format, (*shape, heads.value_width), dtype, self.device, **ring))

    @property
    def used_bytes_peak(self) -> int:
        """Bytes of the most blocks in use at once, and of the rings of the most sequences at once."""
        rings = self._ring_bytes * self.peak_rows // max(self.config.sequences, 1)
        return self._block_bytes * self.peak_blocks // max(self.config.blocks, 1) + rings

    @property
    def free_blocks(self) -> int:
        """Blocks that no sequence uses, including idle ones of the prefix cache."""
        return len(self._free) + (self.prefixes.idle_blocks if self.prefixes is not None else 0)

    def blocks_for(self, tokens: int) -> int:
        """Blocks of a sequence of `tokens` tokens, without eviction."""
        return -(-tokens // self.config.block_tokens)

    def open(self) -> SequenceBlocks:
        """Start an empty sequence."""
        cache = SequenceBlocks(self._free_rows.pop())
        self.peak_rows = max(self.peak_rows, self.config.sequences - len(self._free_rows))
        return cache

    def most_blocks(self, tokens: int, new: int = 1) -> int:
        """Most blocks of a sequence of `tokens` tokens while the last `new` of them are written in one step."""
        retention = self.config.retention
        return self.blocks_for(tokens) if retention is None else retention.blocks(tokens, self.config.block_tokens, new)

    def reachable(self, cache: SequenceBlocks) -> int:
        """The length, in tokens, that the sequence could reach with every free block."""
        return cache.evicted + (len(cache.blocks) + self.free_blocks) * self.config.block_tokens

    def allocate(self, cache: SequenceBlocks, tokens: int) -> bool:
        """Allocate blocks for `tokens` tokens in all; false, and nothing allocated, when too few blocks are free."""
        missing = self.blocks_for(tokens - cache.evicted) - len(cache.blocks)
        if missing > self.free_blocks:
            return False
        for _ in range(missing):
            block = self._free.pop() if self._free or self.prefixes is None else self.prefixes.evict_lru()
            self._tables.put(cache.row, len(cache.blocks), [block])
            cache.blocks.append(block)
        self._note_peak()
        return True

    def match_prefix(self, cache: SequenceBlocks, tokens: Sequence[int]) -> int:
        """Append cached blocks that hold the next of `tokens` to the sequence; returns the number of tokens matched.

        At least one token is left to compute: its logits are not cached.
        """
        size, spared = self.config.block_tokens, 0
        if self.prefixes is None or cache.tokens != len(cache.links) * size:
            return 0
        while cache.tokens + size < len(tokens):
            block = self.prefixes.find(cache.links[-1] if cache.links else START, tokens[cache.tokens : cache.tokens + size])
            if block is None:
                break
            self.prefixes.acquire(block)
            self._put(cache, len(cache.links), block)
            cache.links.append(self.prefixes.hash_of(block))
            cache.tokens += size
            spared += size
        self._note_peak()
        return spared

    def insert_prefix(self, cache: SequenceBlocks, tokens: Sequence[int]) -> None:
        """Insert the full blocks of a sequence of `tokens`, of which the last is not cached yet, into the prefix cache."""
        if self.prefixes is None:
            return
        size = self.config.block_tokens
        for index in range(len(cache.links), min(cache.tokens, len(tokens) - 1) // size):
            before = cache.links[-1] if cache.links else START
            cache.links.append(self.prefixes.add(before, tokens[index * size : (index + 1) * size], cache.blocks[index]))

    def truncate(self, cache: SequenceBlocks, tokens: int) -> None:
        """Cut the sequence to `tokens` tokens, as after draft tokens that were rejected, and free the blocks after them."""
        cache.tokens = tokens
        keep = self.blocks_for(tokens - cache.evicted)
        del cache.links[keep:]
        while len(cache.blocks) > keep:
            self._give_back(cache.blocks.pop())

    def evict(self, cache: SequenceBlocks) -> None:
        """Free the blocks that no later token attends to. The sequence must not be truncated below its length afterwards."""
        retention, size = self.config.retention, self.config.block_tokens
        evicted = (retention.evicted(cache.tokens, size) - cache.evicted) // size if retention is not None else 0
        if retention is None or evicted <= 0:
            return
        front = retention.front_blocks(size)
        self._free += cache.blocks[front : front + evicted]
        del cache.blocks[front : front + evicted]
        cache.evicted += evicted * size
        if evicted % RECENT_PAGES:
            for store in (*self.keys, *self.values):
                store.swap_pages(cache.row)
        self._tables.put(cache.row, 0, cache.blocks)

    def free(self, cache: SequenceBlocks) -> None:
        """Free all blocks of a sequence."""
        cache.evicted = 0
        self.truncate(cache, 0)
        self._free_rows.append(cache.row)

    def _put(self, cache: SequenceBlocks, index: int, block: int) -> None:
        """Make `block` the sequence's block at `index`, freeing an unwritten one there."""
        if index < len(cache.blocks):
            self._give_back(cache.blocks[index])
            cache.blocks[index] = block
        else:
            cache.blocks.append(block)
        self._tables.put(cache.row, index, [block])

    def _give_back(self, block: int) -> None:
        if self.prefixes is not None and self.prefixes.contains(block):
            self.prefixes.release(block)
        else:
            self._free.append(block)

    def _note_peak(self) -> None:
        self.peak_blocks = max(self.peak_blocks, self.config.blocks - self.free_blocks)

    def release(self) -> None:
        """Free the memory of the pool."""
        self.keys.clear()
        self.values.clear()
        self._both.clear()

    @property
    def tables(self) -> Tensor:
        """The blocks of every row's sequence, in order, on the device: int32 [rows, blocks]. One tensor for the pool's whole life."""
        return self._tables.on_device()

    def send_tables(self) -> None:
        """Copy changed block tables to the device, before a captured graph reads them."""
        self._tables.on_device()

    def read_length(self, tokens: int) -> int:
        """Keys that `read` returns for sequences of at most `tokens`: whole blocks, except in the contiguous layout."""
        return tokens if self.config.is_contiguous else self.blocks_for(tokens) * self.config.block_tokens

    def writing(self, blocks: Tensor, offsets: Tensor, spans: Sequence[Span], kv_heads: int) -> Writing:
        """Where tokens at `offsets` [T] in `blocks` [T] are written; the same for all layers with `kv_heads` heads."""
        size, heads = self.config.block_tokens, torch.arange(kv_heads, device=self.device)
        rows = ((blocks.unsqueeze(1) * kv_heads + heads) * size + offsets.unsqueeze(1)).reshape(-1)
        newest = ring_write(spans, self.config.page_tokens, kv_heads, self.device) if self.config.has_ring else None
        at = Writing(rows, newest)
        return at if not self._both else at.for_both(len(blocks), self.config.blocks * kv_heads * size, self._ring_rows(kv_heads))

    def reading(self, spans: Sequence[Span], kv_heads: int, chosen: Tensor | None = None) -> Reading:
        """Where the sequences of `spans` are read, each up to its last token; the same for all layers with `kv_heads` heads.

        With `chosen` [N, B'], only those blocks of each sequence; not supported with a ring.
        """
        tokens, is_contiguous = max(span.last for span in spans) + 1, self.config.is_contiguous
        rows = upload([span.row for span in spans], self.device)
        blocks = self.tables.index_select(0, rows)[:, : self.blocks_for(tokens)].long()
        blocks = blocks if chosen is None else blocks.gather(1, chosen)
        heads = torch.arange(kv_heads, device=self.device).view(1, -1, 1)
        index = blocks[:, 0] if is_contiguous else (blocks.unsqueeze(1) * kv_heads + heads).contiguous()
        length, newest = self.read_length(tokens), None
        if self.config.has_ring:
            newest = ring_read(spans, self.config.page_tokens, length, kv_heads, self.device)
        at = Reading(index, tokens, newest)
        if not self._both:
            return at
        return at.for_both(
            self.config.blocks * (1 if is_contiguous else kv_heads), len(spans) * kv_heads * length, self._ring_rows(kv_heads)
        )

    def _ring_rows(self, kv_heads: int) -> int:
        """Rows of a ring of keys, viewed as [R·2·K·S, D]."""
        return self.config.sequences * RECENT_PAGES * kv_heads * self.config.page_tokens

    def exact_page(self, layer: int, row: int, page: int, tokens: int) -> tuple[Tensor, Tensor]:
        """Copies of the first `tokens` keys and values [T, K, D] of one of the two newest pages of a sequence, for formats with a ring.

        `page` is its number among the sequence's stored pages, and `row` the sequence's in the pool.
        """
        rings = [store.recent for store in (self.keys[layer], self.values[layer]) if isinstance(store, Quantised)]
        keys, values = (ring.data[row, page % RECENT_PAGES, :, :tokens].transpose(0, 1).clone() for ring in rings if ring is not None)
        return keys, values

    def write(self, layer: int, key: Tensor, value: Tensor, at: Writing) -> None:
        """Store [T, K, D] keys and [T, K, E] values."""
        if self._both:
            self._both[layer].write(at, torch.cat((key, value)))
        else:
            self.keys[layer].write(at, key)
            self.values[layer].write(at, value)

    def read(self, layer: int, at: Reading, *, separate_scales: bool = False) -> tuple[KvBatch, KvBatch]:
        """Keys and values of the sequences of `at`, with L = `read_length(tokens)`; see `Store.read` for `separate_scales`."""
        if self._both:
            return self._both[layer].read(at, separate_scales=separate_scales).halves()
        return self.keys[layer].read(at, separate_scales=separate_scales), self.values[layer].read(at, separate_scales=separate_scales)
