"""Quantising weights to int4, and their two packed layouts: bytes of torch's CPU operator, 16-bit words of the GPU kernel."""

from functools import cache
from typing import Literal

import torch

from advisor.kernels import torch_private
from advisor.kernels.torch_private import INT4_CHANNELS, INT4_GROUP_SIZES

K_BLOCK = 128
"""Input channels of a block of words."""

Layout = Literal["operator", "words"]

CHUNK_WEIGHTS = 2**20
"""Weights unpacked at a time: 3 MiB of scratch, allocated once per call, as fresh pages cost more than the unpacking."""


def quantise_int4(weight: torch.Tensor, group_size: int, layout: Layout = "operator") -> tuple[torch.Tensor, torch.Tensor]:
    """Round floating `weight` [N, K] to 16 levels per group: packed nibbles, and bf16 scale and zero [K/G, N, 2].

    The nibbles are uint8 [N, K/2] in the `operator` layout, int16 [N, K/4] in `words`; N and K are padded by `padded_shape`. The levels
    span the range of their group, so the error is at most scale / 2 plus the rounding of zero to bf16. Raises `ValueError` for a group
    size that is not one of `INT4_GROUP_SIZES`.
    """
    if group_size not in INT4_GROUP_SIZES:
        raise ValueError(f"int4 takes a group size of {', '.join(map(str, INT4_GROUP_SIZES))}; got {group_size}")
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
    """N and K of the packed weights, rounded up to the multiples that `layout` requires."""
    of_n, of_k = (1, max(K_BLOCK, group_size)) if layout == "words" else (INT4_CHANNELS, group_size)
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
    return torch_private.pack_int4(nibbles.to("cpu", torch.int32)).to(nibbles.device)


def unpack_int4(packed: torch.Tensor) -> torch.Tensor:
    """The nibbles less 8, int8 [K, N], of `packed` [N, K/2]: inverse of `pack_int4`, transposed."""
    n, k = packed.shape[0], packed.shape[1] * 2
    block, order = _layout()
    # flipping the top bit of a nibble turns 0..15 into the two's complement of −8..7, which signed shifts then extend
    signed = packed.bitwise_xor(0x88).view(torch.int8).view(n // block, k, block // 2)
    channels = torch.cat([(signed << 4) >> 4, signed >> 4], dim=-1)
    if order is not None:
        channels = channels[..., torch.tensor(order, device=packed.device)]
    return channels.transpose(0, 1).reshape(k, n)


def lay_out(packed: torch.Tensor, scale_zero: torch.Tensor, layout: Layout) -> tuple[torch.Tensor, torch.Tensor]:
    """Convert packed weights to `layout`: bytes [N, K/2] from words [N, K/4] or the reverse, padded by `padded_shape`; and their scales."""
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
    """Fill floating `out` [K, N] with the weights of `packed` [N, K/2] and `scale_zero` [K/G, N, 2]; returns `out`."""
    scale, zero = (part.to(out.dtype).contiguous()[:, None] for part in scale_zero.unbind(-1))  # [K/G, 1, N]
    weight = out.copy_(unpack_int4(packed)).view(scale.shape[0], -1, packed.shape[0])
    torch.addcmul(zero, weight, scale, out=weight)
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
    step = max(1, CHUNK_WEIGHTS // (k * INT4_CHANNELS)) * INT4_CHANNELS
    return [(start, min(start + step, n)) for start in range(0, n, step)]


@cache
def _layout() -> tuple[int, tuple[int, ...] | None]:
    """The packing order of this processor: channels per block, and the index of each channel of a block in (low nibbles, high nibbles).

    `None` for the natural order. Determined by packing 7-bit element numbers, four bits at a time.
    """
    number = torch.arange(2 * INT4_CHANNELS).view(INT4_CHANNELS, 2)
    parts = [pack_int4((number >> shift) & 15).view(-1).int() for shift in (0, 4)]
    low = [int(a & 15 | (b & 15) << 4) for a, b in zip(*parts, strict=True)]
    high = [int(a >> 4 | (b >> 4) << 4) for a, b in zip(*parts, strict=True)]
    half = next(index for index, element in enumerate(low) if element % 2 == 1)
    channels = [element // 2 for element in low[:half] + high[:half]]
    if sorted(channels) != list(range(2 * half)):
        raise RuntimeError(f"torch {torch.__version__} packs int4 in an unknown order: low nibbles {low}, high nibbles {high}")
    order = tuple(channels.index(channel) for channel in range(2 * half))
    return 2 * half, None if order == tuple(range(2 * half)) else order
