"""Quantising weights to int8, and packing them into the 16-bit words of the GPU kernel."""

import torch

from advisor.kernels import torch_private
from advisor.kernels.torch_private import INT8_INPUTS

CHUNK_WEIGHTS = 2**20
"""Weights converted to bf16 at a time: 2 MiB of scratch, allocated once per call, as fresh pages cost more than the conversion."""

K_BLOCK = 128
"""Input channels of a block of words, and what their number is padded to."""


def quantise_int8(weight: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Round floating `weight` [N, K] to int8 `q` [N, K], K zero-padded to a multiple of 16, and bf16 `scale` [N].

    |weight − q·scale| ≤ scale / 2.
    """
    n, k = weight.shape
    q = weight.new_zeros(n, -(-k // INT8_INPUTS) * INT8_INPUTS, dtype=torch.int8)
    scale = weight.new_empty(n, dtype=torch.bfloat16)
    rows = max(1, CHUNK_WEIGHTS // max(k, 1))
    for start in range(0, n, rows):
        part = weight[start : start + rows].float()
        # the smallest normal bf16 for rows of zeros; weights are divided by the rounded scale, so its rounding adds no error
        scale[start : start + rows] = (part.abs().amax(1) / 127).clamp_min(torch.finfo(torch.bfloat16).tiny)
        q[start : start + rows, :k] = (part / scale[start : start + rows, None].float()).round_().clamp_(-127, 127)
    return q, scale


def pack_words(q: torch.Tensor) -> torch.Tensor:
    """Pack int8 `q` [N, K] into int16 words [N, K/2], K zero-padded to a multiple of 128: channels i and 64 + i of a block share word i."""
    padded = torch.nn.functional.pad(q, (0, -q.shape[1] % K_BLOCK))
    pairs = padded.view(q.shape[0], -1, 2, K_BLOCK // 2).transpose(2, 3).contiguous()
    return pairs.view(torch.int16).view(q.shape[0], -1)


def unpack_words(words: torch.Tensor) -> torch.Tensor:
    """The int8 weights [N, K] of int16 `words` [N, K/2]: the inverse of `pack_words`."""
    pairs = words.contiguous().view(torch.int8).view(words.shape[0], -1, K_BLOCK // 2, 2)
    return pairs.transpose(2, 3).reshape(words.shape[0], -1)


def as_product_rows(x: torch.Tensor) -> torch.Tensor:
    """`x` [.., K] as contiguous [M, K] in the type that products of many rows are computed in: fp32 where the CPU only emulates bf16."""
    if x.dtype == torch.float32 and not torch_private.has_bf16_blocks():
        return x.reshape(-1, x.shape[-1]).contiguous()
    return as_rows(x)


def as_rows(x: torch.Tensor) -> torch.Tensor:
    """`x` [.., K] as contiguous bf16 [M, K]: `x` itself if it is that already."""
    if x.dtype == torch.bfloat16 and x.dim() == 2 and x.is_contiguous():
        return x
    return x.reshape(-1, x.shape[-1]).to(torch.bfloat16).contiguous()
