"""How keys or values lie in memory, by format: written as token rows, read back as batches.

Letters as in `advisor.kernels.paged_attention`: P blocks, K key-value heads, S tokens of a block, D width, N sequences, L tokens, T rows.
"""

from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from advisor.profiles.errors import AdvisorError, ExitCode


@dataclass(frozen=True, slots=True)
class Batch:
    """Contiguous [N, K, L, D] rows of several sequences; times `scales` [N, K, L] where the format has them."""

    rows: Tensor
    scales: Tensor | None = None

    def scaled(self) -> Tensor:
        """The rows as the model would see them."""
        return self.rows if self.scales is None else self.rows * self.scales.unsqueeze(-1)


class Store(Protocol):
    """Keys or values of one layer."""

    def write(self, rows: Tensor, new: Tensor) -> None:
        """Put [T, K, D] at the places `rows` [T·K] of the memory seen as [P·K·S, D]."""

    def read(self, index: Tensor, tokens: int) -> Batch:
        """The sequences that `Pool.gather_index` chose."""

    @property
    def nbytes(self) -> int:
        """Bytes of the whole store."""


class ModelFormat:
    """Rows as the model computed them."""

    def __init__(self, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.data = torch.zeros(shape, dtype=dtype, device=device)

    def write(self, rows: Tensor, new: Tensor) -> None:
        """See `Store`."""
        width = self.data.shape[3]
        self.data.view(-1, width).index_copy_(0, rows, new.reshape(-1, width))

    def read(self, index: Tensor, tokens: int) -> Batch:
        """See `Store`."""
        return Batch(gather(self.data, index, tokens))

    @property
    def nbytes(self) -> int:
        """See `Store`."""
        return self.data.nbytes


class Int8:
    """Symmetric int8, one float16 scale per token and head: the largest of a row becomes 127."""

    def __init__(self, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> None:
        self.dtype = dtype
        self.data = torch.zeros(shape, dtype=torch.int8, device=device)
        self.scales = torch.zeros((*shape[:3], 1), dtype=torch.float16, device=device)

    def write(self, rows: Tensor, new: Tensor) -> None:
        """See `Store`. The scale is rounded first, so that it is the one that the rows are divided by."""
        width = self.data.shape[3]
        flat = new.reshape(-1, width).float()
        smallest = torch.finfo(torch.float16).smallest_normal
        scales = (flat.abs().amax(1, keepdim=True) / 127).clamp_(min=smallest).half()
        levels = flat.div_(scales.float()).round_().clamp_(-127, 127).to(torch.int8)
        self.data.view(-1, width).index_copy_(0, rows, levels)
        self.scales.view(-1, 1).index_copy_(0, rows, scales)

    def read(self, index: Tensor, tokens: int) -> Batch:
        """See `Store`. Levels up to 127 are exact in bfloat16; the scales stay apart, to be applied where rows are few."""
        levels = gather(self.data, index, tokens).to(self.dtype)
        return Batch(levels, gather(self.scales, index, tokens).squeeze(3).to(self.dtype))

    @property
    def nbytes(self) -> int:
        """See `Store`."""
        return self.data.nbytes + self.scales.nbytes


def gather(data: Tensor, index: Tensor, tokens: int) -> Tensor:
    """[N, K, L, D] in one copy: of whole blocks by `index` [N, K, blocks], or of the first `tokens` of single blocks by `index` [N]."""
    blocks, kv_heads, size, width = data.shape
    if index.dim() == 1:
        return data[:, :, :tokens].index_select(0, index)
    chosen = data.view(blocks * kv_heads, size * width).index_select(0, index.view(-1))
    return chosen.view(index.shape[0], kv_heads, index.shape[2] * size, width)


def new_store(kv_format: str, shape: tuple[int, int, int, int], dtype: torch.dtype, device: torch.device) -> Store:
    """A store of the format; `bf16` stands for the model's own. Raises `AdvisorError` for formats that do not run here."""
    if kv_format == "bf16":
        return ModelFormat(shape, dtype, device)
    if kv_format == "int8":
        return Int8(shape, dtype, device)
    raise AdvisorError(
        "unsupported-format",
        f"the runtime keeps no cache in `{kv_format}`",
        exit_code=ExitCode.USAGE,
        help=("choose from bf16, int8",),
    )
