"""Residual addition and RMS normalisation in one pass over the rows.

Letters: T rows, D elements of a row.
"""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

from advisor.kernels.arguments import Given
from advisor.kernels.kernel import INTERPRETED, Kernel, Variant

WIDEST = 32768
"""Longest row that one program's registers take."""
_TILE = 2048
"""Fewest elements of a program: rows shorter than this are processed several at a time."""


def add_rmsnorm_reference(x: Tensor, residual: Tensor, weight: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Normalise `x` + `residual` [.., D] over the last dimension in plain torch: (normalised [.., D], x + residual [.., D]).

    As transformers' `LlamaRMSNorm`: statistics in float32, rounded to the input's type before `weight` [D] multiplies.
    float64 stays float64.
    """
    total = x + residual
    wide = total if total.dtype == torch.float64 else total.float()
    unit = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    return unit.to(total.dtype) * weight.to(total.dtype), total


@triton.jit(do_not_specialize=["rows"])
def _add_rmsnorm(x, residual, weight, normed, total, rows, eps, WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)  # [ROWS]
    column = tl.arange(0, BLOCK)
    offsets = row.to(tl.int64)[:, None] * WIDTH + column[None, :]  # [ROWS, BLOCK]
    inside = (row < rows)[:, None] & (column < WIDTH)[None, :]
    element = x.dtype.element_ty
    values = tl.load(x + offsets, mask=inside, other=0.0).to(tl.float32)
    values += tl.load(residual + offsets, mask=inside, other=0.0).to(tl.float32)
    rounded = values.to(element)
    tl.store(total + offsets, rounded, mask=inside)
    values = rounded.to(tl.float32)
    unit = values * tl.rsqrt(tl.sum(values * values, 1) / WIDTH + eps)[:, None]
    scale = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    out = unit.to(element).to(tl.float32) * scale
    tl.store(normed + offsets, out.to(element), mask=inside)


def add_rmsnorm(x: Tensor, residual: Tensor, weight: Tensor, eps: float = 1e-6) -> tuple[Tensor, Tensor]:
    """Normalise `x` + `residual` [.., D] over the last dimension, as `add_rmsnorm_reference`: one launch on a GPU, plain torch on a CPU.

    All tensors are of one floating type; `weight` is [D]. Returns (normalised [.., D], x + residual [.., D]) in that type.
    Raises `ValueError` for shapes, types or devices that do not fit together, and for rows longer than `WIDEST`.
    """
    _check(x, residual, weight)
    if x.device.type == "cpu" and not INTERPRETED:
        return add_rmsnorm_reference(x, residual, weight, eps)
    x, residual = x.contiguous(), residual.contiguous()
    normed, total = torch.empty_like(x), torch.empty_like(x)
    width = x.shape[-1]
    rows = x.numel() // width
    if rows:
        block, per_program, warps = _launch_shape(width)
        _add_rmsnorm[(triton.cdiv(rows, per_program),)](
            x, residual, weight, normed, total, rows, eps, WIDTH=width, BLOCK=block, ROWS=per_program, num_warps=warps
        )
    return normed, total


def _launch_shape(width: int) -> tuple[int, int, int]:
    """Padded width, rows and warps of a program: 8 to 32 elements a thread up to rows of 8192."""
    block = triton.next_power_of_2(width)
    return block, max(1, _TILE // block), 4 if block <= _TILE else 8 if block <= 8192 else 16


def _check(x: Tensor, residual: Tensor, weight: Tensor) -> None:
    given = Given({"x": x, "residual": residual, "weight": weight})
    if residual.shape != x.shape or residual.dtype != x.dtype or residual.device != x.device:
        raise ValueError(f"add_rmsnorm takes a residual of x's shape, type and device; got {given}")
    if not x.is_floating_point() or weight.dtype != x.dtype or weight.device != x.device or not weight.is_contiguous():
        raise ValueError(f"add_rmsnorm takes floating x and a contiguous weight of its type and device; got {given}")
    if x.dim() < 1 or weight.shape != x.shape[-1:] or not 1 <= x.shape[-1] <= WIDEST:
        raise ValueError(f"add_rmsnorm takes x [.., D] and weight [D], D from 1 to {WIDEST}; got {given}")


def _inputs(t: int, d: int) -> tuple[Tensor, Tensor, Tensor, float]:
    generator = torch.Generator().manual_seed(t * 31 + d)
    x, residual = (torch.randn(t, d, generator=generator).half() for _ in range(2))
    return x, residual, torch.randn(d, generator=generator).half(), 1e-5


def _variant(width: int) -> Variant:
    block, rows, warps = _launch_shape(width)
    return Variant(
        name=str(width),
        function=_add_rmsnorm,
        types={**dict.fromkeys(("x", "residual", "weight", "normed", "total"), "*bf16"), "rows": "i32", "eps": "fp32"},
        constants={"WIDTH": width, "BLOCK": block, "ROWS": rows},
        warps=warps,
        stages=3,
        registers=128 if width <= 8192 else 64,
        shared_bytes=16 * 1024,
    )


KERNEL = Kernel(
    name="add-rmsnorm",
    reference=lambda *arguments: torch.stack(add_rmsnorm_reference(*arguments)),
    launch=lambda *arguments: torch.stack(add_rmsnorm(*arguments)),
    inputs=_inputs,
    shapes=((1, 4096), (33, 96), (2, 5120), (3, 1), (5, 1000), (0, 64)),
    tolerance=2e-3,
    bytes=lambda t, d: 2 * (4 * t * d + d),
    flops=lambda t, d: 5 * t * d,
    variants=(_variant(128), _variant(2304), _variant(4096), _variant(5120), _variant(8192), _variant(16384)),
)
