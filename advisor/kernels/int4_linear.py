"""Weight-only int4 linear: bf16 scale and zero for each group of input channels, bf16 activations.

Letters: M rows of activations, N output channels (a multiple of 64), K input channels, G channels per group.
A weight is (nibble − 8)·scale + zero. The packed bytes are those of torch's CPU operator; their order depends on the
processor, so they are never stored in a file. On a GPU they are 16-bit words [N, K/4] of any N (`int4_gpu`).
"""

from functools import cache
from typing import Literal

import torch

from advisor.kernels import arguments
from advisor.kernels.int8_linear import as_rows
from advisor.kernels.kernel import Kernel

GROUP_SIZES = (32, 64, 128, 256)
"""What `aten::_weight_int4pack_mm_for_cpu` accepts."""
N_MULTIPLE = 64
"""Rows of the operator's widest block; a remainder is packed in another order and multiplied slowly."""
PACKED_ROWS = 96
"""Most rows for which the packed operator is used. It unpacks the weights again for every 4 rows, so for more rows unpacking
them once to bf16 and multiplying there is faster (`benchmarks/linear_cpu.py`, table of operators)."""
K_BLOCK = 128
"""Input channels of a block of words."""
Layout = Literal["operator", "words"]
CHUNK_WEIGHTS = 2**20
"""Weights unpacked at a time: 3 MiB of scratch, allocated once per call because fresh pages cost more than the work."""


