"""Weight-only int8 linear: one symmetric bf16 scale per output channel, bf16 activations.

Letters: M rows of activations, N output channels, K input channels. Weights are int8 [N, K] for a CPU and 16-bit words [N, K/2] for a
GPU (`int8_gpu`).
"""

import torch

from advisor.kernels import arguments, torch_private
from advisor.kernels.kernel import Kernel
from advisor.kernels.linear.int8_packing import CHUNK_WEIGHTS, as_product_rows, as_rows, quantise_int8
from advisor.kernels.torch_private import INT8_INPUTS

PACKED_ROWS = 8
"""Most rows for which the packed operator is used. It reads the weights again for every 4 rows, so from 16 rows on converting
them once to bf16 and multiplying there is faster (`benchmarks/linear_cpu.py`, table of operators)."""


def int8_linear_reference(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """`x` [.., K] times `q` [N, K] transposed, times `scale` [N], in the precision of `x`."""
    return torch.nn.functional.linear(x, q.to(x.dtype)) * scale.to(x.dtype)


def int8_linear(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """Multiply floating `x` [.., K], rounded to bf16, by int8 weights transposed, times bf16 `scale` [N]: [.., N] in the type of `x`.

    `q` is int8 [N, K], K a multiple of 16, or the int16 words [N, K/2] that `int8_gpu` takes. On a CPU, up to `PACKED_ROWS` rows go
    through torch's packed operator. Raises `ValueError` for other shapes, types or devices.
    """
    if q.dtype != torch.int16:
        _check(x, q, scale)
        return int8_product(x, q, scale)
    from advisor.kernels.linear.int8_gpu import int8_words_linear  # Triton, which only Linux has

    return int8_words_linear(x, q, scale)


def int8_product(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """`int8_linear` of int8 `q` [N, K] without its checks, which take longer than a small product."""
    if x.device.type != "cpu":
        return int8_linear_reference(x, q, scale)
    # bf16 because the operator's fp32 and fp16 forms are not vectorised (ten times slower)
    packed = x.numel() <= PACKED_ROWS * x.shape[-1]
    rows = as_rows(x) if packed else as_product_rows(x)
    out = torch_private.int8_product(q, scale)(rows) if packed else _converted(rows, q, scale)
    return out if x is rows else out.view(*x.shape[:-1], q.shape[0]).to(x.dtype)


def _converted(rows: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> torch.Tensor:
    """For many rows: convert some channels at a time to the type of `rows` (exact for int8), multiply, scale the result."""
    n, k = q.shape
    out = rows.new_empty(rows.shape[0], n)
    scratch = rows.new_empty(max(1, CHUNK_WEIGHTS // k), k)
    for start in range(0, n, scratch.shape[0]):
        part = q[start : start + scratch.shape[0]]
        out[:, start : start + len(part)] = torch.nn.functional.linear(rows, scratch[: len(part)].copy_(part))
    return out.mul_(scale)


def _check(x: torch.Tensor, q: torch.Tensor, scale: torch.Tensor) -> None:
    got = arguments.Given({"x": x, "q": q, "scale": scale})
    if not x.is_floating_point() or q.dtype != torch.int8 or scale.dtype != torch.bfloat16:
        raise ValueError(f"int8_linear takes floating x, int8 q and bf16 scale; got {got}")
    if q.dim() != 2 or x.dim() < 1 or x.shape[-1] != q.shape[1] or scale.shape != q.shape[:1]:
        raise ValueError(f"int8_linear takes x [.., K], q [N, K] and scale [N]; got {got}")
    if q.shape[1] == 0 or q.shape[1] % INT8_INPUTS or not q.is_contiguous() or not scale.is_contiguous():
        raise ValueError(f"int8_linear takes contiguous q with K a multiple of {INT8_INPUTS}; got {got}, strides {q.stride()}")
    if not x.device == q.device == scale.device:
        raise ValueError(f"int8_linear takes tensors of one device; got {got}")


def _inputs(m: int, n: int, k: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(m * 7919 + n * 31 + k)
    x = torch.randn(m, k, generator=generator).to(torch.bfloat16)
    return (x, *quantise_int8(torch.randn(n, k, generator=generator)))


KERNEL = Kernel(
    name="int8-linear",
    reference=int8_linear_reference,
    launch=int8_linear,
    inputs=_inputs,
    shapes=((1, 256, 256), (1, 128, 768), (4, 768, 256), (3, 1, 16), (5, 37, 48), (9, 100, 272), (64, 130, 96), (0, 8, 16)),
    # one bf16 rounding of the result in the packed form, two in the converted one: 2^-8 each at most
    tolerance=5e-3,
    bytes=lambda m, n, k: n * k + 2 * (n + m * k + m * n),
    flops=lambda m, n, k: 2 * m * n * k,
)
