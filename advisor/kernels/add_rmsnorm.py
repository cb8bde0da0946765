"""Residual addition and RMS normalisation in one pass over the rows.

Letters: M rows, D elements of a row.
"""

# Triton's functions take blocks, which have no Python type.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"

import torch
import triton
import triton.language as tl
from torch import Tensor

from advisor.kernels.kernel import INTERPRETED, Kernel, Variant

WIDEST = 32768
"""Longest row that one program holds in registers."""
_TILE = 2048
"""Elements that a program handles at least, where rows are shorter: several rows then."""


def add_rmsnorm_reference(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float = 1e-6, plus_one: bool = False
) -> tuple[Tensor, Tensor]:
    """Normalise x + residual over the last dimension: (normed, x + residual), rounded where transformers rounds.

    Llama's norm rounds to the input's type before it multiplies by `weight`; Gemma's (`plus_one`) multiplies by 1 + weight in
    float32 and rounds once (transformers, `LlamaRMSNorm` and `GemmaRMSNorm`). float64 stays float64.
    """
    total = x if residual is None else x + residual
    wide = total if total.dtype == torch.float64 else total.float()
    unit = wide * torch.rsqrt(wide.pow(2).mean(-1, keepdim=True) + eps)
    if plus_one:
        return (unit * (1 + weight.to(unit.dtype))).to(total.dtype), total
    return unit.to(total.dtype) * weight.to(total.dtype), total


@triton.jit(do_not_specialize=["rows"])
def _add_rmsnorm(
    x, residual, weight, normed, total, rows, eps,
    WIDTH: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr, ADD: tl.constexpr, PLUS_ONE: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)  # [ROWS]
    column = tl.arange(0, BLOCK)
    at = row.to(tl.int64)[:, None] * WIDTH + column[None, :]  # [ROWS, BLOCK]
    held = (row < rows)[:, None] & (column < WIDTH)[None, :]
    element = x.dtype.element_ty
    values = tl.load(x + at, mask=held, other=0.0).to(tl.float32)
    if ADD:
        values += tl.load(residual + at, mask=held, other=0.0).to(tl.float32)
        rounded = values.to(element)
        tl.store(total + at, rounded, mask=held)
        values = rounded.to(tl.float32)
    unit = values * tl.rsqrt(tl.sum(values * values, 1) / WIDTH + eps)[:, None]
    scale = tl.load(weight + column, mask=column < WIDTH, other=0.0).to(tl.float32)[None, :]
    out = unit * (1.0 + scale) if PLUS_ONE else unit.to(element).to(tl.float32) * scale
    tl.store(normed + at, out.to(element), mask=held)


def add_rmsnorm(x: Tensor, residual: Tensor | None, weight: Tensor, eps: float = 1e-6, plus_one: bool = False) -> tuple[Tensor, Tensor]:
    """The same for `x` [.., D], `residual` of its shape or None and `weight` [D]: one launch on a GPU, plain torch on a CPU.

    Without a residual the second tensor is `x` itself. Raises `ValueError` for shapes, types or devices that do not go together.
    """
    _check(x, residual, weight)
    if x.device.type == "cpu":
        return add_rmsnorm_reference(x, residual, weight, eps, plus_one)
    return launch_add_rmsnorm(x, residual, weight, eps, plus_one)


def launch_add_rmsnorm(
    x: Tensor, residual: Tensor | None, weight: Tensor, eps: float = 1e-6, plus_one: bool = False
) -> tuple[Tensor, Tensor]:
    """The Triton form, for a GPU or the interpreter."""
    _check(x, residual, weight)
    x, residual = x.contiguous(), None if residual is None else residual.contiguous()
    width = x.shape[-1]
    rows = x.numel() // width
    normed = torch.empty_like(x)
    total = x if residual is None else torch.empty_like(x)
    if rows == 0:
        return normed, total
    block, per_program, warps = _shape(width)
    _add_rmsnorm[(triton.cdiv(rows, per_program),)](
        x, x if residual is None else residual, weight, normed, total, rows, eps,
        WIDTH=width, BLOCK=block, ROWS=per_program, ADD=residual is not None, PLUS_ONE=plus_one, num_warps=warps,
    )  # fmt: skip
    return normed, total


