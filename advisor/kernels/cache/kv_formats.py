"""Quantised formats of a row of keys or values: one float16 scale per row, elements in their natural order.

    fp8   float8_e4m3fn [.., D]   x = q · scale          scale = largest / 448
    int8  int8          [.., D]   x = q · scale          scale = largest / 127, q from −127 to 127
    int4  uint8         [.., D/2] x = (u − 7.5) · scale  scale = largest / 7.5, u from 0 to 15; even elements in the low nibble

int4 has sixteen levels symmetric about zero and no zero point: `rotate` spreads the outliers of a row first.
"""

from functools import cache

import torch
from torch import Tensor

FORMATS = ("fp8", "int8", "int4")
_LARGEST = {"fp8": 448.0, "int8": 127.0, "int4": 7.5}
_SMALLEST = torch.finfo(torch.float16).smallest_normal


def stored_width(kv_format: str, width: int) -> int:
    """Stored elements of a row of `width` elements. Raises `ValueError` for an odd width in int4."""
    if kv_format == "int4" and width % 2:
        raise ValueError(f"an int4 row stores two elements per byte; got {width} elements")
    return width // 2 if kv_format == "int4" else width


def stored_dtype(kv_format: str) -> torch.dtype:
    """The type of the stored elements. Raises `ValueError` for an unknown format."""
    if kv_format not in FORMATS:
        raise ValueError(f"no stored format `{kv_format}`; choose from {', '.join(FORMATS)}")
    return {"fp8": torch.float8_e4m3fn, "int8": torch.int8, "int4": torch.uint8}[kv_format]


def quantise(rows: Tensor, kv_format: str) -> tuple[Tensor, Tensor]:
    """Round floating `rows` [.., D] to the stored tensor [.., stored width] and float16 scales [..].

    Elements are divided by the rounded scale, so its rounding adds no error. It is rounded down by 1/2048 at most, too little for an
    element to round beyond the last level.
    """
    largest = torch.linalg.vector_norm(rows, float("inf"), -1, dtype=torch.float32)
    scales = largest.div_(_LARGEST[kv_format]).clamp_(min=_SMALLEST).half()
    wide = torch.div(rows, scales.float().unsqueeze(-1))
    if kv_format == "fp8":
        return wide.to(torch.float8_e4m3fn), scales
    if kv_format == "int8":
        return wide.round_().to(torch.int8), scales
    levels = wide.add_(7.5).round_().to(torch.uint8)
    return levels[..., 0::2] | (levels[..., 1::2] << 4), scales


def levels(stored: Tensor, kv_format: str, dtype: torch.dtype) -> Tensor:
    """The rows [.., D] without their scales in `dtype`, which is exact in bfloat16, float16 and wider types.

    fp8 and int4 are looked up, large int4 tensors two bytes at a time: converting bytes or selecting nibbles takes a CPU three to ten
    times as long. Large fp8 tensors are converted by shifting bits instead.
    """
    if kv_format == "int8" or (stored.is_cuda and kv_format == "fp8"):
        return stored.to(dtype)
    if kv_format == "fp8" and stored.numel() > _MANY and dtype in _E4M3:
        integer, shift, mask, factor = _E4M3[dtype]
        bits = stored.view(torch.int8).to(integer).bitwise_left_shift_(shift).bitwise_and_(mask)
        return bits.view(dtype).mul_(factor)
    # the larger table is worth its share of the processor's caches only for large tensors
    words = stored.view(torch.uint8 if stored.shape[-1] % 2 or stored.numel() <= _MANY else torch.uint16)
    table = _table(kv_format, words.dtype.itemsize, dtype, stored.device)
    width = stored.shape[-1] * (2 if kv_format == "int4" else 1)
    return table.index_select(0, words.reshape(-1).int()).view(dtype).view(*stored.shape[:-1], width)


_MANY = 65536
"""Bytes from which the larger table, or shifting the bits of all elements, takes less time than one look-up per byte."""
_FEW = 16384
"""Most elements that a CPU rotates in single precision."""
_E4M3: dict[torch.dtype, tuple[torch.dtype, int, int, float]] = {
    torch.bfloat16: (torch.int16, 4, -0x7810, 2.0**120),
    torch.float16: (torch.int16, 7, -0x4080, 2.0**8),
    torch.float32: (torch.int32, 20, -0x78100000, 2.0**120),
}
"""By type: the integer type of its size, the shift that aligns exponent and mantissa of a sign-extended e4m3 byte, the mask of these and
the sign, and the ratio of the exponent biases. Right for subnormal numbers, too."""


@cache
def _table(kv_format: str, size: int, dtype: torch.dtype, device: torch.device) -> Tensor:
    """[256 ** size]: the levels of one or two bytes, lowest first, packed into one element."""
    word = torch.arange(256**size, device=device)
    parts = torch.stack([word >> shift & 255 for shift in range(0, 8 * size, 8)], -1)
    if kv_format == "int4":
        parts = torch.stack([parts & 15, parts >> 4], -1).flatten(-2).to(dtype).sub_(7.5)
    else:
        parts = parts.to(torch.uint8).view(torch.float8_e4m3fn).to(dtype)
    wide = {2: torch.int16, 4: torch.int32, 8: torch.int64, 16: torch.complex128}
    return parts.view(wide[parts.shape[-1] * dtype.itemsize]).view(-1)


def dequantise(stored: Tensor, scales: Tensor, kv_format: str, dtype: torch.dtype) -> Tensor:
    """The rows [.., D] that `quantise` rounded, in `dtype`: levels times `scales` [..]."""
    if kv_format == "int8" and not stored.is_cuda:
        out = torch.empty(stored.shape, dtype=dtype, device=stored.device)
        return torch.mul(stored, scales.to(torch.promote_types(dtype, torch.float32)).unsqueeze(-1), out=out)
    return levels(stored, kv_format, dtype).mul_(scales.to(dtype).unsqueeze(-1))


def rotate(rows: Tensor) -> Tensor:
    """`rows` [.., D] times an orthonormal Hadamard matrix, its own inverse: outliers spread over the row, dot products are unchanged.

    If D is not a power of two, in blocks of the largest power of two that divides it (QuaRot, arXiv:2404.00456).
    """
    block = rows.shape[-1] & -rows.shape[-1]
    few = rows.device.type == "cpu" and rows.numel() <= _FEW
    # a CPU takes longer to set up a half-precision product than to rotate a few rows in single precision
    dtype = torch.promote_types(rows.dtype, torch.float32) if few else rows.dtype
    return (rows.reshape(-1, block).to(dtype) @ hadamard(block, dtype, rows.device)).to(rows.dtype).view(rows.shape)


@cache
def hadamard(size: int, dtype: torch.dtype = torch.float32, device: torch.device | None = None) -> Tensor:
    """Sylvester's Hadamard matrix [size, size], `size` a power of two: symmetric, scaled to be orthonormal."""
    matrix = torch.ones(1, 1)
    while matrix.shape[0] < size:
        matrix = torch.cat([torch.cat([matrix, matrix], 1), torch.cat([matrix, -matrix], 1)], 0)
    return (matrix * float(size**-0.5)).to(device, dtype)
