"""How a row of keys or values is stored in fewer bits: one float16 scale per row, elements in their natural order.

    fp8   float8_e4m3fn [.., D]   x = q · scale          scale = largest / 448
    int8  int8          [.., D]   x = q · scale          scale = largest / 127, q from −127 to 127
    int4  uint8         [.., D/2] x = (u − 7.5) · scale  scale = largest / 7.5, u from 0 to 15; even elements in the low nibble

Sixteen levels symmetric about zero without a zero point are what int4 rows need once `rotate` has spread their outliers.
"""

from functools import cache

import torch
from torch import Tensor

FORMATS = ("fp8", "int8", "int4")
_LARGEST = {"fp8": 448.0, "int8": 127.0, "int4": 7.5}
_SMALLEST = torch.finfo(torch.float16).smallest_normal


def stored_width(kv_format: str, width: int) -> int:
    """Elements of the stored tensor for a row of `width`. Raises `ValueError` for an odd width in int4."""
    if kv_format == "int4" and width % 2:
        raise ValueError(f"an int4 row holds two elements a byte; got {width} elements")
    return width // 2 if kv_format == "int4" else width


def stored_dtype(kv_format: str) -> torch.dtype:
    """The type of the stored tensor. Raises `ValueError` for an unknown format."""
    if kv_format not in FORMATS:
        raise ValueError(f"no stored format `{kv_format}`; choose from {', '.join(FORMATS)}")
    return {"fp8": torch.float8_e4m3fn, "int8": torch.int8, "int4": torch.uint8}[kv_format]


def quantise(rows: Tensor, kv_format: str) -> tuple[Tensor, Tensor]:
    """Round floating `rows` [.., D] to the stored tensor and its float16 scales [..].

    The scale is rounded first, so that the elements are divided by the one that is kept.
    """
    wide = rows.float()
    scales = (wide.abs().amax(-1) / _LARGEST[kv_format]).clamp_(min=_SMALLEST).half()
    wide = wide / scales.float().unsqueeze(-1)
    if kv_format == "fp8":
        return wide.clamp_(-448, 448).to(torch.float8_e4m3fn), scales
    if kv_format == "int8":
        return wide.round_().clamp_(-127, 127).to(torch.int8), scales
    levels = wide.add_(7.5).round_().clamp_(0, 15).to(torch.uint8)
    return levels[..., 0::2] | (levels[..., 1::2] << 4), scales


def levels(stored: Tensor, kv_format: str, dtype: torch.dtype) -> Tensor:
    """The rows [.., D] before their scales, exact in `dtype` bfloat16 and wider, and in float16.

    On a CPU by tables and shifts: converting fp8 or picking nibbles element by element takes three to ten times as long.
    """
    if kv_format == "int4":
        table = _nibbles(dtype, stored.device)
        pairs = table.index_select(0, stored.reshape(-1).int()).view(dtype)
        return pairs.view(*stored.shape[:-1], 2 * stored.shape[-1])
    if kv_format == "fp8" and not stored.is_cuda and dtype in _E4M3:
        integer, shift, mask, factor = _E4M3[dtype]
        bits = stored.view(torch.int8).to(integer).bitwise_left_shift_(shift).bitwise_and_(mask)
        return bits.view(dtype).mul_(factor)
    return stored.to(dtype)


_E4M3: dict[torch.dtype, tuple[torch.dtype, int, int, float]] = {
    torch.bfloat16: (torch.int16, 4, -0x7810, 2.0**120),
    torch.float16: (torch.int16, 7, -0x4080, 2.0**8),
    torch.float32: (torch.int32, 20, -0x78100000, 2.0**120),
}
"""Per type: the integer of its size, the shift that puts exponent and mantissa of a sign-extended e4m3 byte in place, the mask that
keeps them and the sign, and the ratio of the exponents' offsets. Subnormals come out right, too."""


@cache
def _nibbles(dtype: torch.dtype, device: torch.device) -> Tensor:
    """[256]: the two levels of a byte, low nibble first, side by side in one integer of twice the size of `dtype`."""
    byte = torch.arange(256, device=device)
    pair = torch.stack([byte & 15, byte >> 4], -1).to(dtype).sub_(7.5)
    return pair.view({2: torch.int32, 4: torch.int64, 8: torch.complex128}[dtype.itemsize]).view(-1)


def dequantise(stored: Tensor, scales: Tensor, kv_format: str, dtype: torch.dtype) -> Tensor:
    """The rows [.., D] of `quantise`, in `dtype`."""
    return levels(stored, kv_format, dtype) * scales.to(dtype).unsqueeze(-1)


def rotate(rows: Tensor) -> Tensor:
    """`rows` [.., D] times an orthonormal Hadamard matrix, its own inverse: outliers spread over the row, products are kept.

    For widths that are no power of two, blocks of the largest power of two that divides D (QuaRot, arXiv:2404.00456).
    """
    block = rows.shape[-1] & -rows.shape[-1]
    matrix = hadamard(block).to(rows.device, rows.dtype)
    rotated: Tensor = rows.reshape(*rows.shape[:-1], -1, block) @ matrix
    return rotated.reshape(rows.shape)


@cache
def hadamard(size: int) -> Tensor:
    """Sylvester's matrix [size, size] for a power of two, scaled to be orthonormal; symmetric."""
    matrix = torch.ones(1, 1)
    while matrix.shape[0] < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    return matrix * float(size**-0.5)
