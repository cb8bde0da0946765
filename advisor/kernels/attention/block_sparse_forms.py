"""The tiles of the block-sparse prefill kernel, by architecture, width and block."""

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class BlockSparseForm:
    """Tile of a program, `rows` queries of `pack` heads by `columns` keys at a time, and Triton's warps and stages for it."""

    rows: int
    pack: int
    columns: int
    warps: int
    stages: int


def form_of(architecture: int, width: int, size: int, groups: int) -> BlockSparseForm:
    """The tile for `width` dims, blocks of `size` tokens and `groups` query heads per key-value head on an architecture.

    128 rows of scores where registers allow it, from two heads for blocks of 64; more stages where shared memory allows it.
    """
    hopper, pack = architecture == 90, 2 if size == 64 and groups % 2 == 0 else 1
    if size < 64:
        return BlockSparseForm(size, 1, size, 4, 2)
    if width > 128:
        return BlockSparseForm(size, pack, 32, 8, 2) if hopper else BlockSparseForm(64, 1, 32, 8, 2)
    warps = 8 if width > 64 and size * pack == 128 else 4
    return BlockSparseForm(size, pack, 64, warps, 3) if hopper else BlockSparseForm(size, pack, 32, warps, 3)


def architecture_of(tensor: Tensor) -> int:
    """Compute capability times ten, of the three that `form_of` distinguishes."""
    if not tensor.is_cuda:
        return 80
    major, minor = torch.cuda.get_device_capability(tensor.device)
    return 90 if major == 9 else 80 if (major, minor) == (8, 0) else 89
