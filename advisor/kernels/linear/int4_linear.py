"""Weight-only int4 linear: bf16 scale and zero for each group of input channels, bf16 activations.

Letters: M rows of activations, N output channels (a multiple of 64), K input channels, G channels per group.
A weight is (nibble − 8)·scale + zero. The packed bytes are those of torch's CPU operator; their order depends on the
processor, so they are never stored in a file. On a GPU the weights are 16-bit words [N, K/4] for any N (`int4_gpu`).
"""

import torch

from advisor.kernels import arguments, torch_private
from advisor.kernels.kernel import Kernel
from advisor.kernels.linear.int4_packing import _row_chunks, dequantise_int4, quantise_int4
from advisor.kernels.linear.int8_packing import as_product_rows, as_rows
from advisor.kernels.torch_private import INT4_CHANNELS, INT4_GROUP_SIZES

PACKED_ROWS = 96
"""Most rows for which the packed operator is used. It unpacks the weights again for every 4 rows, so for more rows unpacking
them once to bf16 and multiplying there is faster (`benchmarks/linear_cpu.py`, table of operators)."""


def int4_linear_reference(x: torch.Tensor, packed: torch.Tensor, scale_zero: torch.Tensor) -> torch.Tensor:
    """`x` [.., K] times the weights of `packed` [N, K/2] and `scale_zero` [K/G, N, 2], in the precision of `x`."""
    return x @ dequantise_int4(packed, scale_zero, x.new_empty(x.shape[-1], packed.shape[0]))


def int4_linear(x: torch.Tensor, packed: torch.Tensor, scale_zero: torch.Tensor) -> torch.Tensor:
    """Multiply floating `x` [.., K], rounded to bf16, by int4 weights [N, K] transposed: [.., N] in the type of `x`.

    `packed` is uint8 [N, K/2] of `pack_int4`, N a multiple of 64, or the int16 words [N, K/4] that `int4_gpu` takes; `scale_zero` is
    bf16 [K/G, N, 2]. On a CPU, up to `PACKED_ROWS` rows go through torch's packed operator. Raises `ValueError` for other shapes, types
    or devices.
    """
    if packed.dtype != torch.int16:
        _check(x, packed, scale_zero)
        return int4_product(x, packed, scale_zero)
    from advisor.kernels.linear.int4_gpu import int4_words_linear  # Triton, which only Linux has

    return int4_words_linear(x, packed, scale_zero)


def int4_product(x: torch.Tensor, packed: torch.Tensor, scale_zero: torch.Tensor) -> torch.Tensor:
    """`int4_linear` of uint8 `packed` [N, K/2] without its checks, which take longer than a small product."""
    if x.device.type != "cpu":
        return int4_linear_reference(x, packed, scale_zero)
    # bf16 because the operator's fp32 and fp16 forms are not vectorised (twenty times slower)
    group_size = x.shape[-1] // scale_zero.shape[0]
    few = x.numel() <= PACKED_ROWS * x.shape[-1]
    rows = as_rows(x) if few else as_product_rows(x)
    # the operator reads scales and zeros as if they were contiguous: for those of a view it needs a copy
    scale_zero = scale_zero.contiguous()
    out = torch_private.int4_product(packed, group_size, scale_zero)(rows) if few else _unpacked(rows, packed, scale_zero)
    return out if x is rows else out.view(*x.shape[:-1], packed.shape[0]).to(x.dtype)


def _unpacked(rows: torch.Tensor, packed: torch.Tensor, scale_zero: torch.Tensor) -> torch.Tensor:
    """For many rows: unpack some channels at a time to the type of `rows`, multiply."""
    n, k = packed.shape[0], rows.shape[1]
    out = rows.new_empty(rows.shape[0], n)
    chunks = _row_chunks(n, k)
    scratch = rows.new_empty(chunks[0][1] * k)
    for start, stop in chunks:
        weight = scratch[: (stop - start) * k].view(k, stop - start)
        out[:, start:stop] = rows @ dequantise_int4(packed[start:stop], scale_zero[:, start:stop], weight)
    return out


def _check(x: torch.Tensor, packed: torch.Tensor, scale_zero: torch.Tensor) -> None:
    got = arguments.Given({"x": x, "packed": packed, "scale_zero": scale_zero})
    if not x.is_floating_point() or packed.dtype != torch.uint8 or scale_zero.dtype != torch.bfloat16:
        raise ValueError(f"int4_linear takes floating x, uint8 packed and bf16 scale_zero; got {got}")
    if packed.dim() != 2 or scale_zero.dim() != 3 or x.dim() < 1 or x.shape[-1] != 2 * packed.shape[1]:
        raise ValueError(f"int4_linear takes x [.., K], packed [N, K/2] and scale_zero [K/G, N, 2]; got {got}")
    if scale_zero.shape[1:] != (packed.shape[0], 2) or packed.shape[0] % INT4_CHANNELS:
        raise ValueError(f"int4_linear takes N a multiple of {INT4_CHANNELS} and scale_zero [K/G, N, 2]; got {got}")
    if not x.shape[-1] or x.shape[-1] not in (scale_zero.shape[0] * size for size in INT4_GROUP_SIZES):
        raise ValueError(f"int4_linear takes groups of {', '.join(map(str, INT4_GROUP_SIZES))}; got {got}")
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