def _shape(width: int) -> tuple[int, int, int]:
    """Padded width, rows and warps of a program: 8 to 32 elements a thread up to rows of 8192."""
    block = triton.next_power_of_2(width)
    return block, max(1, _TILE // block), 4 if block <= _TILE else 8 if block <= 8192 else 16


def _check(x: Tensor, residual: Tensor | None, weight: Tensor) -> None:
    given = f"x {tuple(x.shape)} {x.dtype} {x.device}, weight {tuple(weight.shape)} {weight.dtype} {weight.device}"
    if residual is not None:
        given += f", residual {tuple(residual.shape)} {residual.dtype} {residual.device}"
        if residual.shape != x.shape or residual.dtype != x.dtype or residual.device != x.device:
            raise ValueError(f"add_rmsnorm takes a residual of x's shape, type and device; got {given}")
    if not x.is_floating_point() or weight.dtype != x.dtype or weight.device != x.device or not weight.is_contiguous():
        raise ValueError(f"add_rmsnorm takes floating x and a contiguous weight of its type and device; got {given}")
    if x.dim() < 1 or weight.shape != x.shape[-1:] or not 1 <= x.shape[-1] <= WIDEST:
        raise ValueError(f"add_rmsnorm takes x [.., D] and weight [D], D from 1 to {WIDEST}; got {given}")


def _inputs(m: int, d: int, add: bool, plus_one: bool) -> tuple[Tensor, Tensor | None, Tensor, float, bool]:
    generator = torch.Generator().manual_seed(m * 31 + d)
    x, residual = (torch.randn(m, d, generator=generator).half() for _ in range(2))
    weight = torch.randn(d, generator=generator).half()
    return x, residual if add else None, weight, 1e-5, plus_one


def _variant(width: int, *, add: bool = True, plus_one: bool = False) -> Variant:
    block, rows, warps = _shape(width)
    return Variant(
        name=f"{width}{'' if add else '-alone'}{'-gemma' if plus_one else ''}",
        function=_add_rmsnorm,
        types={**dict.fromkeys(("x", "residual", "weight", "normed", "total"), "*bf16"), "rows": "i32", "eps": "fp32"},
        constants={"WIDTH": width, "BLOCK": block, "ROWS": rows, "ADD": add, "PLUS_ONE": plus_one},
        warps=warps,
        stages=3,
        registers=128 if width <= 8192 else 64,
        shared_bytes=16 * 1024,
    )


def _both(pair: tuple[Tensor, Tensor]) -> Tensor:
    return torch.stack(pair)


KERNEL = Kernel(
    name="add-rmsnorm",
    reference=lambda *arguments: _both(add_rmsnorm_reference(*arguments)),
    launch=lambda *arguments: _both((launch_add_rmsnorm if arguments[0].is_cuda or INTERPRETED else add_rmsnorm)(*arguments)),
    inputs=_inputs,
    shapes=(
        (1, 4096, True, False),
        (7, 128, False, False),
        (33, 96, True, True),
        (2, 5120, True, False),
        (3, 1, True, False),
        (5, 1000, False, True),
        (0, 64, True, False),
    ),
    tolerance=2e-3,
    bytes=lambda m, d, add, plus_one: 2 * (m * d * (4 if add else 2) + d),
    flops=lambda m, d, add, plus_one: m * d * (5 if add else 4),
    variants=(
        _variant(128, add=False),
        _variant(4096),
        _variant(4096, add=False),
        _variant(5120),
        _variant(8192),
        _variant(16384),
        _variant(2304, plus_one=True),
        _variant(3584, plus_one=True),
    ),
)
