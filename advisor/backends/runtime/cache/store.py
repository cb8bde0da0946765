"""Storage of keys or values by format: written as token rows, read back as batches.

Letters as in `advisor.kernels.attention.paged_attention`: P blocks, K key-value heads, S tokens of a block, D width, N sequences,
L tokens, T rows.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from advisor.backends.runtime.cache.indices import Reading, Writing
from advisor.backends.runtime.cache.recent_pages import Ring, new_ring
from advisor.kernels.cache.kv_formats import FORMATS, dequantise, levels, quantise, stored_dtype, stored_width
from advisor.profiles.errors import AdvisorError, ExitCode

RING_FORMATS = ("int4",)
"""Formats whose rows the caller rotates, and whose newest page is also stored in full precision."""


@dataclass(frozen=True, slots=True)
class KvBatch:
    """Contiguous rows [N, K, L, D] of several sequences, to be multiplied by `scales` [N, K, L] where the format has them."""

    rows: Tensor
    scales: Tensor | None = None

    def scaled(self) -> Tensor:
        """The rows multiplied by their scales."""
        return self.rows if self.scales is None else self.rows * self.scales.unsqueeze(-1)

    def halves(self) -> tuple["KvBatch", "KvBatch"]:
        """The first and the second half of the sequences."""
        (first, second), scales = self.rows.chunk(2), (None, None) if self.scales is None else self.scales.chunk(2)
        return KvBatch(first, scales[0]), KvBatch(second, scales[1])


class Store(Protocol):
    """Keys or values of one layer."""

    def write(self, at: Writing, new: Tensor) -> None:
        """Write rows [T, K, D] to the memory rows of `at`."""

    def read(self, at: Reading, *, separate_scales: bool = False) -> KvBatch:
        """The sequences of `at`. With `separate_scales`, scales are returned separately instead of multiplied in."""

    def swap_pages(self, row: int) -> None:
        """Swap the two pages of `row`, after an odd number of earlier pages of its sequence was evicted."""

    @property
    def nbytes(self) -> int:
        """Bytes of all blocks."""

    @property
    def ring_bytes(self) -> int:
        """Bytes of the pages in full precision."""


class ModelFormat:
    """Rows in the model's own type."""

    ring_bytes = 0

    def __init__(self, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.data = torch.zeros(shape, dtype=dtype, device=device)

    def write(self, at: Writing, new: Tensor) -> None:
        """See `Store`."""
        width = self.data.shape[3]
        self.data.view(-1, width).index_copy_(0, at.rows, new.reshape(-1, width))

    def read(self, at: Reading, *, separate_scales: bool = False) -> KvBatch:
        """See `Store`; there are no scales."""
        return KvBatch(gather(self.data, at.index, at.tokens))

    def swap_pages(self, row: int) -> None:
        """See `Store`; there are no pages."""

    @property
    def nbytes(self) -> int:
        """See `Store`."""
        return self.data.nbytes


class Quantised:
    """Rows in a format of `advisor.kernels.cache.kv_formats`: stored elements, one float16 scale per token and head,
    a ring if there is one."""

    def __init__(self, kv_format: str, dtype: torch.dtype, data: Tensor, scales: Tensor, recent: Ring | None) -> None:
        self.kv_format = kv_format
        self.dtype = dtype
        self.data = data
        self.scales = scales
        self.recent = recent
        # torch has no float8 form of some copies, so bytes are copied
        self._bytes = data.view(torch.uint8)

    def write(self, at: Writing, new: Tensor) -> None:
        """See `Store`."""
        width = self.data.shape[3]
        stored, scales = quantise(new, self.kv_format)
        self._bytes.view(-1, width).index_copy_(0, at.rows, stored.view(torch.uint8).reshape(-1, width))
        self.scales.view(-1).index_copy_(0, at.rows, scales.reshape(-1))
        if self.recent is not None and at.newest is not None:
            self.recent.write(at.newest, new)

    def read(self, at: Reading, *, separate_scales: bool = False) -> KvBatch:
        """See `Store`."""
        stored = gather(self._bytes, at.index, at.tokens).view(self.data.dtype)
        stored_scales = gather(self.scales, at.index, at.tokens).squeeze(3)
        if separate_scales:
            rows, scales = levels(stored, self.kv_format, self.dtype), stored_scales.to(self.dtype)
        else:
            rows, scales = dequantise(stored, stored_scales, self.kv_format, self.dtype), None
        if self.recent is not None and at.newest is not None:
            self.recent.overlay(at.newest, rows, scales)
        return KvBatch(rows, scales)

    def swap_pages(self, row: int) -> None:
        """See `Store`."""
        if self.recent is not None:
            self.recent.data[row] = self.recent.data[row].flip(0)

    def halves(self) -> tuple["Quantised", "Quantised"]:
        """The first and the second half of the blocks, and of the ring's rows, in the same memory."""
        first, second = (
            Quantised(self.kv_format, self.dtype, data, scales, ring)
            for data, scales, ring in zip(
                self.data.chunk(2), self.scales.chunk(2), (None, None) if self.recent is None else self.recent.halves(), strict=True
            )
        )
        return first, second

    @property
    def nbytes(self) -> int:
        """See `Store`."""
        return self.data.nbytes + self.scales.nbytes

    @property
    def ring_bytes(self) -> int:
        """See `Store`."""
        return 0 if self.recent is None else self.recent.data.nbytes


def gather(data: Tensor, index: Tensor, tokens: int) -> Tensor:
    """[N, K, L, D] in one copy: of whole blocks by `index` [N, K, blocks], or of the first `tokens` of single blocks by `index` [N]."""
    blocks, kv_heads, size, width = data.shape
    if index.dim() == 1:
        return data[:, :, :tokens].index_select(0, index)
    chosen = data.view(blocks * kv_heads, size * width).index_select(0, index.view(-1))
    return chosen.view(index.shape[0], kv_heads, index.shape[2] * size, width)


def new_store(
    kv_format: str, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device, *, rows: int = 0, page: int = 0
) -> Store:
    """A store of the format; `bf16` stands for the model's own. Formats with a ring use `rows` and the tokens of a `page`.

    Raises `AdvisorError` for unsupported formats, and for widths that the format cannot store.
    """
    if kv_format == "bf16":
        return ModelFormat(shape, dtype, device)
    return new_quantised(kv_format, shape, dtype, device, rows=rows, page=page)


def new_quantised(
    kv_format: str, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device, *, rows: int, page: int
) -> Quantised:
    """See `new_store`; raises `AdvisorError` as it does."""
    if kv_format not in FORMATS:
        raise AdvisorError(
            "unsupported-format",
            f"the runtime keeps no cache in `{kv_format}`",
            exit_code=ExitCode.USAGE,
            help=(f"choose from bf16, {', '.join(FORMATS)}",),
        )
    if kv_format == "int4" and shape[3] % 2:
        raise AdvisorError("unsupported-format", f"an int4 cache holds two elements a byte; heads of {shape[3]} are odd")
    data = torch.zeros((*shape[:3], stored_width(kv_format, shape[3])), dtype=stored_dtype(kv_format), device=device)
    scales = torch.zeros((*shape[:3], 1), dtype=torch.float16, device=device)
    ring = new_ring(rows, shape[1], page, shape[3], dtype, device) if kv_format in RING_FORMATS else None
    return Quantised(kv_format, dtype, data, scales, ring)