def quantise_int4(weight: torch.Tensor, group_size: int, layout: Layout = "operator") -> tuple[torch.Tensor, torch.Tensor]:
    """Round `weight` [N, K] to packed nibbles, bytes [N, K/2] or words [N, K/4], and scale and zero [K/G, N, 2].

    N and K are padded as the layout needs. The range of a group spans its 16 levels, and each weight takes the nearest: off by
    scale / 2, plus the rounding of zero to bf16. Raises `ValueError` for a group size that the operator lacks.
    """
    if group_size not in GROUP_SIZES:
        raise ValueError(f"int4 takes a group size of {', '.join(map(str, GROUP_SIZES))}; got {group_size}")
    n, k = weight.shape
    padded_n, padded_k = padded_shape(n, k, group_size, layout)
    words = layout == "words"
    packed = weight.new_empty(padded_n, padded_k // (4 if words else 2), dtype=torch.int16 if words else torch.uint8)
    scale_zero = weight.new_empty(padded_k // group_size, padded_n, 2, dtype=torch.bfloat16)
    for start, stop in _row_chunks(padded_n, padded_k):
        part = weight[start : min(stop, n)].float()
        if k < padded_k:  # a repeated last channel leaves the range of its group as it is; activations there are zero
            part = torch.cat([part, part[:, -1:].expand(-1, padded_k - k)], dim=1)
        part = torch.nn.functional.pad(part, (0, 0, 0, stop - start - part.shape[0]))
        nibbles, scales = _nearest(part.view(stop - start, -1, group_size))
        packed[start:stop] = (pack_words if words else pack_int4)(nibbles.view(stop - start, padded_k))
        scale_zero[:, start:stop] = scales.transpose(0, 1)
    return packed, scale_zero


def padded_shape(n: int, k: int, group_size: int, layout: Layout) -> tuple[int, int]:
    """N and K of the packed weights."""
    of_n, of_k = (1, max(K_BLOCK, group_size)) if layout == "words" else (N_MULTIPLE, group_size)
    return -(-n // of_n) * of_n, -(-k // of_k) * of_k


def pack_words(nibbles: torch.Tensor) -> torch.Tensor:
    """Pack `nibbles` [N, K] of 0 to 15, K a multiple of 128, into int16 words [N, K/4].

    Word i of a block of 128 holds channels i, 32 + i, 64 + i and 96 + i, lowest bits first.
    """
    planes = nibbles.to(torch.int32).view(nibbles.shape[0], -1, 4, K_BLOCK // 4)
    joined = planes[:, :, 0] | planes[:, :, 1] << 4 | planes[:, :, 2] << 8 | planes[:, :, 3] << 12
    return ((joined + 2**15) % 2**16 - 2**15).to(torch.int16).view(nibbles.shape[0], -1)


def unpack_words(words: torch.Tensor) -> torch.Tensor:
    """The nibbles, int16 [N, K] of 0 to 15, of `words` [N, K/4]: inverse of `pack_words`."""
    blocks = words.view(words.shape[0], -1, 1, K_BLOCK // 4)
    shifts = torch.arange(0, 16, 4, dtype=torch.int16, device=words.device).view(4, 1)
    return ((blocks >> shifts) & 15).reshape(words.shape[0], -1)


def pack_int4(nibbles: torch.Tensor) -> torch.Tensor:
    """Pack `nibbles` [N, K] of 0 to 15 into the operator's bytes [N, K/2]."""
    packed: torch.Tensor = torch.ops.aten._convert_weight_to_int4pack_for_cpu(nibbles.to("cpu", torch.int32), 1)
    return packed.to(nibbles.device)


def unpack_int4(packed: torch.Tensor) -> torch.Tensor:
    """The nibbles less 8, int8 [K, N], of `packed` [N, K/2]: inverse of `pack_int4`, transposed."""
    n, k = packed.shape[0], packed.shape[1] * 2
    block, order = _layout()
    # flipping the top bit of a nibble turns 0..15 into the two's complement of −8..7, which signed shifts then extend
    signed = packed.bitwise_xor(0x88).view(torch.int8).view(n // block, k, block // 2)
    lanes = torch.cat([(signed << 4) >> 4, signed >> 4], dim=-1)
    if order is not None:
        lanes = lanes[..., torch.tensor(order, device=packed.device)]
    return lanes.transpose(0, 1).reshape(k, n)


def lay_out(packed: torch.Tensor, scale_zero: torch.Tensor, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """The same weights in another layout: bytes [N, K/2] from words [N, K/4] or the reverse, N and K padded as it needs."""
    words = layout == "words"
    rows, columns = packed.shape[0], packed.shape[1] * (2 if words else 4)
    group_size = columns // scale_zero.shape[0]
    n, k = padded_shape(rows, columns, group_size, layout)
    relaid = packed.new_empty(n, k // (4 if words else 2), dtype=torch.int16 if words else torch.uint8)
    for start, stop in _row_chunks(n, k):
        part = packed[start:stop]
        nibbles = unpack_int4(part).t() + 8 if words else unpack_words(part)
        padded = torch.nn.functional.pad(nibbles, (0, k - columns, 0, stop - start - len(part)), value=8)
        relaid[start:stop] = (pack_words if words else pack_int4)(padded)
    return relaid, torch.nn.functional.pad(scale_zero, (0, 0, 0, n - rows, 0, (k - columns) // group_size)).contiguous()


def dequantise_int4(packed: torch.Tensor, scale_zero: torch.Tensor, out: torch.Tensor) -> torch.Tensor:
    """Fill `out` [K, N] with the weights of `packed` [N, K/2] and `scale_zero` [K/G, N, 2], in its type."""
    scale, zero = (part.to(out.dtype).contiguous()[:, None] for part in scale_zero.unbind(-1))  # [K/G, 1, N]
    weight = out.copy_(unpack_int4(packed)).view(scale.shape[0], -1, packed.shape[0])
    torch.addcmul(zero, weight, scale, out=weight)
    return out


def int4_linear_reference(x: torch.Tensor, packed: torch.Tensor, scale_zero: torch.Tensor) -> torch.Tensor:
    """`x` [.., K] times the weights of `packed` [N, K/2] and `scale_zero` [K/G, N, 2], in the precision of `x`."""
    return x @ dequantise_int4(packed, scale_zero, x.new_empty(x.shape[-1], packed.shape[0]))


def int4_linear(x: torch.Tensor, packed: torch.Tensor, scale_zero: torch.Tensor) -> torch.Tensor:
    """The same on bf16-rounded activations, through the packed CPU operator for few rows; elsewhere the reference.

    `packed` may be words. Raises `ValueError` for shapes, types or devices that do not go together.
    """
    if packed.dtype != torch.int16:
        _check(x, packed, scale_zero)
        return int4_product(x, packed, scale_zero)
    from advisor.kernels.int4_gpu import int4_words_linear  # Triton, which only Linux has

    return int4_words_linear(x, packed, scale_zero)


def int4_product(x: torch.Tensor, packed: torch.Tensor, scale_zero: torch.Tensor) -> torch.Tensor:
    """`int4_linear` of bytes [N, K/2] that are known to fit: its checks take longer than a small product."""
    if x.device.type != "cpu":
        return int4_linear_reference(x, packed, scale_zero)
    # bf16 because the operator's fp32 and fp16 forms are not vectorised (twenty times slower)
    rows = as_rows(x)
    group_size = x.shape[-1] // scale_zero.shape[0]
    few = rows.shape[0] <= PACKED_ROWS
    # the operator reads scales and zeros as if they were contiguous: for those of a view it needs a copy
    scale_zero = scale_zero.contiguous()
    out = torch.ops.aten._weight_int4pack_mm_for_cpu(rows, packed, group_size, scale_zero) if few else _unpacked(rows, packed, scale_zero)
    return out if x is rows else out.view(*x.shape[:-1], packed.shape[0]).to(x.dtype)


def _unpacked(rows: torch.Tensor, packed: torch.Tensor, scale_zero: torch.Tensor) -> torch.Tensor:
    """Many rows: unpack some channels at a time to bf16, multiply there."""
    n, k = packed.shape[0], rows.shape[1]
    out = rows.new_empty(rows.shape[0], n)
    chunks = _row_chunks(n, k)
    scratch = rows.new_empty(chunks[0][1] * k)
    for start, stop in chunks:
        weight = scratch[: (stop - start) * k].view(k, stop - start)
        out[:, start:stop] = rows @ dequantise_int4(packed[start:stop], scale_zero[:, start:stop], weight)
    return out


def _nearest(groups: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Nibbles [N, K/G, G] and bf16 scale and zero [N, K/G, 2] of fp32 `groups` [N, K/G, G]."""
    low, high = groups.aminmax(dim=-1)
    # a group of equal weights has no range: any scale does, zero carries the value
    scale = ((high - low) / 15).clamp_min(torch.finfo(torch.bfloat16).tiny).to(torch.bfloat16)
    zero = (low + 8 * scale.float()).to(torch.bfloat16)
    levels = (groups - zero[..., None].float()).div_(scale[..., None].float()).add_(8).round_().clamp_(0, 15)
    return levels, torch.stack([scale, zero], dim=-1)


def _row_chunks(n: int, k: int) -> list[tuple[int, int]]:
    """Ranges of whole blocks of channels, about `CHUNK_WEIGHTS` weights each."""
    step = max(1, CHUNK_WEIGHTS // (k * N_MULTIPLE)) * N_MULTIPLE
    return [(start, min(start + step, n)) for start in range(0, n, step)]


@cache
def _layout() -> tuple[int, tuple[int, ...] | None]:
    """How this processor packs: channels per block, and where in (low nibbles, high nibbles) each channel of a block stands.

    `None` for the order as is. Read off by packing 7-bit element numbers, four bits at a time.
    """
    number = torch.arange(2 * N_MULTIPLE).view(N_MULTIPLE, 2)
    parts = [pack_int4((number >> shift) & 15).view(-1).int() for shift in (0, 4)]
    low = [int(a & 15 | (b & 15) << 4) for a, b in zip(*parts, strict=True)]
    high = [int(a >> 4 | (b >> 4) << 4) for a, b in zip(*parts, strict=True)]
    half = next(index for index, element in enumerate(low) if element % 2 == 1)
    channels = [element // 2 for element in low[:half] + high[:half]]
    if sorted(channels) != list(range(2 * half)):
        raise RuntimeError(f"torch {torch.__version__} packs int4 in an unknown order: low nibbles {low}, high nibbles {high}")
    order = tuple(channels.index(channel) for channel in range(2 * half))
    return 2 * half, None if order == tuple(range(2 * half)) else order


def _check(x: torch.Tensor, packed: torch.Tensor, scale_zero: torch.Tensor) -> None:
    got = arguments.Given({"x": x, "packed": packed, "scale_zero": scale_zero})
    if not x.is_floating_point() or packed.dtype != torch.uint8 or scale_zero.dtype != torch.bfloat16:
        raise ValueError(f"int4_linear takes floating x, uint8 packed and bf16 scale_zero; got {got}")
    if packed.dim() != 2 or scale_zero.dim() != 3 or x.dim() < 1 or x.shape[-1] != 2 * packed.shape[1]:
        raise ValueError(f"int4_linear takes x [.., K], packed [N, K/2] and scale_zero [K/G, N, 2]; got {got}")
    if scale_zero.shape[1:] != (packed.shape[0], 2) or packed.shape[0] % N_MULTIPLE:
        raise ValueError(f"int4_linear takes N a multiple of {N_MULTIPLE} and scale_zero [K/G, N, 2]; got {got}")
    if scale_zero.shape[0] * next((g for g in GROUP_SIZES if g * scale_zero.shape[0] == x.shape[-1]), 0) != x.shape[-1] or not x.shape[-1]:
        raise ValueError(f"int4_linear takes groups of {', '.join(map(str, GROUP_SIZES))}; got {got}")
    if not packed.is_contiguous() or not x.device == packed.device == scale_zero.device:
        raise ValueError(f"int4_linear takes contiguous packed and tensors of one device; got {got}, strides {packed.stride()}")


def _inputs(m: int, n: int, k: int, group_size: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(m * 7919 + n * 31 + k)
    x = torch.randn(m, k, generator=generator).to(torch.bfloat16)
    return (x, *quantise_int4(torch.randn(n, k, generator=generator), group_size))


KERNEL = Kernel(
    name="int4-linear",
    reference=int4_linear_reference,
    launch=int4_linear,
    inputs=_inputs,
    shapes=(
        (1, 256, 256, 32),
        (1, 128, 768, 128),
        (4, 768, 256, 64),
        (3, 64, 32, 32),
        (5, 192, 512, 256),
        (100, 192, 512, 256),
        (128, 128, 96, 32),
        (0, 64, 32, 32),
    ),
    # bf16 roundings of the result and, for many rows, of each weight: 2^-8 of its size at most
    tolerance=5e-3,
    bytes=lambda m, n, k, group_size: n * k // 2 + 4 * n * (k // group_size) + 2 * (m * k + m * n),
    flops=lambda m, n, k, group_size: 2 * m * n * k,
)
