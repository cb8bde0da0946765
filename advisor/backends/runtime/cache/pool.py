"""The cache of keys and values: blocks of tokens, who holds which, and where a token's row lies."""

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
    """What one layer keeps per token: key-value heads and the widths of a key and a value."""

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
    """Whether sequences that begin alike share the full blocks of what they have in common."""
    kept: CacheRetention | None = None
    """What stays of a sequence; `None` for all of it."""

    @property
    def is_contiguous(self) -> bool:
        """Whether a sequence is one block."""
        return self.block_tokens >= self.max_tokens

    @property
    def page_tokens(self) -> int:
        """Tokens of a page that a format may keep in full precision: a block, or so many of a contiguous sequence."""
        return min(CONTIGUOUS_PAGE_TOKENS, self.max_tokens) if self.is_contiguous else self.block_tokens

    @property
    def has_ring(self) -> bool:
        """Whether the newest pages are kept as computed, beside a cache of rotated rows."""
        return self.kv_format in RING_FORMATS


@dataclass(slots=True)
class SequenceBlocks:
    """The blocks of one sequence, in order, and how many of its tokens were written.

    Blocks that were given back lie between those of the first tokens and the others: the token at place p past them is the
    (p - `evicted`)-th of those that the blocks hold.
    """

    row: int
    blocks: list[int] = field(default_factory=list)
    tokens: int = 0
    links: list[int] = field(default_factory=list)
    """Of its first blocks, those that others can find: their links in the prefix cache."""
    evicted: int = 0
    """Tokens whose blocks were given back."""


