"""fp8 linear: weights in float8_e4m3fn with one float32 scale per output channel, activations quantised row by row.

Letters: M rows of activations, N output channels, K input channels. The product is torch's, where the device multiplies fp8.
"""

import torch
from torch import Tensor

from advisor.kernels import arguments
from advisor.kernels.kernel import Kernel
from advisor.kernels.rows.quantise_rows import quantise_rows, quantise_rows_reference

MULTIPLE = 16
"""What `torch._scaled_mm` asks of K and N."""


def quantise_fp8(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Round `weight` [N, K] to float8_e4m3fn and float32 scales [N]."""
    return quantise_rows_reference(weight, "fp8")


def fp8_linear_reference(x: Tensor, q: Tensor, scale: Tensor) -> Tensor:
    """`x` [.., K], its rows rounded to fp8, times `q` [N, K] transposed, times `scale` [N], in the precision of `x`."""
    rows, scales = quantise_rows_reference(x.reshape(-1, x.shape[-1]), "fp8")
    rounded = rows.to(x.dtype) * scales.to(x.dtype)[:, None]
    out = torch.nn.functional.linear(rounded, q.to(x.dtype)) * scale.to(x.dtype)
    return out.view(*x.shape[:-1], q.shape[0])


def fp8_linear(x: Tensor, q: Tensor, scale: Tensor) -> Tensor:
    """The same through `torch._scaled_mm` on a GPU that has it; elsewhere on unrounded bf16 products of the rounded operands.

    Raises `ValueError` for shapes, types or devices that do not go together.
    """
    _check(x, q, scale)
    rows = x.reshape(-1, x.shape[-1])
    taken, scales = quantise_rows(rows, "fp8")
    if _multiplies_fp8(x.device) and rows.shape[0]:
        # the fast accumulation adds in fewer bits than float32; its error is below that of the operands
        out = torch._scaled_mm(taken, q.t(), scale_a=scales[:, None], scale_b=scale[None, :], out_dtype=torch.bfloat16, use_fast_accum=True)
    else:
        # every fp8 number is exact in bf16, and torch's fp8 product on a CPU is about forty times slower than that of bf16
        out = torch.nn.functional.linear(taken.to(torch.bfloat16), q.to(torch.bfloat16)) * scales[:, None] * scale
    return out.view(*x.shape[:-1], q.shape[0]).to(x.dtype)


def _multiplies_fp8(device: torch.device) -> bool:
    """Whether the device has fp8 tensor cores: compute capability 8.9 and later."""
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 9)


def _check(x: Tensor, q: Tensor, scale: Tensor) -> None:
    got = arguments.Given({"x": x, "q": q, "scale": scale})
    if not x.is_floating_point() or q.dtype != torch.float8_e4m3fn or scale.dtype != torch.float32:
        raise ValueError(f"fp8_linear takes floating x, float8_e4m3fn q and float32 scale; got {got}")
    if q.dim() != 2 or x.dim() < 1 or x.shape[-1] != q.shape[1] or scale.shape != q.shape[:1]:
        raise ValueError(f"fp8_linear takes x [.., K], q [N, K] and scale [N]; got {got}")
    if not q.shape[1] or q.shape[0] % MULTIPLE or q.shape[1] % MULTIPLE or not q.is_contiguous():
        raise ValueError(f"fp8_linear takes contiguous q with N and K multiples of {MULTIPLE}; got {got}, strides {q.stride()}")
    if not x.device == q.device == scale.device:
        raise ValueError(f"fp8_linear takes tensors of one device; got {got}")


def _inputs(m: int, n: int, k: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(m * 7919 + n * 31 + k)
    x = torch.randn(m, k, generator=generator).to(torch.bfloat16)
    return (x, *quantise_fp8(torch.randn(n, k, generator=generator)))


KERNEL = Kernel(
    name="fp8-linear",
    reference=fp8_linear_reference,
    launch=fp8_linear,
    inputs=_inputs,
    shapes=((1, 64, 256), (3, 16, 16), (17, 48, 128), (130, 96, 64), (0, 16, 32)),
    # bf16 roundings of the product and the result; on a GPU the fast accumulation too
    tolerance=1e-2,
    bytes=lambda m, n, k: n * k + 4 * n + 2 * (m * k + m * n),
    flops=lambda m, n, k: 2 * m * n * k,
)