class Pool:
    """Blocks shared by all sequences; a block holds its tokens' keys [K, S, D] and values [K, S, E] in every layer."""

    def __init__(self, layers: tuple[KvShape, ...], room: CacheConfig, dtype: torch.dtype, device: torch.device) -> None:
        self.room = room
        self.device = device
        self.dtype = dtype
        blocks, size = room.blocks, room.block_tokens

        with memory_errors(f"the allocation of a cache of {blocks} blocks of {size} tokens"):
            self._allocate(layers, dtype)
        self._block_bytes = sum(store.nbytes for store in (*self.keys, *self.values))
        self._ring_bytes = sum(store.ring_bytes for store in (*self.keys, *self.values))
        self.allocated_bytes = self._block_bytes + self._ring_bytes
        self.peak_blocks = self.peak_rows = 0
        keeps_all = not room.is_contiguous and room.kept is None
        self.prefixes = PrefixCache() if room.prefix_reuse and keeps_all else None
        self._tables = BlockTables(room.sequences, self.blocks_for(room.max_tokens), device)
        self._free = list(range(blocks - 1, -1, -1))
        self._free_rows = list(range(room.sequences - 1, -1, -1))

    def _allocate(self, layers: tuple[KvShape, ...], dtype: torch.dtype) -> None:
        """Quantised keys and values of equal width lie in one memory: written and read in half as many calls."""
        room, self._both = self.room, list[Quantised]()
        self.keys, self.values = list[Store](), list[Store]()
        are_equal = all(heads.key_width == heads.value_width for heads in layers)
        for heads in layers:
            shape, ring = (room.blocks, heads.kv_heads, room.block_tokens), {"rows": room.sequences, "page": room.page_tokens}
            if room.kv_format != "bf16" and are_equal:
                twice = (2 * room.blocks, heads.kv_heads, room.block_tokens, heads.key_width)
                both = new_quantised(room.kv_format, twice, dtype, self.device, rows=2 * room.sequences, page=room.page_tokens)
                keys, values = both.halves()
                self._both.append(both)
                self.keys.append(keys)
                self.values.append(values)
            else:
                self.keys.append(new_store(room.kv_format, (*shape, heads.key_width), dtype, self.device, **ring))
                self.values.append(new_store(room.kv_format, (*shape, heads.value_width), dtype, self.device, **ring))

    @property
    def used_bytes_peak(self) -> int:
        """Bytes of the most blocks that were held at once, and of the rings of as many sequences as were."""
        rings = self._ring_bytes * self.peak_rows // max(self.room.sequences, 1)
        return self._block_bytes * self.peak_blocks // max(self.room.blocks, 1) + rings

    @property
    def free_blocks(self) -> int:
        """Blocks that nobody holds."""
        return len(self._free) + (self.prefixes.idle_blocks if self.prefixes is not None else 0)

    def blocks_for(self, tokens: int) -> int:
        """Blocks that a sequence of so many tokens takes."""
        return -(-tokens // self.room.block_tokens)

    def open(self) -> SequenceBlocks:
        """Start an empty sequence."""
        held = SequenceBlocks(self._free_rows.pop())
        self.peak_rows = max(self.peak_rows, self.room.sequences - len(self._free_rows))
        return held

    def most_blocks(self, tokens: int, new: int = 1) -> int:
        """Blocks that a sequence holds at most while its last `new` of so many tokens are written together."""
        kept = self.room.kept
        return self.blocks_for(tokens) if kept is None else kept.blocks(tokens, self.room.block_tokens, new)

    def reachable(self, held: SequenceBlocks) -> int:
        """The length that the sequence could grow to with every free block."""
        return held.evicted + (len(held.blocks) + self.free_blocks) * self.room.block_tokens

    def allocate(self, held: SequenceBlocks, tokens: int) -> bool:
        """Give the sequence room for `tokens` in all; false, and nothing taken, when too few blocks are free."""
        missing = self.blocks_for(tokens - held.evicted) - len(held.blocks)
        if missing > self.free_blocks:
            return False
        for _ in range(missing):
            block = self._free.pop() if self._free or self.prefixes is None else self.prefixes.evict_lru()
            self._tables.put(held.row, len(held.blocks), [block])
            held.blocks.append(block)
        self._note_peak()
        return True

    def match_prefix(self, held: SequenceBlocks, tokens: Sequence[int]) -> int:
        """Let the sequence go on with blocks that others computed for the same `tokens`; how many tokens that spares it.

        One token at least is left to be computed: what follows it is not in the cache.
        """
        size, spared = self.room.block_tokens, 0
        if self.prefixes is None or held.tokens != len(held.links) * size:
            return 0
        while held.tokens + size < len(tokens):
            block = self.prefixes.find(held.links[-1] if held.links else START, tokens[held.tokens : held.tokens + size])
            if block is None:
                break
            self.prefixes.acquire(block)
            self._put(held, len(held.links), block)
            held.links.append(self.prefixes.hash_of(block))
            held.tokens += size
            spared += size
        self._note_peak()
        return spared

    def insert_prefix(self, held: SequenceBlocks, tokens: Sequence[int]) -> None:
        """Let others find the full blocks of a sequence whose text is `tokens`, the last of which is not cached yet."""
        if self.prefixes is None:
            return
        size = self.room.block_tokens
        for place in range(len(held.links), min(held.tokens, len(tokens) - 1) // size):
            before = held.links[-1] if held.links else START
            held.links.append(self.prefixes.add(before, tokens[place * size : (place + 1) * size], held.blocks[place]))

    def truncate(self, held: SequenceBlocks, tokens: int) -> None:
        """Forget what lies beyond `tokens`, as after draft tokens that were not accepted, and take those blocks back."""
        held.tokens = tokens
        keep = self.blocks_for(tokens - held.evicted)
        del held.links[keep:]
        while len(held.blocks) > keep:
            self._give_back(held.blocks.pop())

    def evict(self, held: SequenceBlocks) -> None:
        """Take back the blocks that no later token sees. None of the tokens in the cache may be taken back after it."""
        kept, size = self.room.kept, self.room.block_tokens
        gone = (kept.evicted(held.tokens, size) - held.evicted) // size if kept is not None else 0
        if kept is None or gone <= 0:
            return
        front = kept.front_blocks(size)
        self._free += held.blocks[front : front + gone]
        del held.blocks[front : front + gone]
        held.evicted += gone * size
        if gone % RECENT_PAGES:
            for store in (*self.keys, *self.values):
                store.renumber(held.row)
        self._tables.put(held.row, 0, held.blocks)

    def free(self, held: SequenceBlocks) -> None:
        """Take back everything of a sequence."""
        held.evicted = 0
        self.truncate(held, 0)
        self._free_rows.append(held.row)

    def _put(self, held: SequenceBlocks, place: int, block: int) -> None:
        """Make `block` the sequence's block at `place`, for the empty one that it may have there."""
        if place < len(held.blocks):
            self._give_back(held.blocks[place])
            held.blocks[place] = block
        else:
            held.blocks.append(block)
        self._tables.put(held.row, place, [block])

    def _give_back(self, block: int) -> None:
        if self.prefixes is not None and self.prefixes.contains(block):
            self.prefixes.release(block)
        else:
            self._free.append(block)

    def _note_peak(self) -> None:
        self.peak_blocks = max(self.peak_blocks, self.room.blocks - self.free_blocks)

    def release(self) -> None:
        """Give the memory back."""
        self.keys.clear()
        self.values.clear()
        self._both.clear()

    @property
    def tables(self) -> Tensor:
        """The blocks of every row's sequence, in order, on the device: int32 [rows, blocks]. One tensor for the pool's whole life."""
        return self._tables.on_device()

    def send_tables(self) -> None:
        """Bring the tables on the device up to date, for a captured graph that reads them."""
        self._tables.on_device()

    def read_length(self, tokens: int) -> int:
        """Keys that `read` returns for sequences of at most `tokens`: whole blocks, except in the contiguous layout."""
        return tokens if self.room.is_contiguous else self.blocks_for(tokens) * self.room.block_tokens

    def writing(self, blocks: Tensor, offsets: Tensor, spans: Sequence[Span], kv_heads: int) -> Writing:
        """Where tokens go that take the `offsets` [T] of the `blocks` [T]; the same for all layers of as many heads."""
        size, heads = self.room.block_tokens, torch.arange(kv_heads, device=self.device)
        rows = ((blocks.unsqueeze(1) * kv_heads + heads) * size + offsets.unsqueeze(1)).reshape(-1)
        newest = ring_write(spans, self.room.page_tokens, kv_heads, self.device) if self.room.has_ring else None
        at = Writing(rows, newest)
        return at if not self._both else at.for_both(len(blocks), self.room.blocks * kv_heads * size, self._ring_rows(kv_heads))

    def reading(self, spans: Sequence[Span], kv_heads: int, chosen: Tensor | None = None) -> Reading:
        """Where the sequences of `spans` are, each up to its last token; the same for all layers of as many heads.

        Of each sequence, only the `chosen` blocks [N, B'] where that is given; not beside a ring.
        """
        tokens, is_contiguous = max(span.last for span in spans) + 1, self.room.is_contiguous
        rows = upload([span.row for span in spans], self.device)
        blocks = self.tables.index_select(0, rows)[:, : self.blocks_for(tokens)].long()
        blocks = blocks if chosen is None else blocks.gather(1, chosen)
        heads = torch.arange(kv_heads, device=self.device).view(1, -1, 1)
        index = blocks[:, 0] if is_contiguous else (blocks.unsqueeze(1) * kv_heads + heads).contiguous()
        length, newest = self.read_length(tokens), None
        if self.room.has_ring:
            newest = ring_read(spans, self.room.page_tokens, length, kv_heads, self.device)
        at = Reading(index, tokens, newest)
        if not self._both:
            return at
        return at.for_both(self.room.blocks * (1 if is_contiguous else kv_heads), len(spans) * kv_heads * length, self._ring_rows(kv_heads))

    def _ring_rows(self, kv_heads: int) -> int:
        """Rows of a ring of keys seen as [R·2·K·S, D]."""
        return self.room.sequences * RECENT_PAGES * kv_heads * self.room.page_tokens

    def write(self, layer: int, key: Tensor, value: Tensor, at: Writing) -> None:
        """Store [T, K, D] keys and [T, K, E] values."""
        if self._both:
            self._both[layer].write(at, torch.cat((key, value)))
        else:
            self.keys[layer].write(at, key)
            self.values[layer].write(at, value)

    def read(self, layer: int, at: Reading, *, apart: bool = False) -> tuple[KvBatch, KvBatch]:
        """Keys and values of the chosen sequences, L being `read_length(tokens)`; see `Store` for `apart`."""
        if self._both:
            return self._both[layer].read(at, apart=apart).halves()
        return self.keys[layer].read(at, apart=apart), self.values[layer].read(at, apart=apart)
